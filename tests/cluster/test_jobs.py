"""`mlp jobs`, and leaving a stage alone while it runs in a cluster."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import PATIENCE_S, MakeRemote, RemoteProject, await_
from tests.cluster.test_remote_stage import recorded
from tests.conftest import BIN, MLP_YAML, TRAIN_PY, Make

pytestmark = pytest.mark.cluster

# In a pod it trains for as long as the test wants.
WAITING = (
    f"{TRAIN_PY}\n"
    "import os, time\n"
    "print('node', os.environ.get('MLP_POD', 'here'), flush=True)\n"
    "while 'MLP_POD' in os.environ and not os.path.exists('/mlp/go'):\n"
    "    time.sleep(0.2)\n"
    "print('released', flush=True)\n"
)
INDEX = "batch.kubernetes.io/job-completion-index"


STARTED: list["subprocess.Popen[bytes]"] = []


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """A test that fails leaves no command behind that waits for a job."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Terminal:
    """A command whose output is read as it comes, and whose terminal can send Ctrl-C."""

    def __init__(self, project: RemoteProject, *arguments: str) -> None:
        self.file = project.root.parent / f"terminal-{time.monotonic_ns()}"
        with self.file.open("wb") as output:
            self.process = subprocess.Popen(
                [str(BIN / "mlp"), *arguments],
                cwd=project.root,
                env=project.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        STARTED.append(self.process)

    @property
    def text(self) -> str:
        return self.file.read_text(errors="replace")

    def await_text(self, sign: str) -> None:
        await_(lambda: sign in self.text or self.process.poll() is not None, sign)
        assert sign in self.text, self.text

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)


def await_started(project: RemoteProject, job: str) -> list[Any]:
    """The pods of a job, once the code of each waits to be released."""

    def started() -> list[Any] | None:
        pods = project.namespace.pods(job)
        nodes = project.namespace.get("job", job)["spec"]["completions"]
        running = [pod for pod in pods if pod["status"]["phase"] == "Running"]
        return pods if len(running) == nodes else None

    pods: list[Any] = await_(started, "the pods' start")
    return pods


def release(project: RemoteProject, job: str) -> None:
    for pod in await_started(project, job):
        name = pod["metadata"]["name"]
        project.namespace.kubectl("exec", name, "--container=stage", "--", "touch", "/mlp/go")


@contextlib.contextmanager
def prepared(make_remote: MakeRemote, **more: Any) -> Iterator[RemoteProject]:
    """The project with everything but its training done and committed."""
    project = make_remote({"train.py": WAITING}, **more)
    done = project.mlp("run", "prep")
    assert done.code == 0, done.err
    project.commit("the data")
    yield project
    project.stop_recorders()


