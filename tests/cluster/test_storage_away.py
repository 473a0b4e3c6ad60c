"""A DVC remote that does not answer for a while: nothing that is finished is lost."""

import pytest

from tests.cluster.conftest import MakeRemote
from tests.cluster.flaky_s3 import flaky_s3
from tests.cluster.test_remote_stage import recorded

pytestmark = [pytest.mark.cluster, pytest.mark.fault]


def test_what_is_finished_outlives_a_storage_that_fails(make_remote: MakeRemote) -> None:
    """It fails while the code is pushed, while the pod stores its outputs, and at the end."""
    with flaky_s3() as (faults, address):
        project = make_remote(storage_patience="25s")
        project.environ["AWS_ENDPOINT_URL"] = address
        project.tool("dvc", "remote", "modify", "storage", "endpointurl", address)
        project.commit("the address")
        done = project.mlp("run", "prep")
        assert done.code == 0, done.err
        faults.fail(5, "mlp/bundles/")
        faults.fail(13, "mlp/jobs/")
        faults.go_away_after("result.json")
        lost = project.mlp("train", "--target", "gpu")
        assert lost.code == 5, lost.err
        assert faults.failed > 2
        assert "trying again" in lost.err, lost.err
        job = project.job()
        assert f"job {job} is done, and its outputs could not be fetched" in lost.err
        assert f"mlp jobs attach {job}" in lost.err
        assert project.namespace.get("job", job)["status"]["succeeded"] == 1
        assert not project.namespace.get("job", job)["status"].get("failed")
        faults.come_back()
        attached = project.mlp("jobs", "attach", job)
        assert attached.code == 0, attached.err
        assert project.tool("dvc", "status", "--json").strip() == "{}"
        found = recorded(project)
        assert len({run.data.tags["mlp.run_id"] for run in found.pipelines}) == 2
        assert found.pipelines[-1].info.status == "FINISHED"
