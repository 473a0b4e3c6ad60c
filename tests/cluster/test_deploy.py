"""The model server on a cluster: installed, upgraded, asked without a break, removed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlp.core import assets
from tests.cluster import servers
from tests.cluster.conftest import KEPT, Namespace, await_
from tests.cluster.deployed import Deployed, as_deployer
from tests.cluster.images import build_section
from tests.cluster.load import Load
from tests.conftest import Project, isolated

pytestmark = pytest.mark.cluster

# Its own: the tests share one MLflow server.
MODEL = "numbers"
PASSWORD = "correct-horse-battery"


# Versions 1, 2, … of a model, each of which answers its number, with the digest of its files.
REGISTER = """
import sys
import mlflow
import pandas as pd
from sklearn.dummy import DummyRegressor
from mlp.adapters.base import folder_digests
from mlp.core.models.model_version import VersionTag
from pathlib import Path

uri, model, count, folder = sys.argv[1:]
mlflow.set_tracking_uri(uri)
table = pd.DataFrame({"x": [1.0, 2.0]})
for number in range(1, int(count) + 1):
    regressor = DummyRegressor(strategy="constant", constant=float(number)).fit(table, [0.0, 1.0])
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            regressor, name="model", input_example=table[:1], pip_requirements=["scikit-learn"]
        )
    place = mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=f"{folder}/{number}")
    made = mlflow.register_model(logged.model_uri, model)
    digest = folder_digests.of(Path(place))
    mlflow.MlflowClient().set_model_version_tag(model, made.version, VersionTag.DIGEST, digest)
