"""examples/flights on a cluster, as a new user goes about it."""

import json
import os
import shutil
import uuid
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import KEPT, Namespace, RemoteProject
from tests.cluster.images import ImageProject, build_section, repository, write_requirements
from tests.cluster.servers import MlflowServer
from tests.cluster.test_remote_stage import recorded
from tests.conftest import isolated

pytestmark = pytest.mark.cluster
EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"


def test_it_trains_on_two_nodes_without_a_change_of_code(
    namespace: Namespace,
    bucket: str,
    environment_image: str,
    mlflow_server: MlflowServer,
    tmp_path: Path,
) -> None:
    environ = isolated(tmp_path / "home") | {k: os.environ[k] for k in KEPT}
    project = RemoteProject(tmp_path / "flights", environ, namespace=namespace)
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
        *("--image", repository(), "--gpus", "1"),
        *("--secret", "s3-credentials", "--tracking-uri", mlflow_server.uri),
    )
    assert added.code == 0, added.err
    # What this cluster needs beside: a base image, a registry without TLS, pinned packages. To
    # build and pull another image of 1.2 GB takes minutes: this one has what the example needs.
    config = yaml.safe_load((project.root / "mlp.yaml").read_text())
    config["targets"]["gpu"]["build"] = {**build_section(), "requirements": "image.txt"}
    config["tracking"]["uri"] = mlflow_server.uri
    project.write({"mlp.yaml": yaml.safe_dump(config, sort_keys=False)})
    write_requirements(project.root, "image.txt")
    project.commit("the example, with a target")

    built = ImageProject(project.root).build("gpu")
    assert built["image"] == environment_image
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
