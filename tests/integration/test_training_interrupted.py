"""SIGTERM during training, and what the ranks of the next life go on from; real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Make, single

pytestmark = pytest.mark.slow

# Trains 2 epochs of 20 steps. Of the rank and the step that are named, the first life is asked to
# end: as a pod's deletion does it.
SCRIPT = """
import os, pathlib, signal
import pytorch_lightning as pl, torch
import mlp

RANK, STEP = int(os.environ.get("ENDED_RANK", "0")), int(os.environ.get("ENDED_STEP", "7"))
WHERE = os.environ.get("ENDED_IN", "training")

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def end(self):
        told = pathlib.Path("told")
        if self.global_rank == RANK and self.global_step >= STEP and not told.exists():
            told.touch()
            os.kill(os.getpid(), int(os.environ.get("ENDED_BY", signal.SIGTERM)))

    def on_train_start(self):
        with open(f"lives{self.global_rank}", "a") as file:
            file.write(f"{self.global_step}\\n")

    def training_step(self, batch, _):
        if WHERE == "training":
            self.end()
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        self.log("step_itself", float(self.global_step))
        return loss

    def validation_step(self, batch, _):
        if WHERE == "validation":
            self.end()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)

trainer = mlp.trainer(max_epochs=2, enable_progress_bar=False, enable_model_summary=False)
data = torch.utils.data.DataLoader(torch.ones(20 * trainer.world_size, 1))
held_out = torch.utils.data.DataLoader(torch.ones(4 * trainer.world_size, 1))
trainer.fit(Model(), data, held_out)
assert trainer.global_step == 40
open("done", "w").close()
"""


def live(folder: Path, **environ: str) -> tuple[int, str]:
    """One life of a stage's process: its exit code and what it printed."""
    (folder / "train.py").write_text(SCRIPT)
    (folder / "run" / "events").mkdir(parents=True, exist_ok=True)
    stage = {"MLP_RUN_ID": "r", "MLP_RUN_DIR": f"{folder}/run", "MLP_STAGE": "train"}
    variables = os.environ | stage | {"MLP_STAGE_RUN_ID": "s"} | environ
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=folder, env=variables, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def steps(folder: Path) -> list[tuple[int, float]]:
    """The steps that were recorded, and what each says of itself, in the order of time."""
    events = [
        json.loads(line)
        for file in (folder / "run" / "events").iterdir()
        for line in file.read_text().splitlines()
    ]
    return [
        (event["step"], event["values"]["step_itself"])
        for event in sorted(events, key=lambda event: float(event["at"]))
        if "step_itself" in event.get("values", {})
    ]


EACH_ONCE = [(step, float(step)) for step in range(40)]


@pytest.mark.parametrize("step", [7, 19])
def test_sigterm_saves_the_step_and_the_next_life_goes_on_there(tmp_path: Path, step: int) -> None:
    code, printed = live(tmp_path, ENDED_STEP=str(step))
    assert code == 143, printed
    code, printed = live(tmp_path)
    assert code == 0, printed
    assert (tmp_path / "lives0").read_text().split() == ["0", str(step + 1)]
    assert steps(tmp_path) == EACH_ONCE


def test_sigterm_in_validation_loses_no_step(tmp_path: Path) -> None:
    code, printed = live(tmp_path, ENDED_IN="validation")
    assert code == 143, printed
    assert live(tmp_path)[0] == 0
    assert (tmp_path / "lives0").read_text().split() == ["0", "20"]
    assert steps(tmp_path) == EACH_ONCE


def test_checkpoints_go_where_the_variable_says(tmp_path: Path) -> None:
    place = f"file://{tmp_path}/elsewhere"
    assert live(tmp_path, MLP_CHECKPOINTS=place)[0] == 143
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["interrupted.ckpt"]
    code, printed = live(tmp_path, MLP_CHECKPOINTS=place)
    assert code == 0, printed
    assert (tmp_path / "lives0").read_text().split() == ["0", "8"]
    assert steps(tmp_path) == EACH_ONCE
    names = sorted(path.name for path in (tmp_path / "elsewhere").rglob("*.ckpt"))
    assert names == ["epoch=1-step=40.ckpt", "interrupted.ckpt", "last.ckpt"]
    assert not (tmp_path / "run" / "stages").exists()


