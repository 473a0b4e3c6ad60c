"""`mlp build` without a builder: what it decides, asks and hands over. Fakes stand at the wire."""

import base64
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlp.adapters import wheel
from mlp.flows import project as projects
from mlp.flows.launch import image_building
from tests.conftest import Make, Project

SOURCE = Path(__file__).parents[2]
# A builder that writes down how it is called. Where its FAILS says so it fails, with these words.
PROGRAM = """\
#!/bin/sh
echo "$*" >> "{folder}/{name}.calls"
case " {fails} " in *" $1 "*)
    echo step one; echo "{words}" >&2; exit 125 ;;
esac
case "$1" in
    inspect|image) [ -e "{folder}/{name}.built" ]; exit ;;
    build|bud)
        for context; do :; done
        /bin/cp -r "$context" "{folder}/context"
        : > "{folder}/{name}.built" ;;
esac
echo "did $1"
"""


@dataclass
class Tools:
    """The only programs that mlp finds, and what they were asked."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, fails: str = "", words: str = "no space left") -> None:
        text = PROGRAM.format(folder=self.folder, name=name, fails=fails, words=words)
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        path.chmod(0o755)

    @property
    def path(self) -> str:
        return str(self.folder / "bin")

    def calls(self, name: str) -> list[str]:
        file = self.folder / f"{name}.calls"
        return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


@dataclass
class Registry:
    """An image registry that answers every question for a manifest with `status`."""

    address: str = ""
    status: int = 404
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path / "tools")


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            made.asked.append(self.path)
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.address = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


Launched = Callable[..., Project]


@pytest.fixture
def launched(make_project: Make, registry: Registry) -> Launched:
    """A project with a target whose image is in the registry; `more` goes into its section."""

    def make(image: str = "demo", **more: object) -> Project:
        target = {"kind": "kubernetes", "image": f"{registry.address}/{image}", **more}
        config = {"project": "demo", "targets": {"gpu": target}}
        files = {"mlp.yaml": json.dumps(config), "requirements.txt": "mlp-loop[train]\na==1\n"}
        return make_project(files, commit=False)

    return make


def test_it_builds_and_pushes_the_image_that_a_launch_uses(
    launched: Launched, registry: Registry, tools: Tools
) -> None:
    project = launched(build={"flags": ["--a"], "push_flags": ["--b"]})
    tools.add("buildah")
    done = project.mlp("build", "--json", PATH=tools.path)
    assert done.code == 0, done.err
    expected = image_building.image(projects.load(project.root), "gpu")
    assert done.document["image"] == expected
    assert registry.asked == [f"/v2/demo/manifests/{expected.rpartition(':')[2]}"]
    assert tools.calls("buildah") == ["info", "inspect", "bud", "push"]
    calls = (tools.folder / "buildah.calls").read_text().splitlines()
    assert f"--tag {expected} --a " in calls[2]
    assert calls[3] == f"push --b {expected}"
    assert "did bud\ndid push\n" in done.err


def test_the_builder_gets_the_requirements_and_this_mlp_but_no_code(
    launched: Launched, tools: Tools
) -> None:
    tools.add("docker")
    assert launched().mlp("build", PATH=tools.path).code == 0
    context = tools.folder / "context"
    files = sorted(str(p.relative_to(context)) for p in context.rglob("*") if p.is_file())
    ours = wheel.running()
    assert files == [
        "Containerfile",
        "requirements/constraints.txt",
        f"requirements/{ours.name}",
        "requirements/requirements.txt",
        f"wheel/{ours.name}",
    ]
    wanted = (context / "requirements/requirements.txt").read_text()
    assert wanted == f"mlp-loop[train] @ file:///opt/mlp/requirements/{ours.name}\na==1\n"
    assert (context / "wheel" / ours.name).read_bytes() == ours.pack()


def test_the_image_has_what_the_default_remote_needs_and_the_next_step_is_said(
    launched: Launched, tools: Tools
) -> None:
    tools.add("docker")
    project = launched()
    project.tool("dvc", "remote", "add", "--default", "storage", "s3://bucket/data")
    done = project.mlp("build", PATH=tools.path)
    assert done.code == 0, done.err
    wanted = (tools.folder / "context" / "requirements/requirements.txt").read_text()
    assert wanted.endswith("\na==1\ndvc-s3\n")
    assert done.out.endswith("next:\n  mlp doctor --target gpu\n")
    assert image_building.image(projects.load(project.root), "gpu") == done.out.splitlines()[0]


def test_nothing_is_done_when_the_registry_has_it(
    launched: Launched, registry: Registry, tools: Tools
) -> None:
    registry.status = 200
    done = launched().mlp("build", PATH=tools.path)  # where not even a builder is
    assert (done.code, "nothing to do: the registry has it" in done.out) == (0, True)


def test_what_is_built_and_not_pushed_is_only_pushed(launched: Launched, tools: Tools) -> None:
    project = launched()
    tools.add("podman", fails="push")
    first = project.mlp("build", PATH=tools.path)
    assert first.code == 5
    assert "no space left" in first.err
    tools.add("podman")
    assert project.mlp("build", PATH=tools.path).code == 0
    assert tools.calls("podman") == ["info", "image", "build", "push", "info", "image", "push"]


@pytest.mark.parametrize("status", [401, 500])
def test_a_registry_that_does_not_tell_is_asked_through_what_knows_the_password(
    launched: Launched, registry: Registry, tools: Tools, status: int
) -> None:
    registry.status = status
    project = launched(build={"push_flags": ["--creds=me:secret", "--tls-verify=false", "--x=1"]})
    tools.add("skopeo", fails="inspect", words="manifest unknown")
    tools.add("buildah")
    assert project.mlp("build", PATH=tools.path).code == 0
    (asked,) = (tools.folder / "skopeo.calls").read_text().splitlines()
    assert asked.startswith("inspect --raw --creds=me:secret --tls-verify=false docker://")
    assert "bud" in tools.calls("buildah")


def test_a_registry_that_is_not_there_does_not_keep_it_from_building(
    launched: Launched, registry: Registry, tools: Tools
) -> None:
    project = launched()
    text = project.root.joinpath("mlp.yaml").read_text()
    project.write({"mlp.yaml": text.replace(registry.address, "127.0.0.1:9")})
    tools.add("buildah")
    done = project.mlp("build", "--no-push", PATH=tools.path)
    assert done.code == 0
    assert tools.calls("buildah") == ["info", "inspect", "bud"]
    done = project.mlp("build", "--dry-run", PATH=tools.path)
    assert "push (it is built already, and not pushed)" in done.out


def test_a_client_without_its_daemon_is_passed_over(launched: Launched, tools: Tools) -> None:
    tools.add("docker", fails="info", words="Cannot connect to the Docker daemon")
    tools.add("buildah")
    project = launched()
    done = project.mlp("build", "--json", PATH=tools.path)
    assert done.document["builder"] == "buildah"
    wanted = project.mlp("build", "--builder=docker", "--force", PATH=tools.path)
    assert wanted.code == 3
    assert "Cannot connect to the Docker daemon" in wanted.err


def test_without_a_builder_it_says_of_each_why(launched: Launched, tools: Tools) -> None:
    tools.add("podman", fails="info", words="no user namespaces")
    done = launched().mlp("build", PATH=tools.path)
    assert done.code == 3
    for reason in (
        "docker: not installed",
        "podman: no user namespaces",
        "buildah: not installed",
        "fix:",
    ):
        assert reason in done.err


def test_a_build_that_fails_ends_with_the_builders_last_lines(
    launched: Launched, tools: Tools
) -> None:
    tools.add("buildah", fails="bud", words="no version of a matches a==1")
    done = launched().mlp("build", PATH=tools.path)
    assert done.code == 3
    error = done.err.partition("error:")[2]
    assert "step one\n  no version of a matches a==1" in error


def test_a_dry_run_shows_what_it_would_be_made_from_and_makes_nothing(
    launched: Launched, tools: Tools
) -> None:
    tools.add("buildah")
    project = launched()
    done = project.mlp("build", "--dry-run", "--base=other:1", PATH=tools.path)
    assert done.code == 0
    assert "build and push (the registry does not have it)" in done.out
    assert "FROM other:1" in done.out
    assert "launches on gpu use" in done.err  # --base is not in mlp.yaml
    given = ["--", "--network", "host"]
    shown = project.mlp("build", "gpu", "--dry-run", "--json", *given, PATH=tools.path)
    assert shown.document["flags"] == ["--network", "host"]
    assert shown.document["image"] == shown.document["launched"]
    assert set(tools.calls("buildah")) == {"info", "inspect"}


@pytest.mark.parametrize("image", ["demo:v1", f"demo@sha256:{'ab' * 32}"])
def test_an_image_that_is_named_in_full_is_taken_as_it_is(
    launched: Launched, registry: Registry, tools: Tools, image: str
) -> None:
    project = launched(image)
    project.root.joinpath("requirements.txt").unlink()
    done = project.mlp("build", "--force", PATH=tools.path)
    assert done.code == 0
    assert "taken as it is" in done.out
    assert image_building.image(projects.load(project.root), "gpu") == f"{registry.address}/{image}"


def test_missing_requirements_are_named_with_where_to_write_them(launched: Launched) -> None:
    project = launched(build={"requirements": "needs.txt"})
    done = project.mlp("build")
    assert done.code == 3
    assert "needs.txt" in done.err
    assert "build.requirements" in done.err


def test_a_target_that_is_not_there_is_answered_with_those_that_are(
    launched: Launched, make_project: Make
) -> None:
    project = launched()
    wrong = project.mlp("build", "gpuu")
    assert (wrong.code, "did you mean 'gpu'?" in wrong.err) == (2, True)
    local = project.mlp("build", "local")
    assert (local.code, "is this machine" in local.err) == (2, True)
    project.write({"mlp.yaml": "project: demo\n"})
    none = project.mlp("build")
    assert (none.code, "no target in mlp.yaml" in none.err) == (3, True)


def test_the_image_is_another_one_when_the_requirements_change(launched: Launched) -> None:
    project = launched()
    before = image_building.image(projects.load(project.root), "gpu")
    project.write({"requirements.txt": "mlp-loop[train]\na==2\n"})
    assert image_building.image(projects.load(project.root), "gpu") != before


def test_the_image_is_another_one_when_mlp_changes(
    launched: Launched, tools: Tools, tmp_path: Path
) -> None:
    tools.add("buildah")
    project = dataclasses.replace(launched(), installed=True)  # it heeds PYTHONPATH
    shutil.copytree(SOURCE / "src", tmp_path / "src")
    images = set()
    for text in ("A = 1\n", "A = 2\n"):
        (tmp_path / "src" / "mlp" / "extra.py").write_text(text)
        where = {"PATH": tools.path, "PYTHONPATH": str(tmp_path / "src")}
        images.add(project.mlp("build", "--dry-run", "--json", **where).document["image"])
    assert len(images) == 2


# --- the wheel ----------------------------------------------------------------------------------

SHOW = """
import sys; sys.path[:0] = sys.argv[1:]
from mlp.adapters import wheel
print(wheel.__file__, wheel.running().digest)
sys.stdout.flush(); sys.stdout.buffer.write(wheel.running().pack())
"""


def _shown(*places: Path) -> tuple[str, str, bytes]:
    command = [sys.executable, "-c", SHOW, *map(str, places)]
    out = subprocess.run(command, check=True, capture_output=True, cwd="/").stdout
    line, _, packed = out.partition(b"\n")
    file, digest = line.decode().split()
    return file, digest, packed


def test_the_same_mlp_gives_the_same_wheel_installed_or_editable(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=SOURCE, check=True, capture_output=True)
    (built,) = tmp_path.glob("*.whl")
    site, editable = tmp_path / "site", tmp_path / "editable"
    with zipfile.ZipFile(built) as archive:
        archive.extractall(site)
    (info,) = site.glob("*.dist-info")
    shutil.copytree(info, editable / info.name)
    installed, linked = _shown(site), _shown(editable, SOURCE / "src")
    assert installed[0].startswith(str(site))
    assert linked[0].startswith(str(SOURCE / "src"))
    assert installed[1:] == linked[1:]


def test_the_wheel_is_complete_and_what_its_record_says(tmp_path: Path) -> None:
    ours = wheel.running()
    path = tmp_path / ours.name
    path.write_bytes(ours.pack())
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
        archive.extractall(tmp_path / "site")
    (record,) = (data for name, data in files.items() if name.endswith("/RECORD"))
    for line in record.decode().splitlines():
        name, digest, size = line.rsplit(",", 2)
        data = files.pop(name)
        if not name.endswith("/RECORD"):
            told = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            assert (digest, size) == (f"sha256={told}", str(len(data)))
    assert files == {}
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "mlp", "--version"]
    done = subprocess.run(command, env=environ, check=True, capture_output=True, cwd=tmp_path)
    assert done.stdout.decode().strip() == f"mlp, version {ours.version}"
    names = {name.partition("/")[0] for name in ours.files}
    assert names == {"mlp", f"mlp_loop-{ours.version}.dist-info"}


def test_the_part_that_requirements_are_installed_with_has_no_code() -> None:
    ours = wheel.running()
    (name,) = ours.metadata_only.files
    assert "Requires-Dist: dvc" in ours.metadata_only.files[name].decode()
    assert ours.metadata_only.name == ours.name