def test_a_colleague_finishes_what_was_detached(make_remote: MakeRemote, tmp_path: Path) -> None:
    with prepared(make_remote) as project:
        done = project.mlp("train", "--target", "gpu", "--detach")
        assert done.code == 0, done.err
        job = project.job()
        for word in ("logs -f", "attach", "cancel"):
            assert f"mlp jobs {word} {job}" in done.err, "how to come back"
        assert not (project.root / "model.txt").exists()
        found = recorded(project)
        assert found.pipelines[-1].info.status == "RUNNING"
        assert found.stage("train").info.status == "RUNNING"
        run_id = found.pipelines[-1].data.tags["mlp.run_id"]

        listed = project.mlp("jobs", "list")
        assert (listed.code, job in listed.out, "train" in listed.out) == (0, True, True)
        [entry] = project.mlp("jobs", "list", "--json").document["jobs"]
        assert (entry["name"], entry["target"], entry["run_id"]) == (job, "gpu", run_id)

        await_(lambda: "trained" in project.mlp("jobs", "logs", job).out, "the log")
        following = Terminal(project, "jobs", "logs", "-f", "train")
        following.await_text("trained")

        elsewhere = project.clone(tmp_path / "elsewhere")
        elsewhere.write({"train.py": WAITING + "# another idea\n"})
        elsewhere.commit("another idea")
        refused = elsewhere.mlp("jobs", "attach", job)
        assert refused.code == 3, refused.err
        assert "train.py" in refused.err
        assert elsewhere.tool("git", "status", "--porcelain").strip() == "", "nothing changed"
        assert not (elsewhere.root / "data.csv").exists()
        assert not list((elsewhere.root / ".mlp").glob("runs/*"))

        colleague = project.clone(tmp_path / "colleague")
        attached = Terminal(colleague, "jobs", "attach", job)
        attached.await_text("trained")
        release(project, job)
        assert attached.end() == 0, attached.text
        assert following.end() == 0, following.text
        assert following.text.count("trained\n") == attached.text.count("trained\n") == 1
        assert "released" in following.text

        colleague.deliver()
        found = recorded(project)
        mine = [run for run in found.pipelines if run.data.tags["mlp.run_id"] == run_id]
        assert [run.info.status for run in mine] == ["FINISHED"], "one run, finished"
        stages = [run for run in found.children(mine[0]) if run.data.tags["mlp.stage"] == "train"]
        assert [run.info.status for run in stages] == ["FINISHED"]
        assert stages[0].data.metrics["acc"] == 0.5

        assert colleague.tool("dvc", "status", "--json").strip() == "{}"
        lock = (colleague.root / "dvc.lock").read_text()
        project.tool("dvc", "repro")
        assert (project.root / "dvc.lock").read_text() == lock, "as a local run leaves it"
        assert (colleague.root / "model.txt").read_bytes() == (
            project.root / "model.txt"
        ).read_bytes()


def test_the_same_again_joins_the_same_job_in_the_same_run(make_remote: MakeRemote) -> None:
    with prepared(make_remote) as project:
        command = ("train", "--target", "gpu", "--nodes", "2", "--all-ranks")
        assert project.mlp(*command, "--detach").code == 0
        job = project.job()
        again = Terminal(project, *command)
        again.await_text(f"[node 1] node {job}-1-")
        again.await_text(f"[node 0] node {job}-0-")
        release(project, job)
        assert again.end() == 0, again.text
        assert project.namespace.jobs() == [job]
        found = recorded(project)
        trained = [run for run in found.all if run.data.tags.get("mlp.stage") == "train"]
        assert [run.info.status for run in trained] == ["FINISHED"]
        assert len(found.pipelines) == 2, "of prep, and this one"

        outputs = (project.root / "model.txt").read_bytes()
        once_more = project.mlp("jobs", "attach", job)
        assert once_more.code == 0, once_more.err
        assert "came with run" in once_more.out
        assert (project.root / "model.txt").read_bytes() == outputs
        cancelled = project.mlp("jobs", "cancel", job)
        assert cancelled.code == 2, "it has ended"
        assert recorded(project).pipelines[-1].info.status == "FINISHED"


def test_other_code_is_another_run_and_the_job_before_is_told_of(make_remote: MakeRemote) -> None:
    with prepared(make_remote) as project:
        assert project.mlp("train", "--target", "gpu", "--detach").code == 0
        first = project.job()
        project.write({"train.py": f"{WAITING}# another idea\n"})
        again = project.mlp("train", "--target", "gpu", "--detach", "--json")
        assert again.code == 0, again.err
        [second] = set(project.namespace.jobs()) - {first}
        assert f"mlp jobs cancel {first}" in again.err
        assert [stage["job"] for stage in again.document["stages"]][-1] == second
        found = recorded(project)
        trained = [run for run in found.all if run.data.tags.get("mlp.stage") == "train"]
        assert {run.data.tags["mlp.job"] for run in trained} == {first, second}
        assert found.pipelines[-1].data.tags["mlp.dirty"] == "true"

        assert project.mlp("jobs", "cancel", "train").code == 0, "the newest"
        assert project.namespace.jobs() == [first]
        statuses = [run.info.status for run in recorded(project).pipelines]
        assert statuses[-2:] == ["RUNNING", "KILLED"]


