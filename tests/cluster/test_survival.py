"""What may be lost while a stage trains in a cluster, and is not to matter.

Each of these ends with one run in MLflow, and a loss curve that goes on from the last checkpoint.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import PATIENCE_S, MakeRemote, RemoteProject, await_
from tests.cluster.servers import MlflowServer
from tests.cluster.test_remote_stage import recorded

pytestmark = pytest.mark.cluster

STEPS, EPOCHS = 8, 15
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


def test_kill_9_of_a_rank(make_remote: MakeRemote) -> None:
    project = make(make_remote, nodes=2)
    training = Training(project)
    training.await_step(12)
    pod = project.namespace.pods(project.job())[-1]["metadata"]["name"]
    kill = (
        "import os\n"
        "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
        "    if b'train.py' in open(f'/proc/{pid}/cmdline', 'rb').read().split(b'\\0')[-2:-1]:\n"
        "        os.kill(int(pid), 9)\n"
    )
    project.namespace.kubectl("exec", pod, "--container=stage", "--", "python", "-c", kill)
    training.finish()
    assert_one_curve(project)


@pytest.mark.parametrize("node", [0, 1])
def test_deletion_of_a_pod(make_remote: MakeRemote, node: int) -> None:
    project = make(make_remote, nodes=2)
    training = Training(project)
    training.await_step(12)
    pods = project.namespace.pods(project.job())
    index = "batch.kubernetes.io/job-completion-index"
    [pod] = [p["metadata"]["name"] for p in pods if p["metadata"]["labels"][index] == str(node)]
    project.namespace.kubectl("delete", "pod", pod, "--wait=false")
    training.finish()
    assert_one_curve(project)


def test_the_end_of_a_pod_saves_a_checkpoint(make_remote: MakeRemote) -> None:
    """In the first epoch, before there is any other."""
    project = make(make_remote, script=SCRIPT.replace("sleep(0.2)", "sleep(1)"))
    training = Training(project)
    training.await_step(4)
    pod = project.namespace.pods(project.job())[0]["metadata"]["name"]
    project.namespace.kubectl("delete", "pod", pod, "--wait=false")
    await_(lambda: len(project.namespace.pods(project.job())) > 1 or None, "another pod")
    training.await_step(7)
    training.kill()
    found = recorded(project)
    steps = [step for step, _ in found.history(found.stage("train"), "loss")]
    assert steps.count(0) == 1, steps


def cluster_switch(*arguments: str) -> None:
    """Take a part of the cluster away, or bring it back."""
    command = os.environ["MLP_TEST_CLUSTER"].split()
    subprocess.run([*command, *arguments], check=True, capture_output=True)


def test_a_node_that_is_lost(make_remote: MakeRemote) -> None:
    project = make(make_remote)
    training = Training(project)
    training.await_step(12)
    node = project.namespace.pods(project.job())[0]["spec"]["nodeName"]
    number = node.rpartition("-")[2]
    cluster_switch("stop-node", number)
    try:
        training.finish()
    finally:
        cluster_switch("start-node", number)
    assert_one_curve(project)


def test_the_api_server_away_for_a_minute(make_remote: MakeRemote) -> None:
    project = make(make_remote)
    training = Training(project)
    training.await_step(12)
    cluster_switch("stop-api")
    try:
        time.sleep(60)  # the minute itself
    finally:
        cluster_switch("start-api")
    training.finish()
    assert "does not answer; the job goes on" in training.text
    shown = [line for line in training.text.splitlines() if line.startswith("step ")]
    assert len(shown) == len(set(shown)) == STEPS * EPOCHS, "each line once"
    assert_one_curve(project)


def test_the_tracking_server_away_during_training(
    make_remote: MakeRemote, mlflow_server: MlflowServer
) -> None:
    project = make(make_remote)
    training = Training(project)
    training.await_step(12)
    mlflow_server.stop()
    try:
        training.await_step(40)
    finally:
        mlflow_server.start()
    training.finish()
    assert_one_curve(project)


@pytest.mark.parametrize(
    "sign", ["pushing the code", "runs as job", "running", "step 12\n", "outputs stored"]
)
def test_mlp_itself_killed_and_started_again(make_remote: MakeRemote, sign: str) -> None:
    project = make(make_remote, script=SCRIPT.replace("sleep(0.2)", "sleep(0.05)"))
    training = Training(project)
    await_(lambda: sign in training.text, sign)
    training.kill()
    again = Training(project)
    again.finish()
    assert len(project.namespace.jobs()) == 1, "nothing is made twice"
    assert_one_curve(project)


def test_two_people_submit_the_same_stage_at_once(make_remote: MakeRemote, tmp_path: Path) -> None:
    project = make(make_remote, script=SCRIPT.replace("sleep(0.2)", "sleep(0.05)"))
    colleague = project.clone(tmp_path / "colleague")
    both = [Training(project), Training(colleague)]
    for training in both:
        training.finish()
    assert len(project.namespace.jobs()) == 1
    for root in (project.root, colleague.root):
        assert (root / "model.txt").read_text() == str(STEPS * EPOCHS)
    colleague.deliver()
    found = recorded(project)
    trained = [run for run in found.all if run.data.tags.get("mlp.stage") == "train"]
    assert len(trained) == 2
    assert sorted(len(found.history(run, "loss")) for run in trained) == [0, STEPS * EPOCHS]
    assert sum("mlp.ran_in" in run.data.tags for run in trained) == 1


def test_code_that_fails_at_once_does_not_restart_for_ever(make_remote: MakeRemote) -> None:
    project = make(make_remote, script="print('begins', flush=True)\nraise SystemExit(4)\n")
    training = Training(project)
    assert training.process.wait(PATIENCE_S) == 6, training.text
    shown = training.text.partition("error:")[0]
    assert shown.count("begins\n") == 4, "once, and three restarts"
    assert "exit code 4" in training.text
    [job] = project.namespace.get("jobs")["items"]
    await_(
        lambda: [
            c
            for c in project.namespace.get("job", job["metadata"]["name"])["status"]["conditions"]
            if c["type"] == "Failed"
        ],
        "the job's end",
    )
