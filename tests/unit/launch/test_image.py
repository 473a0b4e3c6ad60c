"""Which image a target's is, and what it is made from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.core.errors import ConfigurationError
from mlp.core.launch import image
from mlp.core.launch.image import Reference
from mlp.core.launch.image_requirements import Requirements, flatten

WHEEL = "file:///opt/mlp/requirements/mlp_loop-1-py3-none-any.whl"
DIGEST = f"sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("flights", Reference("docker.io", "library/flights")),
        ("flights:1", Reference("docker.io", "library/flights", "1")),
        ("me/flights", Reference("docker.io", "me/flights")),
        ("ghcr.io/me/flights:v1.2", Reference("ghcr.io", "me/flights", "v1.2")),
        ("localhost:5000/flights", Reference("localhost:5000", "flights")),
        ("localhost/flights", Reference("localhost", "flights")),
        ("r.example/a/b__c@" + DIGEST, Reference("r.example", "a/b__c", None, DIGEST)),
        ("r.example:80/a:b@" + DIGEST, Reference("r.example:80", "a", "b", DIGEST)),
    ],
)
def test_an_images_name_is_read_as_docker_reads_it(text: str, parts: Reference) -> None:
    assert image.reference(text) == parts
    assert parts.fixed == (":1" in text or ":v" in text or "@" in text)


@pytest.mark.parametrize("text", ["", "a b", "r.example/Flights", "a:", "-a", "a@b", "https://a/b"])
def test_what_is_no_images_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not an image's name"):
        image.reference(text)


names = st.from_regex(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", fullmatch=True)
registries = st.from_regex(r"[a-z0-9]{1,9}\.[a-z]{2,5}(?::[0-9]{1,5})?", fullmatch=True)
tags = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(registries, st.lists(names, min_size=1, max_size=3), tags, st.sampled_from([None, DIGEST]))
def test_every_name_in_full_is_taken_apart_into_what_it_was_made_from(
    registry: str, path: list[str], tag: str | None, digest: str | None
) -> None:
    repository = "/".join(path)
    text = (
        f"{registry}/{repository}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    )
    assert image.reference(text) == Reference(registry, repository, tag, digest)


def test_the_tag_tells_apart_all_that_goes_into_the_image() -> None:
    text = image.containerfile("base:1", "mlp.whl")
    files = {"a": "1", "b": "2"}
    tags = {
        image.tag(text, files, []),
        image.tag(image.containerfile("base:2", "mlp.whl"), files, []),
        image.tag(text, {"a": "1", "b": "3"}, []),
        image.tag(text, {"a": "1", "c": "2"}, []),
        image.tag(text, files, ["--platform=linux/arm64"]),
        image.tag(text, files, ["--build-arg", "A=1"]),
        image.tag(text, files, ["--build-arg", "A=2"]),
        image.tag(text, files, ["--a-new-flag"]),
    }
    assert len(tags) == 8
    assert all(image.reference(f"r.example/a:{tag}").tag == tag for tag in tags)
    assert image.tag(text, {"b": "2", "a": "1"}, []) == image.tag(text, files, [])


def test_flags_of_the_machine_that_builds_leave_the_tag_alone() -> None:
    how = ["--tls-verify=false", "--isolation", "chroot", "-v", "/a:/a", "--volume=/b:/b", "--pull"]
    assert image.telling(how) == []
    assert image.telling([*how, "--env", "A=1", *how]) == ["--env", "A=1"]


def test_another_mlp_changes_only_what_comes_after_the_requirements() -> None:
    lines = image.containerfile("base", "mlp_loop-1-py3-none-any.whl").splitlines()
    installs = next(i for i, line in enumerate(lines) if "uv pip install" in line)
    ours = next(i for i, line in enumerate(lines) if line.startswith("COPY wheel"))
    assert installs < ours


def _flat(files: dict[str, str]) -> Requirements:
    return flatten("requirements.txt", files.__getitem__, WHEEL)


@pytest.mark.parametrize(
    ("line", "installed"),
    [
        ("mlp-loop", f"mlp-loop @ {WHEEL}"),
        ("mlp-loop[train]>=0.1,<1  # ours", f"mlp-loop[train] @ {WHEEL}"),
        ("MLP.Loop [train, serve]==0.1", f"mlp-loop[train, serve] @ {WHEEL}"),
        ("mlp_loop @ git+https://example.com/mlp", f"mlp-loop @ {WHEEL}"),
        ("mlp-loop==1; python_version<'4'", f"mlp-loop @ {WHEEL} ; python_version<'4'"),
        ("mlp-loop==1 \\\n  --hash=sha256:ab \\\n  --hash=sha256:cd", f"mlp-loop @ {WHEEL}"),
    ],
)
def test_mlp_itself_is_taken_from_here_with_the_extras_that_are_named(
    line: str, installed: str
) -> None:
    assert (
        _flat({"requirements.txt": f"a==1\n{line}\nb==2\n"}).install == f"a==1\n{installed}\nb==2\n"
    )


def test_mlp_is_installed_where_the_project_does_not_name_it() -> None:
    assert _flat({"requirements.txt": "mlp-loops==1\n"}).install == (
        f"mlp-loops==1\nmlp-loop @ {WHEEL}\n"
    )


@pytest.mark.parametrize(
    ("line", "added"),
    [
        ("mlp-loop", "dvc-s3\n"),
        ("dvc-s3>=3 ; python_version > '3'", ""),
        ("DVC_S3==3.3.0", ""),
        ("dvc[gs, s3]", ""),
        ("dvc[gs]", "dvc-s3\n"),
    ],
)
def test_what_the_remote_needs_is_added_where_the_project_does_not_name_it(
    line: str, added: str
) -> None:
    files = {"requirements.txt": f"mlp-loop\n{line}\n"}
    made = flatten("requirements.txt", files.__getitem__, WHEEL, also=["dvc-s3"]).install
    assert made.endswith(f"{line}\n".replace("mlp-loop", f"mlp-loop @ {WHEEL}") + added)
    assert made.lower().count("s3") == 1


def test_files_that_requirements_include_are_taken_in() -> None:
    files = {
        "requirements.txt": "# all\n-r more/a.txt\n--requirement=b.txt\n-c lock.txt\n--pre\n",
        "more/a.txt": "a @ https://example.com/a.whl#sha256=1\n-r ../b.txt\n-r a.txt\n",
        "b.txt": "b==1 ; python_version > '3'\r\n",
        "lock.txt": "a==1\nmlp-loop==0.0.1\n-r b.txt\n",
    }
    assert _flat(files) == Requirements(
        "a @ https://example.com/a.whl#sha256=1\nb==1 ; python_version > '3'\n"
        f"b==1 ; python_version > '3'\n--pre\nmlp-loop @ {WHEEL}\n",
        "a==1\nb==1 ; python_version > '3'\n",
    )


@pytest.mark.parametrize(
    "line",
    ["-e .", "--editable=src/x", ".", ".[dev]", "./x", "../x", "/x.whl", "x @ file:///x.whl"],
)
def test_what_is_only_on_this_disk_is_refused(line: str) -> None:
    with pytest.raises(ConfigurationError, match="this machine's disk"):
        _flat({"requirements.txt": f"a\n{line}\n"})


def test_another_kind_of_lock_is_refused_with_the_command_that_makes_the_right_one() -> None:
    with pytest.raises(ConfigurationError) as refused:
        flatten("uv.lock", {"uv.lock": ""}.__getitem__, WHEEL)
    assert "uv export" in refused.value.fix
