"""An MLflow store through MLflow's own client: any store that MLflow can open, after its import."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mlp.adapters.tracking.client import client
from mlp.adapters.tracking.run_query import RunQuery, quoted
from mlp.core.finite import from_mlflow
from mlp.core.models.model_version import ModelVersion, RegisteredModel
from mlp.core.runs.recorded_run import RunRecord, Tag

T = TypeVar("T")
_PAGE = 200
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class ClientStore:
    """See MlflowStore."""

    def __init__(self, uri: str) -> None:
        self._client = client(uri)

    def experiment(self, name: str) -> str | None:
        """See MlflowStore."""
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else None

    def experiments(self) -> list[str]:
        """See MlflowStore."""
        return [each.experiment_id for each in self._client.search_experiments()]

    def runs(self, experiments: Sequence[str], query: RunQuery, limit: int) -> list[RunRecord]:
        """See MlflowStore."""
        found = self._client.search_runs(list(experiments), str(query), max_results=limit)
        return [_record(run) for run in found]

    def run(self, mlflow_id: str) -> RunRecord | None:
        """See MlflowStore."""
        found = _absent_is_none(lambda: self._client.get_run(mlflow_id))
        return _record(found) if found else None

    def nested(self, mlflow_id: str) -> list[RunRecord]:
        """See MlflowStore."""
        found = self._client.search_runs(
            [self._client.get_run(mlflow_id).info.experiment_id],
            str(RunQuery(tags={Tag.PARENT: mlflow_id})),
            order_by=["attributes.start_time ASC"],
            max_results=1000,
        )
        return [_record(run) for run in found]

    def artifact(self, mlflow_id: str, path: str) -> bytes | None:
        """See MlflowStore."""
        parent = path.rpartition("/")[0]
        files = self._client.list_artifacts(mlflow_id, parent or None)
        if path not in {file.path for file in files}:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            return Path(self._client.download_artifacts(mlflow_id, path, scratch)).read_bytes()

    def model(self, name: str) -> RegisteredModel | None:
        """See MlflowStore."""
        found = _absent_is_none(lambda: self._client.get_registered_model(name))
        if found is None:
            return None
        aliases = {alias: str(number) for alias, number in found.aliases.items()}
        return RegisteredModel(int(found.creation_timestamp), aliases)

    def versions(self, name: str) -> list[ModelVersion]:
        """See MlflowStore."""
        model = self.model(name)
        if model is None:
            return []
        found: list[Any] = []
        query, page = f"name = {quoted(name)}", None
        while True:
            part = self._client.search_model_versions(query, _PAGE, page_token=page)
            found += part
            page = part.token
            if not page:
                break
        return sorted((as_version(v, model) for v in found), key=lambda v: -int(v.version))

    def version(self, name: str, number: str) -> ModelVersion | None:
        """See MlflowStore."""
        found = _absent_is_none(lambda: self._client.get_model_version(name, number))
        model = self.model(name)
        return as_version(found, model) if found and model else None

    def files(self, name: str, number: str) -> str | None:
        """See MlflowStore."""
        return _absent_is_none(lambda: self._client.get_model_version_download_uri(name, number))

    def set_alias(self, name: str, alias: str, number: str) -> None:
        """See MlflowStore."""
        self._client.set_registered_model_alias(name, alias, number)

    def delete_alias(self, name: str, alias: str) -> None:
        """See MlflowStore."""
        _absent_is_none(lambda: self._client.delete_registered_model_alias(name, alias))

    def set_tags(self, name: str, number: str, tags: Mapping[str, str]) -> None:
        """See MlflowStore."""
        for key, value in tags.items():
            self._client.set_model_version_tag(name, number, key, value)


def as_version(found: Any, model: RegisteredModel) -> ModelVersion:
    """MLflow's version as ours."""
    return ModelVersion(
        model=found.name,
        version=str(found.version),
        created=found.creation_timestamp / 1000,
        run_id=found.run_id or None,
        source=found.source,
        tags=dict(found.tags),
        aliases=model.aliases_of(str(found.version)),
    )


def _record(run: Any) -> RunRecord:
    return RunRecord(
        run_id=run.data.tags.get(Tag.RUN_ID, run.info.run_id),
        mlflow_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        started=run.info.start_time / 1000,
        ended=run.info.end_time / 1000 if run.info.end_time else None,
        params=dict(run.data.params),
        metrics={name: from_mlflow(value) for name, value in run.data.metrics.items()},
        tags=dict(run.data.tags),
    )


def _absent_is_none(ask: Callable[[], T]) -> T | None:
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as e:
        if e.error_code not in _ABSENT:
            raise
        return None
