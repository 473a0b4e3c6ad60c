"""examples/flights on a cluster, as a new user goes about it."""

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import KEPT, Namespace, RemoteProject
from tests.cluster.images import SOURCE, build_section
from tests.cluster.servers import MlflowServer
from tests.cluster.test_remote_stage import recorded
from tests.conftest import BIN, isolated

pytestmark = pytest.mark.cluster
EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"


def test_it_trains_on_two_nodes_without_a_change_of_code(
    namespace: Namespace, bucket: str, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    environ = isolated(tmp_path / "home") | {k: os.environ[k] for k in KEPT}
    project = RemoteProject(tmp_path / "flights", environ, namespace)
    shutil.copytree(EXAMPLE, project.root)
    project.tool("git", "init", "--quiet")
    project.tool("dvc", "init", "--quiet")
    remote = f"s3://{bucket}/{uuid.uuid4().hex[:8]}"
    project.tool("dvc", "remote", "add", "--default", "storage", remote)
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    project.tool("dvc", "remote", "modify", "storage", "endpointurl", endpoint)
    keys = [f"--from-literal={k}={os.environ[k]}" for k in KEPT if k.startswith("AWS_")]
    namespace.kubectl("create", "secret", "generic", "s3-credentials", *keys)

    added = project.mlp(
        *("targets", "add", "gpu", "--yes", "--namespace", namespace.name),
        *("--image", f"{os.environ['MLP_TEST_REGISTRY']}/flights-env", "--gpus", "1"),
        *("--secret", "s3-credentials", "--tracking-uri", mlflow_server.uri),
    )
    assert added.code == 0, added.err
    # What this cluster needs beside: a base image, a registry without TLS, pinned packages.
    config = yaml.safe_load((project.root / "mlp.yaml").read_text())
    config["targets"]["gpu"]["build"] = {**build_section(), "requirements": "image.txt"}
    config["tracking"]["uri"] = mlflow_server.uri
    project.write({"mlp.yaml": yaml.safe_dump(config, sort_keys=False)})
    project.write({"image.txt": "-r requirements.txt\n-c lock.txt\ndvc-s3\n"})
    shutil.copyfile(SOURCE / "requirements" / "lock.txt", project.root / "lock.txt")
    project.commit("the example, with a target")

    # With the whole environment: builders find their store, their network and logins in it.
    built = subprocess.run(
        [BIN / "mlp", "build", "gpu"], cwd=project.root, env=os.environ, capture_output=True
    )
    assert built.returncode == 0, built.stderr.decode()
    checked = project.mlp("doctor", "--target", "gpu")
    assert checked.code == 0, checked.out

    trained = project.mlp("train", "--target", "gpu", "--nodes", "2", "--gpus", "1", CI="true")
    assert trained.code == 0, trained.err
    evaluated = project.mlp("run", CI="true")
    assert evaluated.code == 0, evaluated.err
    assert "train: unchanged" in evaluated.err
    assert project.tool("dvc", "status", "--json").strip() == "{}"
    assert json.loads((project.root / "reports" / "metrics.json").read_text())
    found = recorded(project)
    assert len(found.pipelines) == 2
    train = found.stage("train", of=0)
    assert train.data.tags["mlp.world_size"] == "2"
    assert len(found.history(train, "train_loss")) > 100
    assert train.outputs.model_outputs, "the model is in the registry's reach"