"""


@pytest.fixture(scope="module")
def deployed(
    namespace: Namespace,
    environment_image: str,
    mlflow_server: servers.MlflowServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployed]:
    """Version 2 of a model is champion, after version 1, and deployed in two pods."""
    root = tmp_path_factory.mktemp("deploy")
    client = MlflowClient(mlflow_server.uri, registry_uri=mlflow_server.uri)
    register = [sys.executable, "-c", REGISTER, mlflow_server.uri, MODEL, "3", str(root / "files")]
    subprocess.run(register, check=True, capture_output=True, cwd=root)
    with servers.postgres(PASSWORD) as state:
        environ = isolated(root / "home") | {k: os.environ[k] for k in KEPT if k in os.environ}
        project = Project(root / "project", environ | {"MLP_STATE": state})
        project.root.mkdir()
        project.write({"mlp.yaml": json.dumps(config(namespace, environment_image, mlflow_server))})
        namespace.kubectl(
            "create", "secret", "generic", "state", f"--from-literal=MLP_STATE={state}"
        )
        project.environ["KUBECONFIG"] = str(as_deployer(namespace, root))
        made = Deployed(project, namespace, client, MODEL)
        for version in ("1", "2"):
            made.champion(version)
            made.mlp("models", "list")
        said = made.mlp("deploy", "--target", "prod", "--wait", "--json")
        assert said.document["ready"] == 2, said
        yield made
        project.mlp("deploy", "remove", "--target", "prod")


def config(namespace: Namespace, image: str, mlflow_server: servers.MlflowServer) -> dict[str, Any]:
    target = {
        "kind": "kubernetes",
        "namespace": namespace.name,
        "image": image,
        "build": build_section(),
        "env": {"OMP_NUM_THREADS": "1"},
    }
    return {
        "project": "demo",
        "tracking": {"uri": mlflow_server.uri},
        "model": {"name": MODEL, "task": "regression"},
        "serve": {
            "log": None,
            "challenger": 0.0,
            "drain": "15s",
            "challenger_memory": "1Gi",
            # Servers, cluster, MLflow and clients share two cores: slowness is another test's.
            "max_latency_ms": 5000,
        },
        "targets": {"prod": target},
        "deploy": {
            "service": "NodePort",
            "state_secret": "state",
            "autoscale": {"min": 2, "max": 2, "cpu": 80},
            "resources": {"cpu": "100m", "memory": "512Mi"},
        },
    }


def test_the_chart_passes_helms_own_checks(deployed: Deployed, tmp_path: Path) -> None:
    planned = deployed.mlp("deploy", "--target", "prod", "--dry-run", "--json").document
    values = tmp_path / "values.json"
    values.write_text(json.dumps(planned["values"]))
    lint = ["helm", "lint", "--strict", str(assets.chart()), "--values", str(values)]
    done = subprocess.run(lint, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_cluster_accepts_what_a_dry_run_shows(deployed: Deployed) -> None:
    shown = deployed.mlp("deploy", "--target", "prod", "--dry-run").out
    told = deployed.namespace.kubectl("apply", "--dry-run=server", "--filename=-", stdin=shown)
    kinds = sorted(line.partition("/")[0].partition(".")[0] for line in told.splitlines())
    assert kinds == [
        "configmap",
        "deployment",
        "horizontalpodautoscaler",
        "poddisruptionbudget",
        "service",
    ]


def test_no_secret_is_in_the_release(deployed: Deployed) -> None:
    for kind in ("configmaps", "deployments", "services"):
        assert PASSWORD not in deployed.namespace.kubectl("get", kind, "--output=json")
    values = ["helm", "get", "all", MODEL, "--namespace", deployed.namespace.name]
    assert PASSWORD not in subprocess.run(values, capture_output=True, text=True, check=True).stdout


def test_autoscaler_and_budget_watch_over_the_pods(deployed: Deployed) -> None:
    scaler = deployed.namespace.get("hpa", MODEL)
    assert scaler["spec"]["scaleTargetRef"]["name"] == MODEL
    budget = await_(
        lambda: (
            deployed.namespace.get("pdb", MODEL)["status"].get("currentHealthy") == 2
            and deployed.namespace.get("pdb", MODEL)
        ),
        "a budget that counts both pods",
    )
    assert budget["status"]["disruptionsAllowed"] == 1


def test_no_request_fails_in_a_rolling_update(deployed: Deployed) -> None:
    before = deployed.pods
    deployed.change("targets", "prod", "env", COLOUR="blue")
    with deployed.load() as asked:
        deployed.mlp("deploy", "--target", "prod", "--wait")
        await_(lambda: not before & deployed.pods, "the old pods' end")
    assert asked.failed == []
    assert set(asked.versions) == {"2"}
    print(f"rolling update: {len(asked.asked)} requests, none failed")


def test_no_request_fails_in_a_rollback_and_the_old_version_is_soon_gone(
    deployed: Deployed,
) -> None:
    with deployed.load() as asked:
        await_(lambda: asked.versions["2"] > 50, "answers before")
        started = time.monotonic()
        deployed.mlp("models", "rollback", "--reason", "a test")
        ended = time.monotonic()
        await_(lambda: settled(asked, "1"), "answers of the version before")
    assert asked.failed == []
    took = asked.last("2") - started
    command = ended - started
    print(f"rollback: the last old answer {took:.2f} s after the command began ({command:.2f} s)")


def settled(asked: Load, version: str, count: int = 200) -> bool:
    last = asked.asked[-count:]
    return len(last) == count and all(each.version == version for each in last)


def test_every_pod_keeps_to_the_share_of_a_canary_and_an_abort_ends_it(deployed: Deployed) -> None:
    deployed.client.set_registered_model_alias(MODEL, "challenger", "3")
    deployed.mlp("deploy", "--target", "prod", "--canary", "50")
    status = deployed.mlp("deploy", "status", "--target", "prod", "--json").document
    assert (status["traffic"]["challenger"], status["traffic"]["share"]) == ("3", 0.5)
    assert status["ledger"][-1]["action"] == "shared"
    with deployed.load() as asked:
        await_(lambda: asked.versions["3"] > 100, "answers of the challenger")
        counted = len(asked.asked)
        await_(lambda: len(asked.asked) > counted + 600, "600 answers")
        versions = [each.version for each in asked.asked[counted : counted + 600]]
        deployed.mlp("deploy", "abort", "--reason", "seen enough")
        await_(lambda: settled(asked, "1"), "the champion's answers only")
    assert asked.failed == []
    # 600 draws at one half: five standard deviations are 61.
    assert 239 <= versions.count("3") <= 361
    status = deployed.mlp("deploy", "status", "--target", "prod", "--json").document
    assert status["traffic"]["challenger"] is None
    assert status["ledger"][-1]["reason"] == "seen enough"


def test_mlflows_own_command_line_sees_and_asks_it(deployed: Deployed, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text(json.dumps([{"x": 1.0}, {"x": 2.0}]))
    listed = deployed.mlflow("list", "-t", "mlp")
    assert f"'name': '{MODEL}'" in listed
    assert "champion: 1" in deployed.mlflow("get", "-t", "mlp:/prod", "--name", MODEL)
    said = deployed.mlflow("predict", "-t", "mlp", "--name", MODEL, "-I", str(table))
    assert json.loads(said.splitlines()[-1])["predictions"] == [1.0, 1.0]


def test_a_pod_that_cannot_start_is_told_with_its_own_words(deployed: Deployed) -> None:
    broken = ("--config", "deploy.state_secret=not-there")
    done = deployed.project.mlp("deploy", "--target", "prod", "--wait", *broken)
    assert done.code == 5
    assert 'secret "not-there" not found' in done.err
    with deployed.load() as asked:  # the pods of before go on
        await_(lambda: len(asked.asked) > 50, "answers")
    assert asked.failed == []
    assert "not found" in deployed.mlp("deploy", "status", "--target", "prod").out


def test_nothing_is_left_when_it_is_removed(deployed: Deployed) -> None:
    deployed.mlp("deploy", "remove", "--target", "prod")
    kinds = "deployments,services,configmaps,hpa,pdb,secrets,pods"
    ours = f"--selector=app.kubernetes.io/instance={MODEL}"
    await_(lambda: not deployed.namespace.get(kinds, ours)["items"], "an empty namespace")
    again = deployed.mlp("deploy", "remove", "--target", "prod")
    assert "nothing to remove" in again.out
