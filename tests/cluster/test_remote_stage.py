"""A stage that runs in a cluster is a DVC stage as any other."""

import json
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import MakeRemote, RemoteProject
from tests.conftest import Recorded

pytestmark = pytest.mark.cluster


def recorded(project: RemoteProject) -> Recorded:
    """What is in MLflow of this project."""
    config = yaml.safe_load((project.root / "mlp.yaml").read_text())
    project.deliver()
    client = project.client(config["tracking"]["uri"])
    name = config["tracking"].get("experiment", config["project"])
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return Recorded(client, list(runs))


def test_it_leaves_what_a_local_run_leaves(make_remote: MakeRemote, tmp_path: Path) -> None:
    project = make_remote()
    done = project.mlp("train", "--target", "gpu")
    assert done.code == 0, done.err
    assert "trained" in done.err, "what the pod prints is shown"
    assert project.tool("dvc", "status", "--json").strip() == "{}"
    there = (project.root / "dvc.lock").read_text()
    outputs = {name: (project.root / name).read_bytes() for name in ("model.txt", "metrics.json")}
    for name in ("dvc.lock", "model.txt", "metrics.json", "loss.csv"):
        (project.root / name).unlink()
    project.tool("dvc", "repro", "--force")
    assert (project.root / "dvc.lock").read_text() == there, "byte for byte"
    assert {name: (project.root / name).read_bytes() for name in outputs} == outputs


def test_it_is_one_run_with_where_it_ran(make_remote: MakeRemote) -> None:
    project = make_remote()
    assert project.mlp("run", "--target", "gpu", "train", CI="true").code == 0
    found = recorded(project)
    assert len(found.pipelines) == 1
    stages = {run.data.tags["mlp.stage"]: run for run in found.children(found.pipelines[0])}
    assert set(stages) == {"prep", "train"}, "a local stage and one in the cluster"
    train = stages["train"]
    assert train.info.status == "FINISHED"
    assert [value for _, value in found.history(train, "train_loss")] == [1.0, 0.5, 1 / 3]
    assert train.data.tags["mlp.job"] in train.data.tags["mlp.pod"]
    assert train.data.tags["mlp.node"]
    assert train.data.metrics["acc"] == 0.5
    assert "mlp.pod" not in stages["prep"].data.tags
    assert "trained" in found.text(train, "logs/log.txt")


def test_the_exit_code_of_the_code_and_its_last_words_come_back(make_remote: MakeRemote) -> None:
    project = make_remote({"train.py": "import sys\nprint('so it goes')\nsys.exit(3)\n"})
    done = project.mlp("train", "--target", "gpu", CI="true")
    assert done.code == 6
    assert "exit code 3" in done.err
    assert "so it goes" in done.err
    found = recorded(project)
    assert found.stage("train").info.status == "FAILED"
    assert found.pipelines[0].info.status == "FAILED"


def test_a_dry_run_makes_nothing_and_the_cluster_would_take_it(make_remote: MakeRemote) -> None:
    project = make_remote()
    assert project.mlp("run", "prep").code == 0
    done = project.mlp("train", "--target", "gpu", "--nodes", "2", "--dry-run")
    assert done.code == 0, done.err
    taken = project.namespace.kubectl("apply", "--dry-run=server", "--filename=-", stdin=done.out)
    assert taken.count("created (server dry run)") == 2, "a Job and its Service"
    assert project.namespace.jobs() == []
    assert "train on gpu: 2 nodes" in done.out


def test_a_stage_with_several_commands_runs_them_in_one_job(make_remote: MakeRemote) -> None:
    dvc_yaml = json.dumps(
        {"stages": {"two": {"cmd": ["echo one > a", "cat a a > b"], "outs": ["b"]}}}
    )
    project = make_remote({"dvc.yaml": dvc_yaml})
    done = project.mlp("run", "--target", "gpu")
    assert done.code == 0, done.err
    assert (project.root / "b").read_text() == "one\none\n"
    assert len(project.namespace.jobs()) == 1


def test_what_changed_here_meanwhile_is_not_taken_for_what_ran(make_remote: MakeRemote) -> None:
    slow = "import time\ntime.sleep(8)\nopen('out', 'w').write('x')\n"
    dvc_yaml = json.dumps(
        {"stages": {"slow": {"cmd": "python slow.py", "deps": ["slow.py"], "outs": ["out"]}}}
    )
    project = make_remote({"dvc.yaml": dvc_yaml, "slow.py": slow})
    process = project.start("run", "--target", "gpu")
    project.job()
    project.write({"slow.py": f"{slow}# another idea\n"})
    _, err = process.communicate()
    assert process.returncode == 3, err
    assert b"slow.py changed here" in err
    project.write({"slow.py": slow})
    assert project.mlp("run", "--target", "gpu").code == 0, "the job's result is still there"
    assert len(project.namespace.jobs()) == 1