def test_ctrl_c_leaves_the_job_alone_and_a_second_one_cancels_it(make_remote: MakeRemote) -> None:
    with prepared(make_remote) as project:
        command = ("train", "--target", "gpu", "--nodes", "2")
        first = Terminal(project, *command)
        first.await_text("trained")
        first.ctrl_c()
        assert first.end() == 130, first.text
        job = project.job()
        assert f"mlp jobs attach {job}" in first.text
        assert "Traceback" not in first.text
        await_started(project, job)
        assert recorded(project).pipelines[-1].info.status == "RUNNING"

        second = Terminal(project, *command)
        second.await_text("trained")
        second.ctrl_c()
        second.await_text("again cancels it")
        second.ctrl_c()
        assert second.end() == 130, second.text
        assert "Traceback" not in second.text
        assert f"cancelled job {job}" in second.text
        gone = "jobs,pods,services"
        await_(lambda: project.namespace.get(gone)["items"] == [], "the end of all")
        found = recorded(project)
        assert found.pipelines[-1].info.status == "KILLED"
        assert found.stage("train").info.status == "KILLED"


@pytest.mark.parametrize("sign", ["1 process", "pushing the code", "runs as job"])
def test_ctrl_c_while_it_is_submitted_leaves_no_job_unnoticed(
    make_remote: MakeRemote, sign: str
) -> None:
    with prepared(make_remote) as project:
        submitting = Terminal(project, "train", "--target", "gpu")
        submitting.await_text(sign)
        submitting.ctrl_c()
        assert submitting.end() == 130, submitting.text
        assert "Traceback" not in submitting.text
        jobs = project.namespace.jobs()
        told = [f"mlp jobs attach {job}" in submitting.text for job in jobs]
        assert told == [True] * len(jobs), submitting.text
        assert jobs or "interrupted before train was submitted" in submitting.text
        run = recorded(project).pipelines[-1]
        assert run.info.status == ("RUNNING" if jobs else "KILLED")


def test_cancel_takes_what_belongs_to_the_job_and_nothing_else(make_remote: MakeRemote) -> None:
    with prepared(make_remote) as project:
        other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "other"},
            "spec": {"clusterIP": "None", "ports": [{"port": 80}]},
        }
        foreign = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "foreign-train"},
            "spec": {
                "suspend": True,
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{"name": "it", "image": "none"}],
                    }
                },
            },
        }
        project.namespace.apply(other, service, foreign)
        detached = project.mlp("train", "--target", "gpu", "--nodes", "2", "--detach")
        assert detached.code == 0, detached.err
        [job] = [name for name in project.namespace.jobs() if name != "foreign-train"]

        near = project.mlp("jobs", "cancel", "trian")
        assert near.code == 2
        assert job in near.err
        for reference in ("foreign-train", f"{job[:-3]}xyz", ""):
            refused = project.mlp("jobs", "cancel", reference)
            assert refused.code == 2, "not one of ours"
        assert f"did you mean '{job}'?" in project.mlp("jobs", "logs", f"{job[:-3]}xyz").err

        annotation = "mlp/user=somebody@else"
        project.namespace.kubectl("annotate", "job", job, annotation, "--overwrite")
        refused = project.mlp("jobs", "cancel", "train")
        assert refused.code == 2, "somebody else's has to be named in full"
        done = project.mlp("jobs", "cancel", job)
        assert done.code == 0, done.err
        assert f"cancelled {job}" in done.err
        await_(lambda: project.namespace.pods(job) == [], "the end of the pods")
        left = project.namespace.get("jobs,services,configmaps")["items"]
        names = {(item["kind"], item["metadata"]["name"]) for item in left}
        assert names - {("ConfigMap", "kube-root-ca.crt")} == {
            ("ConfigMap", "other"),
            ("Service", "other"),
            ("Job", "foreign-train"),
        }
        project.namespace.kubectl("delete", "service,configmap", "other")
        gone = project.mlp("jobs", "attach", job)
        assert gone.code == 2, gone.err
        again = project.mlp("jobs", "list", "--json")
        assert again.document["jobs"] == []


