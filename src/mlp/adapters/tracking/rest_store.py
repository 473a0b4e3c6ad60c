"""An MLflow server by its REST protocol (https://mlflow.org/docs/latest/api_reference/rest-api.html).

MLflow need not be imported for it. Who somebody is comes from the variables that MLflow knows.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlp.adapters.tracking.artifact_places import content
from mlp.adapters.tracking.mlflow_errors import RestError
from mlp.adapters.tracking.run_query import RunQuery, quoted
from mlp.core.finite import from_mlflow
from mlp.core.models.model_version import ModelVersion, RegisteredModel
from mlp.core.runs.recorded_run import RunRecord, Tag

_TIMEOUT_S = 20.0
_PAGE = 200
_STORED_BY_SERVER = "mlflow-artifacts:"
_BY_STATUS = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND"}
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def speaks(uri: str) -> bool:
    """Whether the address is a server's that asks for nothing which only MLflow can give."""
    return (
        uri.startswith(("http://", "https://"))
        and not (Path.home() / ".mlflow" / "credentials").exists()
        and not _header_providers()
    )


@cache
def _header_providers() -> bool:
    """Whether a package adds headers to MLflow's requests.

    To ask all that are installed takes 15 ms, and servers ask the store several times a second.
    """
    return bool(entry_points(group="mlflow.request_header_provider"))


