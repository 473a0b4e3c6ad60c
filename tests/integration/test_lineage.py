import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlp.cli.main import call
from tests.conftest import Make, Project

PIPELINE = """
stages:
  split:
    cmd: mkdir -p parts && cp raw/data.csv parts/x.csv && cp raw/data.csv parts/y.csv
    deps: [raw/data.csv, src/split.py]
    outs: [parts]
  train:
    cmd: cat parts/x.csv > model.txt
    deps: [parts/x.csv]
    params: [train.lr]
    outs: [model.txt]
  eval:
    cmd: 'echo "{\\"acc\\": 0.5}" > m.json'
    deps: [model.txt, parts]
    metrics: [m.json]
"""


def git(*arguments: str, cwd: Path) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.com")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def made(make_shared_project: Make) -> Project:
    """A project that has run once, with data of `dvc add` at its beginning."""
    project = make_shared_project(
        {
            "dvc.yaml": PIPELINE,
            "params.yaml": "train: {lr: 0.1}\n",
            "raw/data.csv": "a,b\n1,2\n",
            "src/split.py": "# nothing\n",
        },
        commit=False,
    )
    project.tool("dvc", "add", "-q", "raw/data.csv")
    project.commit("first")
    assert project.mlp("run", CI="1").code == 0
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    shutil.copytree(made.root, root)
    monkeypatch.chdir(root)
    return root


def lineage(capsys: pytest.CaptureFixture[str], path: str) -> Any:
    capsys.readouterr()
    assert call(["lineage", path, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], path: str) -> str:
    capsys.readouterr()
    assert call(["lineage", path]) == 2
    return capsys.readouterr().err


def test_an_output_is_followed_back_to_its_sources(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = lineage(capsys, "m.json")
    assert set(found["steps"]) == {"eval", "train", "split"}
    assert set(found["files"]) == {
        *("m.json", "model.txt", "parts", "parts/x.csv", "raw/data.csv", "src/split.py")
    }
    assert found["steps"]["train"]["params"] == {"train.lr": 0.1}
    assert found["files"]["parts"]["files"] == 2
    assert found["files"]["raw/data.csv"]["size"] == len("a,b\n1,2\n")
    assert {file["state"] for file in found["files"].values()} == {"same"}


def test_each_stage_names_the_run_that_did_it_and_its_commit(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = git("rev-parse", "HEAD", cwd=project)
    (run,) = (path.parent.name for path in (project / ".mlp" / "runs").glob("*/run.json"))
    steps = lineage(capsys, "m.json")["steps"].values()
    assert {(s["run"]["run_id"], s["run"]["commit"]) for s in steps} == {(run, commit)}


def test_sources_come_with_the_commit_that_last_changed_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = git("rev-parse", "HEAD", cwd=project)
    (project / "src" / "split.py").write_text("# more\n")
    git("commit", "-qam", "second", cwd=project)
    files = lineage(capsys, "parts")["files"]
    second = git("rev-parse", "HEAD", cwd=project)
    assert files["src/split.py"]["origin"]["kind"] == "git"
    assert files["src/split.py"]["origin"]["commit"] == second
    assert files["raw/data.csv"]["origin"]["kind"] == "dvc"
    assert files["raw/data.csv"]["origin"]["file"] == "raw/data.csv.dvc"
    assert files["raw/data.csv"]["origin"]["commit"] == first


def test_what_changed_since_is_said_of_the_file_and_of_the_stage(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "src" / "split.py").write_text("# more\n")
    (project / "params.yaml").write_text("train: {lr: 0.2}\n")
    (project / "model.txt").unlink()
    found = lineage(capsys, "model.txt")
    assert found["files"]["src/split.py"]["state"] == "modified"
    assert found["files"]["src/split.py"]["origin"]["changed"] is True
    assert found["files"]["model.txt"]["state"] == "deleted"
    assert found["steps"]["split"]["outdated"] == ["src/split.py"]
    assert found["steps"]["train"]["outdated"] == ["param train.lr"]
    assert found["steps"]["train"]["params"] == {"train.lr": 0.1}  # what it was made with


def test_a_file_inside_an_output_directory_is_told_from_its_neighbours(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = project / "parts" / "x.csv"
    x.unlink()  # a link into DVC's cache may not be written through
    x.write_text("other\n")
    assert lineage(capsys, "parts/y.csv")["files"]["parts/y.csv"]["state"] == "same"
    found = lineage(capsys, "parts/y.csv")
    assert found["files"]["parts/y.csv"]["made_by"] == ["split"]
    assert found["files"]["parts/y.csv"]["digest"] is not None
    assert found["downstream"] == ["eval"]
    assert lineage(capsys, "parts")["files"]["parts"]["state"] == "modified"


def test_those_that_use_a_file_are_named_the_nearest_first(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lineage(capsys, "raw/data.csv")["downstream"] == ["split", "train", "eval"]
    assert lineage(capsys, "model.txt")["downstream"] == ["eval"]


def test_a_path_is_meant_from_the_working_directory(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project / "src")
    found = lineage(capsys, "../model.txt")
    assert found["path"] == "model.txt"
    assert set(found["steps"]) == {"train", "split"}
    assert found["steps"]["train"]["run"] is not None
    assert Path.cwd() == project / "src"


def test_a_path_that_is_no_part_of_it_is_answered_with_the_nearest(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "did you mean 'model.txt'?" in refusal(capsys, "modle.txt")
    assert "did you mean 'y.csv'?" in refusal(capsys, "parts/yy.csv")
    assert "mlp lineage model.txt" in refusal(capsys, "train")
    assert "it holds src/split.py" in refusal(capsys, "src")


def test_the_dvc_file_stands_for_its_data(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lineage(capsys, "raw/data.csv.dvc")["path"] == "raw/data.csv"


def test_a_tracking_server_that_is_away_is_said_and_the_rest_is_shown(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mlp.yaml").write_text("project: p\ntracking: {uri: 'http://127.0.0.1:9'}\n")
    found = lineage(capsys, "m.json")
    assert "cannot reach MLflow" in found["runs_unknown"]
    assert set(found["steps"]) == {"eval", "train", "split"}


def test_before_the_first_run_the_pipeline_is_shown_without_digests(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("dvc.lock", "mlflow.db"):
        (project / name).unlink()
    found = lineage(capsys, "m.json")
    assert found["files"]["m.json"]["digest"] is None
    assert found["files"]["m.json"]["state"] == "new"
    assert found["runs_unknown"] == "no run was recorded here yet"
    assert not (project / "mlflow.db").exists()


def test_people_see_a_tree(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["lineage", "m.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("m.json  ")
    assert any("└─ parts  " in line for line in lines)
    assert sum("by stage split:" in line for line in lines) == 1
    assert any("by stage split, see above" in line for line in lines)