def test_what_was_recorded_before_a_checkpoint_outlives_the_node(tmp_path: Path) -> None:
    place, killed = f"file://{tmp_path}/elsewhere", str(int(signal.SIGKILL))
    code, _ = live(tmp_path, MLP_CHECKPOINTS=place, ENDED_STEP="20", ENDED_BY=killed)
    assert code == -signal.SIGKILL
    shutil.rmtree(tmp_path / "run")
    code, printed = live(tmp_path, MLP_CHECKPOINTS=place)
    assert code == 0, printed
    assert (tmp_path / "lives0").read_text().split() == ["0", "20"]
    assert steps(tmp_path) == EACH_ONCE


@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_one_rank_saves_and_ends_all(make_project: Make, rank: int) -> None:
    project = make_project(
        {
            "dvc.yaml": single("train", "python train.py", outs=["done"]),
            "mlp.yaml": "project: demo\nlaunch:\n"
            "  train: {processes_per_node: 2, strategy: ddp, max_restarts: 1}\n",
            "train.py": SCRIPT,
        }
    )
    done = project.mlp("train", ENDED_RANK=str(rank))
    assert done.code == 0, done.err
    lives = [(project.root / f"lives{n}").read_text().split() for n in (0, 1)]
    assert lives[0] == lives[1]
    assert len(lives[0]) == 2
    assert 8 <= int(lives[0][1]) < 40
    recorded = project.recorded()
    history = recorded.history(recorded.stage("train"), "step_itself")
    assert history == EACH_ONCE


# --- what the ranks go on from ------------------------------------------------------------------

RANKS = """
import json, os, sys
import fsspec, pytorch_lightning as pl, torch
from mlp.adapters import trainer as door
from mlp.adapters.trainer import resuming
from mlp.core.errors import ConfigurationError
from mlp.core.launch.launch import Launch

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, _):
        return self.layer(batch).square().mean()

    def on_train_start(self):
        open(f"start{os.environ['RANK']}", "w").write(str(self.global_step))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)

def fit(strategy, processes, place, epochs):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    launch = Launch(strategy=strategy, processes_per_node=processes)
    placement = door.Placement(launch, place, "run", "train")
    made = door.trainer(placement, None, None, max_epochs=epochs, logger=False, **quiet)
    made.fit(Model(), torch.utils.data.DataLoader(torch.ones(4, 1)))
    resuming.fits.clear()

rank = int(os.environ["RANK"])
"""


def gang(folder: Path, script: str) -> None:
    (folder / "ranks.py").write_text(RANKS + script)
    command = [sys.executable, "-m", "mlp.adapters.gang", "--standalone", "--nnodes=1"]
    subprocess.run([*command, "--nproc-per-node=2", "ranks.py"], cwd=folder, timeout=300)


def test_all_ranks_go_on_from_the_checkpoint_that_rank_0_found(tmp_path: Path) -> None:
    # Each rank finds a checkpoint of its own: rank 0's after 1 epoch, rank 1's after 3.
    gang(
        tmp_path,
        """
fit("single", 1, f"{os.getcwd()}/seen-by-{rank}", 1 + 2 * rank)
fit("ddp", 2, f"{os.getcwd()}/seen-by-{rank}", 5)
""",
    )
    assert [(tmp_path / f"start{rank}").read_text() for rank in (0, 1)] == ["4", "4"]


def test_a_checkpoint_that_only_rank_0_sees_is_refused_by_all_with_the_fix(tmp_path: Path) -> None:
    # memory:// is storage that each process has for itself.
    gang(
        tmp_path,
        """
if rank == 0:
    fit("single", 1, "memory://checkpoints", 1)
try:
    fit("ddp", 2, "memory://checkpoints", 2)
except ConfigurationError as e:
    open(f"refused{rank}", "w").write(f"{e.message} {e.fix}")
""",
    )
    for rank in (0, 1):
        text = (tmp_path / f"refused{rank}").read_text()
        assert "not on storage that all nodes see" in text
        assert "targets.NAME.checkpoints" in text