class RestStore:
    """See MlflowStore."""

    def __init__(self, uri: str) -> None:
        import requests

        self._uri = uri.rstrip("/")
        self._session = requests.Session()
        self._session.verify = _verification()
        self._session.cert = os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH")
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD")
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        if user and password:
            self._session.auth = (user, password)
        elif token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def experiment(self, name: str) -> str | None:
        """See MlflowStore."""
        found = self._if_there("experiments/get-by-name", experiment_name=name)
        return str(found["experiment"]["experiment_id"]) if found else None

    def experiments(self) -> list[str]:
        """See MlflowStore."""
        found = self._pages("POST", "experiments/search", "experiments", max_results=1000)
        return [str(each["experiment_id"]) for each in found]

    def runs(self, experiments: Sequence[str], query: RunQuery, limit: int) -> list[RunRecord]:
        """See MlflowStore."""
        body = {"experiment_ids": list(experiments), "filter": str(query), "max_results": limit}
        return [_record(run) for run in self._call("POST", "runs/search", body).get("runs", ())]

    def run(self, mlflow_id: str) -> RunRecord | None:
        """See MlflowStore."""
        found = self._if_there("runs/get", run_id=mlflow_id)
        return _record(found["run"]) if found else None

    def nested(self, mlflow_id: str) -> list[RunRecord]:
        """See MlflowStore."""
        found = self._pages(
            *("POST", "runs/search", "runs"),
            experiment_ids=[self._info(mlflow_id)["experiment_id"]],
            filter=str(RunQuery(tags={Tag.PARENT: mlflow_id})),
            order_by=["attributes.start_time ASC"],
            max_results=1000,
        )
        return [_record(run) for run in found]

    def artifact(self, mlflow_id: str, path: str) -> bytes | None:
        """See MlflowStore."""
        place = self._info(mlflow_id)["artifact_uri"]
        if place.startswith(_STORED_BY_SERVER):
            root = place.removeprefix(_STORED_BY_SERVER).lstrip("/")
            response = self._request("GET", f"mlflow-artifacts/artifacts/{quote(f'{root}/{path}')}")
            if response.status_code == 404:
                return None
            return bytes(self._checked(response).content)
        return content(place, path)

    def model(self, name: str) -> RegisteredModel | None:
        """See MlflowStore."""
        found = self._if_there("registered-models/get", name=name)
        if found is None:
            return None
        model = found["registered_model"]
        aliases = {item["alias"]: str(item["version"]) for item in model.get("aliases", ())}
        return RegisteredModel(int(model["creation_timestamp"]), aliases)

    def versions(self, name: str) -> list[ModelVersion]:
        """See MlflowStore."""
        model = self.model(name)
        if model is None:
            return []
        query = f"name = {quoted(name)}"
        found = self._pages(
            *("GET", "model-versions/search", "model_versions"), filter=query, max_results=_PAGE
        )
        return sorted((_version(v, model) for v in found), key=lambda v: -int(v.version))

    def version(self, name: str, number: str) -> ModelVersion | None:
        """See MlflowStore."""
        found = self._if_there("model-versions/get", name=name, version=number)
        model = self.model(name)
        return _version(found["model_version"], model) if found and model else None

    def files(self, name: str, number: str) -> str | None:
        """See MlflowStore."""
        found = self._if_there("model-versions/get-download-uri", name=name, version=number)
        return str(found["artifact_uri"]) if found else None

    def set_alias(self, name: str, alias: str, number: str) -> None:
        """See MlflowStore."""
        body = {"name": name, "alias": alias, "version": number}
        self._call("POST", "registered-models/alias", body)

    def delete_alias(self, name: str, alias: str) -> None:
        """See MlflowStore."""
        try:
            self._call("DELETE", "registered-models/alias", {"name": name, "alias": alias})
        except RestError as e:
            if e.error_code not in _ABSENT:
                raise

    def set_tags(self, name: str, number: str, tags: Mapping[str, str]) -> None:
        """See MlflowStore."""
        for key, value in tags.items():
            body = {"name": name, "version": number, "key": key, "value": value}
            self._call("POST", "model-versions/set-tag", body)

    def _info(self, mlflow_id: str) -> Any:
        return self._call("GET", "runs/get", {"run_id": mlflow_id})["run"]["info"]

    def _pages(self, method: str, endpoint: str, key: str, **values: Any) -> list[Any]:
        found: list[Any] = []
        while True:
            part = self._call(method, endpoint, values)
            found += part.get(key, ())
            if not part.get("next_page_token"):
                return found
            values["page_token"] = part["next_page_token"]

    def _if_there(self, endpoint: str, **values: str) -> Any | None:
        """What the server answers, None where it has no such thing."""
        try:
            return self._call("GET", endpoint, values)
        except RestError as e:
            if e.error_code not in _ABSENT:
                raise
            return None

    def _call(self, method: str, endpoint: str, values: Mapping[str, Any]) -> Any:
        place = "params" if method == "GET" else "json"
        return self._checked(self._request(method, f"mlflow/{endpoint}", **{place: values})).json()

    def _request(self, method: str, endpoint: str, **body: Any) -> Any:
        address = f"{self._uri}/api/2.0/{endpoint}"
        return self._session.request(method, address, timeout=_TIMEOUT_S, **body)

    def _checked(self, response: Any) -> Any:
        """The response, unless it is a refusal: RestError."""
        if response.ok:
            return response
        try:
            said = response.json()
        except ValueError:
            said = {}
        code = said.get("error_code") or _BY_STATUS.get(response.status_code, "INTERNAL_ERROR")
        text = said.get("message") or f"HTTP status {response.status_code}: {response.text[:200]}"
        raise RestError(f"{code}: {text}", code)


def _verification() -> bool | str:
    """What `requests` is told of the server's certificate, by MLflow's variables."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    return os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True


def _record(run: Any) -> RunRecord:
    info, data = run["info"], run.get("data", {})
    tags = _mapping(data.get("tags", ()))
    return RunRecord(
        run_id=tags.get(Tag.RUN_ID, info["run_id"]),
        mlflow_id=info["run_id"],
        name=info.get("run_name", ""),
        status=info["status"],
        started=int(info["start_time"]) / 1000,
        ended=int(info["end_time"]) / 1000 if info.get("end_time") else None,
        params=_mapping(data.get("params", ())),
        metrics={m["key"]: from_mlflow(float(m["value"])) for m in data.get("metrics", ())},
        tags=tags,
    )


def _version(found: Any, model: RegisteredModel) -> ModelVersion:
    number = str(found["version"])
    return ModelVersion(
        model=found["name"],
        version=number,
        created=int(found["creation_timestamp"]) / 1000,
        run_id=found.get("run_id") or None,
        source=found.get("source", ""),
        tags=_mapping(found.get("tags", ())),
        aliases=model.aliases_of(number),
    )


def _mapping(pairs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {pair["key"]: pair.get("value", "") for pair in pairs}
