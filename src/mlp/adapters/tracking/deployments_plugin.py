"""MLflow's deployments plugin: what `mlflow deployments … -t mlp` calls."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from mlp.core.errors import MlpError

Settings = Mapping[str, str]
Described = Mapping[str, Any]


class Deployments(Protocol):
    """What MLflow's verbs become; `target` is what stands behind `mlp:/`, None without it."""

    def create(self, target: str | None, name: str, uri: str, settings: Settings) -> Described:
        """Deploy; refuse where there is one of that name."""

    def update(
        self, target: str | None, name: str, uri: str | None, settings: Settings
    ) -> Described:
        """Deploy once more; refuse where there is none."""

    def delete(self, target: str | None, name: str, settings: Settings) -> None:
        """Remove it; nothing to do where there is none."""

    def list(self, target: str | None) -> Sequence[Described]:
        """Those that there are."""

    def get(self, target: str | None, name: str) -> Described:
        """One of them."""

    def predict(self, target: str | None, name: str, request: Described) -> Described:
        """The answer of its server to a request of MLflow's scoring protocol."""


def client_class(flow: Deployments) -> type:
    """A client as MLflow makes one of for a target's address; it hands over to `flow`.

    What the flow refuses becomes MLflow's MlflowException.
    """
    from mlflow.deployments import PredictionsResponse
    from mlflow.deployments.base import BaseDeploymentClient

    class MlpDeploymentClient(BaseDeploymentClient):  # type: ignore[misc]
        """Deployments on the targets of the mlp.yaml around the working directory."""

        @property
        def _target(self) -> str | None:
            return self.target_uri.partition(":")[2].strip("/") or None

        def create_deployment(
            self,
            name: str,
            model_uri: str,
            flavor: str | None = None,
            config: Settings | None = None,
            endpoint: str | None = None,
        ) -> dict[str, Any]:
            """Install a release, and wait until its pods answer."""
            with _refusals():
                made = flow.create(self._target, name, model_uri, config or {})
            return {**made, "flavor": flavor or "python_function"}

        def update_deployment(
            self,
            name: str,
            model_uri: str | None = None,
            flavor: str | None = None,
            config: Settings | None = None,
            endpoint: str | None = None,
        ) -> dict[str, Any]:
            """Make a release what mlp.yaml says now, and wait until its pods answer."""
            with _refusals():
                made = flow.update(self._target, name, model_uri, config or {})
            return {**made, "flavor": flavor or "python_function"}

        def delete_deployment(
            self, name: str, config: Settings | None = None, endpoint: str | None = None
        ) -> None:
            """Remove a release; nothing is wrong where there is none."""
            with _refusals():
                flow.delete(self._target, name, config or {})

        def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
            """The releases of mlp's chart in the target's namespace."""
            with _refusals():
                return [dict(each) for each in flow.list(self._target)]

        def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
            """What is deployed under that name, and which versions answer."""
            with _refusals():
                return dict(flow.get(self._target, name))

        def predict(
            self, deployment_name: str | None = None, inputs: Any = None, endpoint: Any = None
        ) -> Any:
            """Ask the server, by way of the cluster's API."""
            with _refusals():
                answer = flow.predict(self._target, deployment_name or "", _request(inputs))
            return PredictionsResponse(answer)

    return MlpDeploymentClient


@contextmanager
def _refusals() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlpError as e:
        words = [e.message, e.cause, f"fix: {e.fix}" if e.fix else ""]
        raise MlflowException("\n".join(word for word in words if word)) from None


def _request(inputs: Any) -> dict[str, Any]:
    """A table, an array, lists or named arrays as MLflow's scoring protocol has them."""
    if hasattr(inputs, "to_json"):
        return {"dataframe_split": json.loads(inputs.to_json(orient="split", date_format="iso"))}
    plain = inputs.tolist() if hasattr(inputs, "tolist") else inputs
    if isinstance(plain, Mapping):
        named = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in plain.items()}
        return {"inputs": named}
    return {"inputs": plain}
