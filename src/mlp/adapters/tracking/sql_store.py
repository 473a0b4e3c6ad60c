"""MLflow's tables, read where they are: in SQLite files and in PostgreSQL, without MLflow.

Only where the schema is one that we know: the statements name nine of MLflow's tables
(docs/adr/0007).
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.tracking.artifact_places import content
from mlp.adapters.tracking.run_query import RunQuery
from mlp.adapters.tracking.sqlite_store import opening, revision
from mlp.core.finite import from_mlflow
from mlp.core.models.model_version import ModelVersion, RegisteredModel
from mlp.core.runs.recorded_run import RunRecord, Tag
from mlp.core.runs.tracking_uri import file_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

# One statement with its named parameters, and the rows that it gives.
Ask = Callable[[str, Mapping[str, Any]], Sequence[Any]]

# Revisions of MLflow's schema in which the tables named below are alike, the oldest first: MLflow
# 3.17 makes the last one.
KNOWN = (
    *("1b5f0d9ad7c1", "e1f2a3b4c5d6", "76601a5f987d", "c3d6457b6d8a", "a5b4c3d2e1f0"),
    *("ae8bbe7743c9", "7d34483879f0", "da6fb0208061", "89d3d66ed43f", "b7e4c1a90f23"),
    *("a8b9c0d1e2f3", "c1d2e3f4a5b6", "c3d9e7f1a2b4", "6f8d9c3b2a1e", "1971f2d9a75b"),
    *("17e22815139b", "b7e2c1a4d9f3", "75868b020152", "dc11669786a5"),
)
_SQLITE, _POSTGRESQL = "sqlite:///", "postgresql"
_WAIT_S = 20.0
_AT_ONCE = 500
_RUN = "SELECT r.run_uuid, r.name, r.status, r.start_time, r.end_time FROM runs r"
_VERSION = "SELECT version, creation_time, run_id, source FROM model_versions"
_NAMED = "workspace = 'default' AND name = :name"
_THERE = "current_stage <> 'Deleted_Internal'"


@contextmanager
def connected(uri: str) -> Iterator[Ask | None]:
    """What asks the tables at `uri`; None where they are not ones that we know.

    What was changed is kept at the end of the block. A SQLite file that is not there has no rows.
    """
    if uri.startswith(_SQLITE):
        file = Path(file_of(uri))
        if not file.exists():
            yield lambda statement, values: ()
            return
        connection = _sqlite(uri, file)
        if connection is None:
            yield None
            return
        with closing(connection), connection:
            yield lambda statement, values: connection.execute(statement, values).fetchall()
    elif uri.startswith(_POSTGRESQL):
        with _postgresql(uri) as ask:
            yield ask
    else:
        yield None


def _sqlite(uri: str, file: Path) -> sqlite3.Connection | None:
    """A connection to the file; None where its schema is not one that we know, or it is not a
    database: MLflow's client says what it is then."""
    address = f"{file.absolute().as_uri()}?mode=rw"
    with suppress(sqlite3.Error), ExitStack() as stack:
        connection = stack.enter_context(
            closing(sqlite3.connect(address, uri=True, timeout=_WAIT_S))
        )
        with opening(uri):  # not while somebody makes its tables
            known = revision(connection) in KNOWN
        if known:
            stack.pop_all()
            return connection
    return None


@contextmanager
def _postgresql(uri: str) -> Iterator[Ask | None]:
    from sqlalchemy import text

    with _engine(uri).begin() as connection:

        def ask(statement: str, values: Mapping[str, Any]) -> Sequence[Any]:
            result = connection.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else ()

        ((table,),) = ask("SELECT to_regclass('alembic_version')", {})
        rows = ask("SELECT version_num FROM alembic_version", {}) if table else ()
        yield ask if rows and rows[0][0] in KNOWN else None


@lru_cache(maxsize=4)
def _engine(uri: str) -> "Engine":
    """Connections that are kept: servers ask several times a second."""
    from sqlalchemy import create_engine

    limit = {"connect_timeout": int(_WAIT_S)}
    return create_engine(uri, pool_size=1, pool_pre_ping=True, connect_args=limit)


