"""A fresh clone: the data that the pipeline begins with are in DVC, and not in the work tree."""

import hashlib
from pathlib import Path

import pytest

from mlp.adapters import data
from mlp.adapters.data.dvc_errors import chain
from mlp.core.errors import RemoteError
from tests.conftest import Make, Project, single

RAW = b"x\n1\n2\n"
DIGEST = hashlib.md5(RAW).hexdigest()
STAGE = single("train", "cp raw.csv model.txt", deps=["raw.csv"], outs=["model.txt"])
OUT = f"outs:\n- md5: {DIGEST}\n  size: {len(RAW)}\n  hash: md5\n  path: raw.csv\n"

AWAY = "frozen: true\ndeps:\n- path: /nowhere/raw.csv\n"


def cloned(make: Make, raw_dvc: str = OUT, **more: str) -> Project:
    return make({"dvc.yaml": STAGE, "raw.csv.dvc": raw_dvc, **more})


def with_remote(project: Project, place: Path) -> Project:
    """With a DVC remote at `place` that has the data."""
    project.tool("dvc", "remote", "add", "--quiet", "--default", "storage", str(place))
    file = place / "files" / "md5" / DIGEST[:2] / DIGEST[2:]
    file.parent.mkdir(parents=True)
    file.write_bytes(RAW)
    return project


@pytest.mark.parametrize("command", ["run", "train", "run --dry-run", "status", "doctor"])
def test_data_that_was_never_pulled_is_named_with_what_gets_it(
    make_project: Make, command: str
) -> None:
    project = cloned(
        make_project, **{".dvc/config": "[core]\n    remote = s\n['remote \"s\"']\n    url = /s\n"}
    )
    done = project.call(*command.split())
    assert done.code == 3
    said = done.err if command != "doctor" else done.out
    assert "needs data that is not here: raw.csv" in said
    assert "dvc pull raw.csv" in said
    assert "mlp doctor" not in done.out, "which says no more"
    assert project.runs == []


def test_a_fresh_clone_pulls_and_runs(make_project: Make, tmp_path: Path) -> None:
    project = with_remote(cloned(make_project), tmp_path / "storage")
    plan = project.call("run", "--pull", "--dry-run", "--json")
    assert [stage["runs"] for stage in plan.document["stages"]] == [True]
    done = project.mlp("run", "--pull", "--json")
    assert done.code == 0, done.err
    assert (project.root / "model.txt").read_bytes() == RAW


def test_data_in_the_cache_only_has_to_be_checked_out(make_project: Make) -> None:
    project = cloned(make_project)
    with_remote(project, project.root / ".dvc" / "cache")
    assert "fix:   dvc checkout raw.csv\n" in project.call("run", "--dry-run").err


def test_without_a_remote_nobody_is_sent_to_one(make_project: Make) -> None:
    project = cloned(make_project)
    assert "add the DVC remote that has it" in project.call("run").err
    assert "add the DVC remote that has it" in project.mlp("run", "--pull").err


@pytest.mark.parametrize("downloaded", [True, False])
def test_an_import_whose_source_is_away_is_named_with_it(
    make_project: Make, downloaded: bool
) -> None:
    project = cloned(make_project, AWAY + (OUT if downloaded else "outs:\n- path: raw.csv\n"))
    done = project.mlp("run")
    assert done.code == (3 if downloaded else 5)
    assert "raw.csv" in done.err
    assert "/nowhere/raw.csv" in done.err
    if downloaded:
        done = project.mlp("run", "--pull")
        assert done.code == 5
        assert "cannot fetch raw.csv from /nowhere/raw.csv" in done.err


def test_an_input_that_is_simply_not_there_is_named(make_project: Make) -> None:
    project = make_project({"dvc.yaml": STAGE})
    assert "input raw.csv is missing" in project.call("status").out
    done = project.mlp("run")
    assert done.code == 6
    assert "stage 'train' needs what is not here: raw.csv" in done.err


def test_no_error_is_among_its_own_causes(make_project: Make) -> None:
    project = cloned(make_project, f"{AWAY}outs:\n- path: raw.csv\n")
    with pytest.raises(RemoteError) as failed:
        data.reproduce(project.root, (), force=False, begun=lambda _: None, ended=lambda *_: None)
    causes: list[BaseException | None] = [failed.value]
    while causes[-1] is not None:
        assert causes[-1].__cause__ not in causes
        causes.append(causes[-1].__cause__)


def test_causes_that_are_a_circle_are_told_once() -> None:
    class Circle(Exception):  # noqa: N818
        looks = 0

        @property
        def __cause__(self) -> "Circle":
            self.looks += 1
            assert self.looks < 5, "it goes round and round"
            return self

    assert chain(Circle("round")) == "round"
