"""A stage that runs in a cluster is a DVC stage as any other."""

import json

import pytest
import yaml

from tests.cluster.conftest import MakeRemote
from tests.conftest import Project, Recorded
from tests.contract.target import TargetContract

pytestmark = pytest.mark.cluster


def recorded(project: Project) -> Recorded:
    """What is in MLflow of this project."""
    config = yaml.safe_load((project.root / "mlp.yaml").read_text())
    project.deliver()
    client = project.client(config["tracking"]["uri"])
    name = config["tracking"].get("experiment", config["project"])
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return Recorded(client, list(runs))


class TestKubernetesTarget(TargetContract):
    """The contract of targets, kept by a cluster."""

    name = "gpu"

    @pytest.fixture
    def launched(self, make_remote: MakeRemote) -> MakeRemote:
        return make_remote

    def recorded(self, project: Project) -> Recorded:
        return recorded(project)

    def check_place(self, before: dict[str, str], tags: dict[str, str]) -> None:
        assert tags["mlp.job"] in tags["mlp.pod"]
        assert tags["mlp.node"]
        assert "mlp.pod" not in before


def test_a_dry_run_makes_nothing_and_the_cluster_would_take_it(make_remote: MakeRemote) -> None:
    project = make_remote()
    assert project.mlp("run", "prep").code == 0
    done = project.mlp("train", "--target", "gpu", "--nodes", "2", "--dry-run")
    assert done.code == 0, done.err
    taken = project.namespace.kubectl("apply", "--dry-run=server", "--filename=-", stdin=done.out)
    assert taken.count("created (server dry run)") == 2, "a Job and its Service"
    assert project.namespace.jobs() == []
    assert "train on gpu: 2 nodes" in done.out


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
