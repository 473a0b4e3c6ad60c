"""What becomes of mlp.yaml in the chart's values, and what of the values in manifests."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlp.adapters.helm import Helm
from mlp.core import assets
from mlp.core import config as configuration
from mlp.core.errors import ConfigurationError
from mlp.core.serving.deploy_section import WantedRelease, release_name, values
from mlp.core.serving.replicas import MARK, replicas
from mlp.core.serving.serve_section import ServeSpec
from mlp.flows.serving import deploying, readiness

SOURCE = Path(__file__).parents[3]
MLP_YAML: dict[str, Any] = {
    "project": "flights",
    "model": {"name": "flights-delay"},
    "serve": {"route_by": "user_id", "log": "s3://predictions/flights", "token_env": "MLP_TOKEN"},
    "deploy": {"state_secret": "state", "token_secret": "token"},
    "targets": {
        "prod": {
            "kind": "kubernetes",
            "namespace": "ml",
            "image": "registry.example.com/flights:1",
            "env": {"AWS_ENDPOINT_URL": "http://s3.example.com"},
            "secrets": ["s3"],
            "secret_files": {"ca.crt": "/run/ca"},
            "image_pull_secrets": ["registry"],
            "labels": {"team": "a"},
            "node_selector": {"pool": "cpu"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "resources": {"gpu": 4, "memory": "64Gi"},
        }
    },
}


def wanted(over: dict[str, Any] | None = None, uri: str = "http://mlflow.ml:5000") -> WantedRelease:
    merged = configuration.merge(MLP_YAML, over or {})
    config = configuration.parse(json.dumps(merged))
    assert config.model is not None
    target = config.targets["prod"]
    return WantedRelease(
        *(config.project, config.model.name, target.image, uri, "prod", target),
        *(config.serve, config.deploy),
    )


def test_the_spec_is_one_that_a_server_starts_from() -> None:
    found = ServeSpec.model_validate(
        values(wanted())["server"]["spec"] | {"state": None, "cache": "c", "journal": "j"}
    )
    assert (found.model, found.tracking_uri) == ("flights-delay", "http://mlflow.ml:5000")
    assert found.serve.route_by == "user_id"


def test_pods_serve_with_what_is_asked_for_serving_not_with_what_training_takes() -> None:
    resources = values(wanted())["server"]["resources"]
    assert resources["requests"] == {"cpu": "500m", "memory": "1Gi"}
    assert resources["limits"] == {"memory": "5120Mi"}, "champion and challenger both fit"


def test_the_state_database_is_named_by_its_secret_only() -> None:
    assert values(wanted())["server"]["state"] == {"secret": "state", "key": "MLP_STATE"}
    assert "postgresql" not in json.dumps(values(wanted()))


def test_without_any_secret_the_pods_could_not_know_the_ledger() -> None:
    over = {"deploy": {"state_secret": None}, "targets": {"prod": {"secrets": []}}}
    with pytest.raises(ConfigurationError, match="do not know the state database") as told:
        values(wanted(over))
    assert "kubectl --namespace ml create secret generic flights-delay-state" in told.value.fix


def test_predictions_that_would_be_lost_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="lost with each pod"):
        values(wanted({"serve": {"log": "predictions"}}))
    claimed = values(wanted({"serve": {"log": "predictions"}, "deploy": {"journal": "claim"}}))
    assert claimed["server"]["spec"]["serve"]["log"] == "/var/lib/mlp/predictions"
    assert claimed["server"]["journal"]["claim"] == "claim"
    assert values(wanted({"serve": {"log": None}}))["server"]["spec"]["serve"]["log"] is None


@pytest.mark.parametrize("uri", ["sqlite:////home/me/mlflow.db", "/home/me/mlruns"])
def test_a_tracking_server_of_this_machine_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot reach MLflow"):
        values(wanted(uri=uri))


def test_deploy_values_are_laid_over_the_rest() -> None:
    found = values(wanted({"deploy": {"values": {"server": {"preStopSeconds": 9}}}}))
    assert found["server"]["preStopSeconds"] == 9
    assert found["server"]["replicas"] == 2


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("flights-delay", "flights-delay"),
        ("Flights Delay", "flights-delay"),
        ("2nd_model", "nd-model"),
        ("m" * 90, "m" * 53),
        ("-a-", "a"),
    ],
)
def test_a_release_has_the_models_name_in_the_letters_that_names_may_have(
    model: str, name: str
) -> None:
    assert release_name(configuration.parse("project: a").deploy, model) == name


def test_a_model_that_makes_no_name_is_told_what_to_write() -> None:
    with pytest.raises(ConfigurationError, match="no name"):
        release_name(configuration.parse("project: a").deploy, "模型")


@pytest.mark.parametrize(
    "over",
    [
        {"targets": {"prod": {"env": {"URL": "http://me:password@host"}}}},
        {"targets": {"prod": {"env": {"KEY": "s3cret-of-the-environment"}}}},
        {"deploy": {"values": {"labels": {"x": "s3cret-of-the-environment"}}}},
        {"targets": {"prod": {"tracking_uri": "http://me:password@mlflow:5000"}}},
    ],
)
def test_a_secret_is_kept_out_of_the_values(over: dict[str, Any]) -> None:
    environ = {"MLFLOW_TRACKING_PASSWORD": "s3cret-of-the-environment"}
    readiness.require_no_secret(values(wanted()), environ)
    with pytest.raises(ConfigurationError, match="would put a secret"):
        readiness.require_no_secret(values(wanted(over)), environ)


def test_what_changes_is_told_value_by_value() -> None:
    before = values(wanted())
    after = values(wanted({"deploy": {"replicas": 3}, "serve": {"route_by": None}}))
    assert deploying.changes(before, after) == (
        "server.replicas: 2 -> 3",
        'server.spec.serve.route_by: "user_id" -> null',
    )
    assert deploying.changes(before, before) == ()


# --- the chart ------------------------------------------------------------------------------------


def test_the_charts_schema_is_that_of_the_servers_spec() -> None:
    written = (SOURCE / "helm" / "mlp" / "values.schema.json").read_text()
    code = "import schema, json; print(json.dumps(schema.schema(), indent=2))"
    made = subprocess.run(
        [sys.executable, "-c", code],
        cwd=SOURCE / "helm",
        capture_output=True,
        text=True,
        check=True,
    )
    assert written == made.stdout, (
        "core/serving/serve_section.py has changed: run python helm/schema.py"
    )


def test_without_helm_it_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ConfigurationError, match="helm") as told:
        Helm(None, "ml").template("a", assets.chart(), {})
    assert "install" in told.value.fix


# --- pods -----------------------------------------------------------------------------------------


def deployment(**status: Any) -> dict[str, Any]:
    template = {"metadata": {"annotations": {MARK: "new"}}, "spec": {"containers": [{}]}}
    return {
        "metadata": {"generation": 2},
        "spec": {"replicas": 2, "template": template},
        "status": {"observedGeneration": 2, **status},
    }


def pod(name: str, mark: str = "new", ready: bool = True, **status: Any) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "metadata": {"name": name, "annotations": {MARK: mark}},
        "spec": {"nodeName": "node-0"},
        "status": {"conditions": [condition], **status},
    }


def waiting(what: str, message: str = "", **last: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": what, "message": message}}
    return {"containerStatuses": [{"state": state, "lastState": {"terminated": last}}]}


def test_it_is_settled_when_all_pods_are_new_and_ready() -> None:
    ready = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}
    assert replicas(deployment(**ready), [pod("a"), pod("b")]).settled
    assert not replicas(deployment(**ready | {"replicas": 3}), []).settled
    assert not replicas(deployment(**ready | {"observedGeneration": 1}), []).settled


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (waiting("ImagePullBackOff", "no such image"), "no such image"),
        (waiting("CreateContainerConfigError", 'secret "s" not found'), 'secret "s" not found'),
        (waiting("CrashLoopBackOff", exitCode=3), "ended with 3 again and again"),
        (waiting("CrashLoopBackOff", exitCode=137, reason="OOMKilled"), "more memory"),
    ],
)
def test_a_pod_that_does_not_mend_itself_is_stuck(status: dict[str, Any], told: str) -> None:
    seen = replicas(deployment(), [pod("a"), pod("b", ready=False, **status)])
    assert seen.stuck is not None
    assert (seen.stuck.name, told in seen.stuck.reason) == ("b", True)


def test_a_pod_of_before_that_is_stuck_is_nobodys_concern() -> None:
    old = pod("a", mark="old", ready=False, **waiting("CrashLoopBackOff"))
    assert replicas(deployment(), [old]).stuck is None


def test_why_no_node_takes_a_pod_is_told() -> None:
    homeless = pod("a", ready=False)
    message = "0/2 nodes are available: 2 Insufficient cpu."
    homeless["status"]["conditions"].append(
        {"type": "PodScheduled", "status": "False", "message": message}
    )
    (seen,) = replicas(deployment(), [homeless]).pods
    assert (seen.reason, seen.stuck) == (message, False)


def test_why_the_cluster_makes_no_pods_is_told() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    assert replicas(deployment(conditions=[failure]), []).problem == "exceeded quota"