def test_explain_says_why_a_job_waits_and_how_one_failed(make_remote: MakeRemote) -> None:
    script = "import sys\nprint('so it goes')\nsys.exit(3)\n"
    project = make_remote({"train.py": script})
    assert project.mlp("run", "prep").code == 0
    assert project.mlp("train", "--target", "gpu", "--detach").code == 0
    job = project.job()
    await_(lambda: project.namespace.get("job", job)["status"].get("failed"), "the end")
    why = project.mlp("jobs", "explain", job)
    assert why.code == 0
    for word in ("failed", "exit code 3", "so it goes"):
        assert word in why.out
    document = project.mlp("jobs", "explain", "train", "--json").document
    assert (document["job"], document["state"], document["code"]) == (job, "failed", 3)
    assert document["log"] == ["so it goes"]
    attached = project.mlp("jobs", "attach", job, CI="true")
    assert attached.code == 6, attached.err
    assert "so it goes" in attached.err
    assert recorded(project).stage("train").info.status == "FAILED"

    config = json.loads((project.root / "mlp.yaml").read_text())
    config["targets"]["gpu"]["patch"] = {
        "spec": {"template": {"spec": {"schedulingGates": [{"name": "mlp/test"}]}}}
    }
    project.write({"mlp.yaml": json.dumps(config)})
    assert project.mlp("train", "--target", "gpu", "--detach").code == 0
    [waiting] = [name for name in project.namespace.jobs() if name != job]
    await_(lambda: project.namespace.pods(waiting), "a pod")
    why = project.mlp("jobs", "explain", waiting)
    assert why.code == 0
    assert "waiting" in why.out
    assert "gate" in why.out
    listed = project.mlp("jobs", "list", "--json").document["jobs"]
    assert [(entry["name"], entry["phase"]) for entry in listed] == [
        (waiting, "waiting"),
        (job, "failed"),
    ]


def test_a_cluster_that_cannot_be_reached_is_told_of(make_project: Make, tmp_path: Path) -> None:
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "away", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "me", "user": {"token": "none"}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "me"}}],
        "current-context": "away",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    target = {"kind": "kubernetes", "image": "r.example/env:1"}
    project = make_project({"mlp.yaml": f"{MLP_YAML}targets: {json.dumps({'gpu': target})}\n"})
    done = project.mlp("jobs", "list", "--json", KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert done.code == 5
    assert "target gpu could not be asked: cannot reach the cluster" in done.err
    assert done.document["unreachable"][0][0] == "gpu"
    asked = project.mlp("jobs", "logs", "train", KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert asked.code == 5, asked.err
    assert "cannot reach the cluster at https://127.0.0.1:9" in asked.err


def test_mlflow_run_launches_there(make_remote: MakeRemote) -> None:
    mlproject = (
        "name: demo\nentry_points:\n  train:\n    parameters:\n"
        '      lr: {type: float, default: 0.1}\n    command: "mlp train --set train.lr={lr}"\n'
    )
    project = make_remote({"MLproject": mlproject})
    assert project.mlp("run", "prep").code == 0
    tracking = json.loads((project.root / "mlp.yaml").read_text())["tracking"]

    def mlflow_run(target: str) -> "subprocess.CompletedProcess[str]":
        backend = json.dumps({"target": target})
        command = ["mlflow", "run", ".", "--backend", "mlp", "--backend-config", backend]
        command += ["--experiment-name", tracking["experiment"]]
        return subprocess.run(
            [*command, "--entry-point", "train", "-P", "lr=0.02", "--env-manager", "local"],
            cwd=project.root,
            env=project.environ | {"MLFLOW_TRACKING_URI": tracking["uri"]},
            capture_output=True,
            text=True,
        )

    wrong = mlflow_run("gpuu")
    assert wrong.returncode != 0
    assert "'gpuu' is not in mlp.yaml (have: local, gpu), did you mean 'gpu'?" in wrong.stderr
    assert project.namespace.jobs() == []
    done = mlflow_run("gpu")
    assert done.returncode == 0, done.stderr
    assert project.job().startswith("demo-train-")
    assert (project.root / "model.txt").exists()
    assert "lr: 0.02" in (project.root / "params.yaml").read_text()
    found = recorded(project)
    assert found.stage("train").data.tags["mlp.job"] == project.job()
    assert found.pipelines[-1].info.status == "FINISHED"
