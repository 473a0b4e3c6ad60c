"""A full disk and one that cannot be written to: a clear word, and nothing acknowledged is lost."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Make, single

pytestmark = pytest.mark.slow

SCRIPT = """
import errno, os, sys
import mlp
mlp.log({"before": 1.0}, 0)
try:
    with open("filler", "ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(b"x" * size): pass
            except OSError as e:
                assert e.errno == errno.ENOSPC
finally:
    for step in range(1000):
        mlp.log({"after": 2.0}, step)
    print("what nobody can write down")
open("out", "w").write("x")
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, mounted (which takes root, as in a container)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    subprocess.run(command, check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (2**16, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


def test_a_full_disk_is_told_at_the_start(make_project: Make, small_disk: Path) -> None:
    project = make_project(root=small_disk / "project")
    filler = fill(small_disk)
    done = project.mlp("run")
    assert done.code == 3
    assert "no space left" in done.err
    assert "free some space" in done.err
    filler.unlink()
    assert project.mlp("run").code == 0
    project.deliver()


def test_a_disk_that_fills_during_a_stage_keeps_what_was_recorded_before(
    make_project: Make, small_disk: Path
) -> None:
    project = make_project(
        {"dvc.yaml": single("train", "python train.py", outs=["out"]), "train.py": SCRIPT},
        root=small_disk / "project",
    )
    done = project.mlp("run")
    assert done.code in (3, 6)
    assert "no space left" in done.err.lower()
    (project.root / "filler").unlink()
    recorded = project.recorded()
    assert {run.info.status for run in recorded.all} <= {"FAILED", "KILLED"}
    assert recorded.history(recorded.stage("train"), "before") == [(0, 1.0)]
    project.write({"train.py": "open('out', 'w')\n"})
    assert project.mlp("run").code == 0
    assert project.recorded().pipelines[-1].info.status == "FINISHED"


@pytest.mark.parametrize("arguments", [["run"], ["run", "--dry-run"], ["run", "--set", "n=1"]])
def test_a_read_only_disk_is_told(
    make_project: Make, small_disk: Path, arguments: list[str]
) -> None:
    project = make_project(root=small_disk / "project")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = project.mlp(*arguments)
    assert done.code == 3
    assert "read-only file system" in done.err.lower()
    assert "fix:" in done.err
