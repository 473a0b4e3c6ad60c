"""What may be lost while a stage trains in a cluster, and is not to matter.

Each of these ends with one run in MLflow, and a loss curve that goes on from the last checkpoint.
"""

from pathlib import Path

import pytest

from tests.cluster.conftest import PATIENCE_S, MakeRemote, await_
from tests.cluster.servers import MlflowServer
from tests.cluster.test_remote_stage import recorded
from tests.cluster.training import EPOCHS, SCRIPT, STEPS, Training, assert_one_curve, make

pytestmark = [pytest.mark.cluster, pytest.mark.fault]


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