class SqlStore:
    """See MlflowStore."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def experiment(self, name: str) -> str | None:
        """See MlflowStore."""
        statement = f"SELECT experiment_id FROM experiments WHERE {_NAMED}"
        rows = self._ask(statement, {"name": name})
        return str(rows[0][0]) if rows else None

    def experiments(self) -> list[str]:
        """See MlflowStore."""
        statement = "SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        return [str(row[0]) for row in self._ask(statement, {})]

    def runs(self, experiments: Sequence[str], query: RunQuery, limit: int) -> list[RunRecord]:
        """See MlflowStore."""
        if not experiments:
            return []
        among, values = _among("e", [int(each) for each in experiments])
        joins, terms = [], [f"r.experiment_id IN ({among})", "r.lifecycle_stage = 'active'"]
        wanted = [(key, value, "=") for key, value in query.tags.items()]
        if query.tag_begins is not None:
            wanted.append((*query.tag_begins, "begins"))
        for i, (key, value, relation) in enumerate(wanted):
            matches = f"t{i}.value = :v{i}" if relation == "=" else _begins(f"t{i}.value", f"v{i}")
            joins.append(f"JOIN tags t{i} ON t{i}.run_uuid = r.run_uuid AND t{i}.key = :k{i}")
            terms.append(matches)
            values |= {f"k{i}": key, f"v{i}": value}
        if query.name is not None:
            terms.append("r.name = :run_name")
            values["run_name"] = query.name
        if query.id_begins is not None:
            terms.append(_begins("r.run_uuid", "id"))
            values["id"] = query.id_begins
        statement = (
            f"{_RUN} {' '.join(joins)} WHERE {' AND '.join(terms)}"
            " ORDER BY r.start_time DESC, r.run_uuid LIMIT :most"
        )
        return self._records(self._ask(statement, {**values, "most": limit}))

    def run(self, mlflow_id: str) -> RunRecord | None:
        """See MlflowStore."""
        found = self._records(self._ask(f"{_RUN} WHERE r.run_uuid = :id", {"id": mlflow_id}))
        return found[0] if found else None

    def nested(self, mlflow_id: str) -> list[RunRecord]:
        """See MlflowStore."""
        statement = (
            f"{_RUN} JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = :k AND t.value = :parent"
            " WHERE r.lifecycle_stage = 'active' ORDER BY r.start_time, r.run_uuid"
        )
        return self._records(self._ask(statement, {"k": Tag.PARENT, "parent": mlflow_id}))

    def artifact(self, mlflow_id: str, path: str) -> bytes | None:
        """See MlflowStore."""
        statement = "SELECT artifact_uri FROM runs WHERE run_uuid = :id"
        ((place,),) = self._ask(statement, {"id": mlflow_id})
        return content(place, path)

    def model(self, name: str) -> RegisteredModel | None:
        """See MlflowStore."""
        rows = self._ask(
            f"SELECT creation_time FROM registered_models WHERE {_NAMED}", {"name": name}
        )
        if not rows:
            return None
        statement = f"SELECT alias, version FROM registered_model_aliases WHERE {_NAMED}"
        aliases = {alias: str(number) for alias, number in self._ask(statement, {"name": name})}
        return RegisteredModel(int(rows[0][0]), aliases)

    def versions(self, name: str) -> list[ModelVersion]:
        """See MlflowStore."""
        model = self.model(name)
        if model is None:
            return []
        statement = f"{_VERSION} WHERE {_NAMED} AND {_THERE} ORDER BY version DESC"
        return self._versions(name, model, self._ask(statement, {"name": name}))

    def version(self, name: str, number: str) -> ModelVersion | None:
        """See MlflowStore."""
        model = self.model(name)
        if model is None:
            return None
        statement = f"{_VERSION} WHERE {_NAMED} AND {_THERE} AND version = :number"
        found = self._ask(statement, {"name": name, "number": int(number)})
        return next(iter(self._versions(name, model, found)), None)

    def files(self, name: str, number: str) -> str | None:
        """See MlflowStore."""
        statement = (
            f"SELECT COALESCE(storage_location, source) FROM model_versions WHERE {_NAMED}"
            f" AND {_THERE} AND version = :number"
        )
        rows = self._ask(statement, {"name": name, "number": int(number)})
        return str(rows[0][0]) if rows else None

    def set_alias(self, name: str, alias: str, number: str) -> None:
        """See MlflowStore."""
        self._ask(
            "INSERT INTO registered_model_aliases (workspace, name, alias, version)"
            " VALUES ('default', :name, :alias, :number)"
            " ON CONFLICT (workspace, name, alias) DO UPDATE SET version = excluded.version",
            {"name": name, "alias": alias, "number": int(number)},
        )

    def delete_alias(self, name: str, alias: str) -> None:
        """See MlflowStore."""
        self._ask(
            f"DELETE FROM registered_model_aliases WHERE {_NAMED} AND alias = :alias",
            {"name": name, "alias": alias},
        )

    def set_tags(self, name: str, number: str, tags: Mapping[str, str]) -> None:
        """See MlflowStore."""
        for key, value in tags.items():
            self._ask(
                "INSERT INTO model_version_tags (workspace, name, version, key, value)"
                " VALUES ('default', :name, :number, :key, :value)"
                " ON CONFLICT (workspace, key, name, version) DO UPDATE SET value = excluded.value",
                {"name": name, "number": int(number), "key": key, "value": value},
            )

    def _records(self, rows: Sequence[Any]) -> list[RunRecord]:
        ids = [row[0] for row in rows]
        tags = self._of_runs("key, value", "tags", ids)
        params = self._of_runs("key, value", "params", ids)
        metrics = self._of_runs("key, value, is_nan", "latest_metrics", ids)
        return [
            RunRecord(
                run_id=tags[run_id].get(Tag.RUN_ID, run_id),
                mlflow_id=run_id,
                name=name,
                status=status,
                started=start / 1000,
                ended=end / 1000 if end else None,
                params=params[run_id],
                metrics=metrics[run_id],
                tags=tags[run_id],
            )
            for run_id, name, status, start, end in rows
        ]

    def _of_runs(self, columns: str, table: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What a table says of each run, by key."""
        found: dict[str, dict[str, Any]] = {run_id: {} for run_id in ids}
        for start in range(0, len(ids), _AT_ONCE):
            among, values = _among("r", ids[start : start + _AT_ONCE])
            statement = f"SELECT run_uuid, {columns} FROM {table} WHERE run_uuid IN ({among})"
            for run_id, key, value, *is_nan in self._ask(statement, values):
                found[run_id][key] = _number(value, is_nan[0]) if is_nan else value
        return found

    def _versions(
        self, name: str, model: RegisteredModel, rows: Sequence[Any]
    ) -> list[ModelVersion]:
        tags: dict[int, dict[str, str]] = {row[0]: {} for row in rows}
        statement = f"SELECT version, key, value FROM model_version_tags WHERE {_NAMED}"
        for number, key, value in self._ask(statement, {"name": name}):
            tags.setdefault(number, {})[key] = value
        return [
            ModelVersion(
                model=name,
                version=str(number),
                created=created / 1000,
                run_id=run_id or None,
                source=source or "",
                tags=tags[number],
                aliases=model.aliases_of(str(number)),
            )
            for number, created, run_id, source in rows
        ]


def _among(prefix: str, values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """A list of named parameters, and their values."""
    named = {f"{prefix}{i}": value for i, value in enumerate(values)}
    return ", ".join(f":{name}" for name in named), named


def _begins(column: str, parameter: str) -> str:
    return f"substr({column}, 1, length(:{parameter})) = :{parameter}"


def _number(value: float, is_nan: bool) -> float:
    return float("nan") if is_nan else from_mlflow(value)
