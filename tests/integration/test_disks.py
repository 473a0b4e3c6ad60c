"""A full disk and one that cannot be written to: a clear word, and nothing acknowledged is lost."""

import re
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


TRAINING = """
import pathlib
import pytorch_lightning as pl, torch
import mlp

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.register_buffer("ballast", torch.zeros(2_500_000))  # a checkpoint of 10 MB

    def on_train_start(self):
        with open("lives", "a") as file:
            file.write(f"from epoch {self.current_epoch}\\n")

    def training_step(self, batch, _):
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

trainer = mlp.trainer(max_epochs=3, enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Model(), torch.utils.data.DataLoader(torch.ones(4, 1)))
pathlib.Path("out").touch()
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


def test_a_disk_too_small_for_the_checkpoints_is_named_and_those_before_are_whole(
    make_project: Make, small_disk: Path
) -> None:
    project = make_project(
        {"dvc.yaml": single("train", "python train.py", outs=["out"]), "train.py": TRAINING}
    )
    project.environ["MLP_CHECKPOINTS"] = str(small_disk)
    done = project.mlp("train")
    assert done.code == 3, "it is not the code that failed"
    assert f"no room for checkpoint epoch=1-step=8.ckpt in {small_disk}" in done.err
    assert re.search(r"[0-9] MB of 25 MB free\n", done.err)
    assert "fix:   free some space, then run it again: `df -h" in done.err
    left = [path.name for path in small_disk.rglob("*") if path.is_file()]
    assert sorted(left) == ["epoch=0-step=4.ckpt", "last.ckpt"]
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert project.mlp("train").code == 0
    assert (project.root / "lives").read_text() == "from epoch 0\nfrom epoch 1\n"
