"""Projects as they are found: without git, half-way through something, with odd names."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlp.core.runs.recorded_run import Tag
from tests.conftest import DVC_YAML, FILES, PARAMS_YAML, Make, Project, Recorded, isolated, single

pytestmark = pytest.mark.slow

ONE = {"dvc.yaml": single("s", "cp params.yaml x", deps=["params.yaml"], outs=["x"])}


def provenance(recorded: Recorded) -> dict[str, object]:
    text = recorded.text(recorded.pipelines[-1], "mlp/provenance.json")
    record: dict[str, object] = json.loads(text)["code"]
    return record


def run(project: Project) -> Recorded:
    done = project.mlp("run")
    assert done.code == 0, done.err
    return project.recorded()


def test_without_git(shared: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    project = Project(root, isolated(tmp_path / "home"))
    project.write({**FILES, **ONE})
    done = project.mlp("run")
    assert done.code == 3
    assert "dvc init --no-scm" in done.err
    project.tool("dvc", "init", "--quiet", "--no-scm")
    (root / "mlflow.db").write_bytes((shared / "mlflow.db").read_bytes())
    recorded = run(project)
    assert provenance(recorded)["commit"] is None
    assert Tag.COMMIT not in recorded.pipelines[0].data.tags


def test_before_the_first_commit_the_patch_is_the_whole_code(make_project: Make) -> None:
    project = make_project(ONE, commit=False)
    recorded = run(project)
    code = provenance(recorded)
    assert (code["commit"], code["branch"], code["dirty"]) == (None, "main", True)
    patch = recorded.text(recorded.pipelines[0], "mlp/code.patch")
    clean = project.root.parent / "clean"
    clean.mkdir()
    (clean / "p").write_text(patch)
    project.tool("git", "apply", "p", cwd=clean)
    assert (clean / "dvc.yaml").read_text() == (project.root / "dvc.yaml").read_text()


def test_with_a_detached_head(make_project: Make) -> None:
    project = make_project(ONE)
    project.tool("git", "checkout", "--quiet", "--detach")
    code = provenance(run(project))
    assert code["branch"] is None
    assert code["commit"] == project.tool("git", "rev-parse", "HEAD").strip()


def test_with_submodules_one_of_them_with_a_space_in_its_name(make_project: Make) -> None:
    project = make_project(ONE)
    other = project.root.parent / "other"
    other.mkdir()
    project.tool("git", "init", "--quiet", cwd=other)
    (other / "f").write_text("x")
    project.tool("git", "add", "f", cwd=other)
    project.tool("git", "commit", "--quiet", "-m", "x", cwd=other)
    for name in ("sub", "a sub"):
        add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), name]
        project.tool("git", *add)
    project.commit()
    (project.root / "sub" / "f").write_text("changed")
    commit = project.tool("git", "rev-parse", "HEAD", cwd=other).strip()
    assert provenance(run(project))["submodules"] == {"sub": commit, "a sub": commit}


def test_a_dirty_tree_is_recorded_so_that_it_can_be_made_again(make_project: Make) -> None:
    project = make_project(ONE)
    # The user's own taste in diffs is not to get into the patch.
    for key, value in [("diff.noprefix", "true"), ("color.ui", "always"), ("diff.external", "no")]:
        project.tool("git", "config", key, value)
    odd = ["new file", 'quo"te', "ünï", "line\nbreak", "-dash", "*star"]
    project.write({name: f"in {name}\n" for name in odd})
    project.write({"prep.py": "changed = True\n", ".env": "A=b\n"})
    (project.root / "train.py").unlink()
    (project.root / "bytes").write_bytes(bytes(range(256)))
    project.tool("git", "add", "prep.py")
    recorded = run(project)
    code = provenance(recorded)
    assert code["dirty"] is True
    assert code["left_out"] == {".env": "looks like a secret"}
    assert project.tool("git", "diff", "--cached", "--name-only") == "prep.py\n"

    clone = project.root.parent / "clone"
    project.tool("git", "clone", "--quiet", str(project.root), str(clone))
    patch = recorded.client.download_artifacts(recorded.pipelines[0].info.run_id, "mlp/code.patch")
    project.tool("git", "apply", "--index", patch, cwd=clone)
    for name in [*odd, "prep.py", "bytes"]:
        assert (clone / name).read_bytes() == (project.root / name).read_bytes(), name
    assert not (clone / "train.py").exists()
    assert not (clone / ".env").exists()


def test_a_project_in_a_subdirectory_of_its_repository(shared: Path, tmp_path: Path) -> None:
    top = tmp_path / "top"
    root = top / "deep er" / "project"
    root.mkdir(parents=True)
    project = Project(root, isolated(tmp_path / "home"))
    project.tool("git", "init", "--quiet", "--initial-branch=main", cwd=top)
    project.tool("dvc", "init", "--quiet", "--subdir")
    (root / "mlflow.db").write_bytes((shared / "mlflow.db").read_bytes())
    project.write({**FILES, **ONE})
    project.commit()
    code = provenance(run(project))
    assert code["repository"] == "../.."
    assert code["dirty"] is False


@pytest.mark.parametrize("name", ["two words", "it's", 'say "hi"', "ünï", "$HOME", "a;b"])
def test_a_stage_of_any_name_that_dvc_takes(make_project: Make, name: str) -> None:
    project = make_project({"dvc.yaml": single(name, "echo here > x", outs=["x"])})
    recorded = run(project)
    stage = recorded.stage(name)
    assert stage.info.run_name == name
    assert stage.info.status == "FINISHED"
    document = project.mlp("run", name, "--json").document
    assert document["stages"][0]["outcome"] == "cached"


def test_a_stage_with_a_newline_in_its_name(make_project: Make) -> None:
    project = make_project({"dvc.yaml": single("new\nline", "echo here > x", outs=["x"])})
    assert run(project).stage("new\nline").info.status == "FINISHED"


def test_files_of_any_name_that_dvc_takes(make_project: Make) -> None:
    names = [
        "two words.csv",
        "it's.csv",
        'say "hi".csv',
        "ünï.csv",
        "new\nline.csv",
        "$HOME.csv",
        "a%20b#?.csv",
    ]
    script = f"for name in {names!r}: open(name, 'w').write('step,v\\n0,1\\n')\n"
    stage = {
        "s": {"cmd": "python prep.py", "deps": ["prep.py"], "outs": names[:3], "plots": names[3:]}
    }
    project = make_project({"dvc.yaml": json.dumps({"stages": stage}), "prep.py": script})
    recorded = run(project)
    inputs = recorded.stage("s").inputs.dataset_inputs
    assert {i.dataset.name for i in inputs} == {*names, "prep.py"}
    plots = {a for a in recorded.artifacts(recorded.stage("s")) if a.startswith("plots/")}
    assert plots == {f"plots/{name}" for name in names[3:]}


def test_a_project_whose_own_path_is_odd(make_project: Make, tmp_path: Path) -> None:
    project = make_project(ONE, root=tmp_path / 'it\'s a "project" $HOME é' / "x y:z")
    recorded = run(project)
    assert recorded.stage("s").info.status == "FINISHED"


def test_a_project_whose_path_has_what_addresses_escape(make_project: Make, tmp_path: Path) -> None:
    files = {"mlp.yaml": "project: demo\nmodel: {name: m}\n"}
    project = make_project({**ONE, **files}, root=tmp_path / "100% a#b" / "x@y&z")
    assert run(project).stage("s").info.status == "FINISHED"
    assert project.mlp("models", "list").code == 0
    assert project.mlp("doctor").code == 0
    assert {entry.name for entry in tmp_path.iterdir()} == {"home", "100% a#b"}


@pytest.mark.parametrize("name", ["a?b", "c%20d"])
def test_a_path_that_mlflow_takes_for_another_is_refused(
    make_project: Make, tmp_path: Path, name: str
) -> None:
    project = make_project(ONE, root=tmp_path / "made" / name / "project")
    for command in (["init", name], ["init", f"{name}/deep/er"]):
        done = project.mlp(*command, cwd=tmp_path)
        assert done.code == 3 and "cannot be a project" in done.err
        assert not (tmp_path / name).exists()
    for command in (["run"], ["models", "list"], ["doctor"]):
        done = project.mlp(*command)
        assert done.code == 3 and "rename that directory" in done.out + done.err
    (project.root / "mlp.yaml").unlink()
    done = project.mlp("init", "--existing")
    assert done.code == 3 and "cannot be a project" in done.err
    assert {entry.name for entry in (tmp_path / "made").iterdir()} == {name}


def test_an_escaped_address_is_the_file_that_it_names(make_project: Make) -> None:
    files = {"mlp.yaml": "project: demo\ntracking: {uri: 'sqlite:///my%20runs/a%3Fb.db'}\n"}
    project = make_project({**ONE, **files})
    (project.root / "my runs").mkdir()  # MLflow would make the folder of the escaped name
    assert project.mlp("run").code == 0
    project.await_recorders()
    assert (project.root / "my runs" / "a?b.db").is_file()
    assert (project.root / "my runs" / "mlartifacts" / ".gitignore").is_file()
    told = project.mlp("doctor").out
    assert "its schema is that of the installed MLflow" in told, told


@pytest.mark.parametrize("damage", ["{", "<<<<<<< ours\nschema: '2.0'\n", "stages: []\n", "\x00"])
def test_a_corrupt_lock_file_is_told_with_the_fix(make_project: Make, damage: str) -> None:
    project = make_project({**ONE, "dvc.lock": damage})
    done = project.mlp("run")
    assert done.code == 3
    assert "dvc.lock" in done.err
    assert "git checkout dvc.lock" in done.err
    assert project.runs == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "dvc.yaml"),
        ("stages: [", "dvc.yaml"),
        ("stages:\n  s: {cmd: x, outz: [y]}\n", "dvc.yaml"),
        ("stages:\n  s: {cmd: 'echo ${nothing}'}\n", "nothing"),
        (
            "stages:\n  a: {cmd: x, deps: [o], outs: [p]}\n  b: {cmd: x, deps: [p], outs: [o]}\n",
            "both a dependency and an output",
        ),
        ("stages:\n  a: {cmd: x, outs: [o]}\n  b: {cmd: x, outs: [o]}\n", "o"),
        ("stages:\n  s: {cmd: x, deps: [dvc.yaml]}\n", "take it out of `deps`"),
    ],
)
def test_a_mistake_in_dvc_yaml_is_told_without_a_run(
    make_project: Make, text: str | None, told: str
) -> None:
    project = make_project({"dvc.yaml": text or DVC_YAML})
    if text is None:
        (project.root / "dvc.yaml").unlink()
    done = project.mlp("run")
    assert done.code == 3, done.err
    assert told in done.err
    assert project.runs == []


def test_params_that_are_no_yaml_are_told(make_project: Make) -> None:
    project = make_project({**ONE, "params.yaml": "a: [\n"})
    for arguments in (["run"], ["run", "--set", "a=1"]):
        done = project.mlp(*arguments)
        assert done.code == 3
        assert "params.yaml" in done.err


@pytest.mark.parametrize(
    ("stage", "file", "text", "place"),
    [
        (
            {"foreach": ["$", "b"], "do": {"cmd": "echo ${item}"}},
            "dvc.yaml",
            "",
            "stages.s.foreach",
        ),
        ({"matrix": {"x": ["$"]}, "cmd": "echo ${item.x}"}, "dvc.yaml", "", "stages.s.matrix"),
        ({"cmd": "x", "params": ["n"]}, "params.yaml", "n: 1\na: {b: [0, 2026-01-01]}", "a.b.1"),
        ({"cmd": "x", "params": ["n"]}, "params.yaml", "n: !!set {a, b}", "n"),
        (
            {"cmd": "x", "params": [{"t.toml": ["at"]}], "outs": ["x"]},
            "t.toml",
            "at = 07:32:00",
            "at",
        ),
        (
            {"cmd": "echo 1 > x", "params": [{"t.yaml": ["days"]}], "outs": ["x"]},
            "t.yaml",
            "days: {2026-01-01: 1}",
            "days",
        ),
    ],
)
def test_a_value_that_dvc_cannot_keep_is_told_with_its_file_and_key(
    make_project: Make, stage: dict[str, Any], file: str, text: str, place: str
) -> None:
    dvc_yaml = json.dumps({"stages": {"s": stage}}).replace('"$"', "2026-01-01")
    project = make_project({file: text, "dvc.yaml": dvc_yaml})
    done = project.call("run")
    assert done.code == 3
    assert f"{file}: a value under `{place}` is a " in done.err
    assert project.runs == [], "nothing has run"


def test_a_date_is_not_set_as_a_param_that_dvc_could_not_keep(make_project: Make) -> None:
    project = make_project(ONE)
    done = project.call("run", "--set", "n=2026-01-01")
    assert done.code == 2
    assert """--set 'n="2026-01-01"'""" in done.err
    assert (project.root / "params.yaml").read_text() == PARAMS_YAML


def test_a_shell_that_is_not_there_is_told(make_project: Make) -> None:
    project = make_project(ONE)
    done = project.mlp("run", SHELL="/no/such/shell")
    assert done.code == 6
    assert "/no/such/shell" in done.err
    assert "Traceback" not in done.err
    assert project.recorded().stage("s").info.status == "FAILED"


def test_without_a_project_the_way_to_one_is_told(project: Project, tmp_path: Path) -> None:
    done = project.mlp("run", cwd=tmp_path)
    assert done.code == 3
    assert "mlp init" in done.err
