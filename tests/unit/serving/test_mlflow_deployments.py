"""MLflow's deployments plugin: what it takes, and what it answers to the rest."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlp.core.errors import UsageError
from mlp.flows.serving import mlflow_deployments as plugin

MLP_YAML = {
    "project": "demo",
    "model": {"name": "answers"},
    "targets": {"prod": {"kind": "kubernetes", "image": "registry.example.com/a:1"}},
}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client as MLflow makes one, in a project."""
    (tmp_path / "mlp.yaml").write_text(json.dumps(MLP_YAML))
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    user = {"name": "u", "user": {}}
    view = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "c"}
    kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **view}))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.chdir(tmp_path)
    return plugin.Client("mlp")


def test_mlflow_takes_the_module_for_a_plugin() -> None:
    from mlflow.deployments.base import BaseDeploymentClient
    from mlflow.deployments.plugin_manager import DeploymentPlugins

    plugins = DeploymentPlugins()
    plugins.register("mlp-under-test", plugin.__name__)
    assert plugins["mlp-under-test"] is plugin
    assert issubclass(plugin.Client, BaseDeploymentClient)
    assert "-C target=NAME" in plugin.target_help()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"targte": "prod"}, "did you mean 'target'"),
        ({"target": "prdo"}, "did you mean 'prod'"),
    ],
)
def test_a_setting_that_is_not_known_is_refused_in_mlflows_terms(
    client: Any, config: dict[str, str], told: str
) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=told):
        client.create_deployment("answers", "models:/answers@champion", config=config)


@pytest.mark.parametrize("share", ["-1", "101", "ten"])
def test_a_canary_is_a_percentage(share: str) -> None:
    with pytest.raises(UsageError, match="percentage"):
        plugin.canary_share({"canary": share})
