"""A stage that trains in the cluster for long enough to be interrupted, and what is to be left."""

import json
import os
import signal
import subprocess
import time
from typing import Any

from tests.cluster.conftest import PATIENCE_S, MakeRemote, RemoteProject, await_
from tests.cluster.test_remote_stage import recorded

STEPS, EPOCHS = 8, 10
# An epoch takes about two seconds: long enough to be interrupted in.
SCRIPT = f"""
import time, torch, pytorch_lightning as pl, mlp

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, _):
        time.sleep(0.2)
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        if self.trainer.is_global_zero:
            print("step", self.trainer.global_step, flush=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

pl.seed_everything(1, verbose=False)
torch.set_num_threads(1)
trainer = mlp.trainer(max_epochs={EPOCHS}, enable_progress_bar=False, enable_model_summary=False)
data = torch.randn({STEPS} * 2 * trainer.world_size, 4)
trainer.fit(Model(), torch.utils.data.DataLoader(data, batch_size=2))
if trainer.is_global_zero:
    open("model.txt", "w").write(str(trainer.global_step))
"""
DVC_YAML = json.dumps(
    {"stages": {"train": {"cmd": "python train.py", "deps": ["train.py"], "outs": ["model.txt"]}}}
)


def make(make_remote: MakeRemote, nodes: int = 1, script: str = SCRIPT, **more: Any) -> Any:
    """The project, and `mlp train` on its way: it has shown the first steps of the second epoch."""
    project = make_remote({"dvc.yaml": DVC_YAML, "train.py": script})
    config = json.loads((project.root / "mlp.yaml").read_text())
    config["launch"] = {
        "train": {"target": "gpu", "nodes": nodes, "strategy": "ddp", "max_restarts": 3}
    }
    config["targets"]["gpu"] |= more
    project.write({"mlp.yaml": json.dumps(config)})
    project.commit("the launch")
    return project


class Training:
    """`mlp train` as a process whose output is read as it comes."""

    def __init__(self, project: RemoteProject) -> None:
        self.project = project
        self.log = project.root.parent / f"output-{time.monotonic_ns()}"
        self.process = subprocess.Popen(
            ["mlp", "train"],
            cwd=project.root,
            env=project.environ | {"CI": "true"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("wb"),
            start_new_session=True,
        )

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def await_step(self, number: int) -> None:
        await_(
            lambda: f"step {number}\n" in self.text or self.process.poll() is not None,
            f"step {number}",
        )
        assert self.process.poll() is None, self.text

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self) -> None:
        assert self.process.wait(PATIENCE_S) == 0, self.text


def assert_one_curve(project: RemoteProject) -> None:
    """All steps, none from the beginning again; one run; the outputs in place."""
    assert (project.root / "model.txt").read_text() == str(STEPS * EPOCHS)
    assert project.tool("dvc", "status", "--json").strip() == "{}"
    found = recorded(project)
    assert len(found.pipelines) == 1, "one run"
    assert found.pipelines[0].info.status == "FINISHED"
    run = found.stage("train")
    assert run.info.status == "FINISHED"
    steps = [step for step, _ in found.history(run, "loss")]
    assert set(steps) == set(range(STEPS * EPOCHS)), "every step is there"
    assert steps.count(0) == 1, "it went on instead of beginning again"
    assert len(steps) <= STEPS * (EPOCHS + 2), "from the last checkpoint"
