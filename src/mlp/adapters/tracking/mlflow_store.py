"""What mlp reads of an MLflow store, and the few things that it changes there without MLflow.

Importing MLflow takes two seconds, with its SQL store three and a half. Its REST protocol is stable
and needs none of it, and so do the tables of a SQL store whose schema we know.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from mlp.adapters.tracking import client_store, rest_store, sql_store
from mlp.adapters.tracking.client import probe
from mlp.adapters.tracking.mlflow_errors import translated
from mlp.adapters.tracking.run_query import RunQuery
from mlp.core.models.model_version import ModelVersion, RegisteredModel
from mlp.core.runs.recorded_run import RunRecord

# Ways to ask a server, or to be somebody there, that are left to MLflow.
_SPECIAL = (
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_WORKSPACE",
    "MLFLOW_ENABLE_WORKSPACES",
)


class MlflowStore(Protocol):
    """One contract, kept for a server, for a SQL store and through MLflow's client alike.

    Runs go by MLflow's ids. What is not there is None or empty; deleted runs are found by id only.
    """

    def experiment(self, name: str) -> str | None:
        """The id of the experiment."""

    def experiments(self) -> list[str]:
        """The ids of all experiments."""

    def runs(self, experiments: Sequence[str], query: RunQuery, limit: int) -> list[RunRecord]:
        """The runs that the query means, the newest first, without their stages."""

    def run(self, mlflow_id: str) -> RunRecord | None:
        """The run, without its stages."""

    def nested(self, mlflow_id: str) -> list[RunRecord]:
        """The runs nested in the run, the oldest first."""

    def artifact(self, mlflow_id: str, path: str) -> bytes | None:
        """The content of an artifact of the run."""

    def model(self, name: str) -> RegisteredModel | None:
        """The registered model."""

    def versions(self, name: str) -> list[ModelVersion]:
        """Its versions, the newest first."""

    def version(self, name: str, number: str) -> ModelVersion | None:
        """One of them."""

    def files(self, name: str, number: str) -> str | None:
        """The address of a version's files."""

    def set_alias(self, name: str, alias: str, number: str) -> None:
        """Let an alias mean a version, which is there."""

    def delete_alias(self, name: str, alias: str) -> None:
        """Let it mean nothing; it may do so already."""

    def set_tags(self, name: str, number: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version, which is there."""


@contextmanager
def opened(uri: str) -> Iterator[MlflowStore]:
    """The store at `uri`, read in the fastest way that it offers; errors are ours."""
    probe(uri)
    with translated(uri):
        if not any(os.environ.get(name) for name in _SPECIAL):
            if rest_store.speaks(uri):
                yield rest_store.RestStore(uri)
                return
            with sql_store.connected(uri) as ask:
                if ask is not None:
                    yield sql_store.SqlStore(ask)
                    return
        yield client_store.ClientStore(uri)
