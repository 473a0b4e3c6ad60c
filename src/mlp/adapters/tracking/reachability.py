"""Whether a tracking address answers, and as what. Nothing is changed there."""

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from mlp.adapters.tracking.client import client
from mlp.adapters.tracking.mlflow_errors import translated
from mlp.adapters.tracking.sqlite_store import half_made, opening, revision
from mlp.core.errors import ConfigurationError
from mlp.core.runs.tracking_uri import file_of
from mlp.core.secrets import mask_urls

_SQLITE = "sqlite:///"
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What an address answered. `clock_ahead` is by how many seconds the server's clock is ahead
    of ours, None where it tells no time."""

    message: str
    clock_ahead: float | None = None


def reachable(uri: str) -> ServerAnswer:
    """Ask the store at `uri`.

    Raises RemoteError where nothing answers, ConfigurationError where the store is of another
    MLflow version, and what MLflow refuses.
    """
    if uri.startswith(("http://", "https://")):
        return _server(uri)
    if uri.startswith(_SQLITE):
        file = Path(file_of(uri))
        if not file.exists():
            return ServerAnswer(f"{file} is not there yet: the first run makes it")
        with translated(uri), opening(uri):  # not while somebody makes it
            if (broken := half_made(uri)) is not None:
                raise broken
            return _schema(uri, _sqlite_revision(file))
    if "://" in uri:
        return _database(uri)
    with translated(uri):
        client(uri).search_experiments(max_results=1)
    return ServerAnswer(f"{mask_urls(uri)} answers")


def _server(uri: str) -> ServerAnswer:
    import requests

    with translated(uri):
        before = time.time()
        response = requests.get(uri.rstrip("/") + "/version", timeout=_TIMEOUT_S)
        middle = (before + time.time()) / 2
        client(uri).search_experiments(max_results=1)  # with the user's name and rights
    version = (
        f" (MLflow {response.text.strip()})" if response.ok and len(response.text) < 20 else ""
    )
    stamp = response.headers.get("Date")
    ahead = parsedate_to_datetime(stamp).timestamp() - middle if stamp else None
    return ServerAnswer(f"{mask_urls(uri)} answers{version}", ahead)


def _database(uri: str) -> ServerAnswer:
    from mlflow.store.db.utils import _get_schema_version
    from sqlalchemy import create_engine

    with translated(uri):
        engine = create_engine(uri)
        try:
            return _schema(uri, _get_schema_version(engine))
        finally:
            engine.dispose()


def _sqlite_revision(file: Path) -> str | None:
    address = f"{file.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=5)) as connection:
            return revision(connection)
    except sqlite3.DatabaseError as e:
        raise ConfigurationError(
            f"{file} cannot be read as a SQLite database",
            fix="move it away: the next run makes a new one; the runs in it are then gone from it",
            cause=str(e),
        ) from e


def _schema(uri: str, revision: str | None) -> ServerAnswer:
    """Compare a database's schema with the one that the installed MLflow works with."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    where = mask_urls(uri)
    if revision is None:
        return ServerAnswer(f"{where} answers and is empty: the first run fills it")
    expected = _get_latest_schema_revision()
    if revision == expected:
        return ServerAnswer(f"{where} answers, and its schema is that of the installed MLflow")
    raise ConfigurationError(
        f"the MLflow store at {where} has the schema of another MLflow version",
        fix=f"back it up, then: mlflow db upgrade {where}   (or install the MLflow that wrote it)",
        cause=f"it has {revision}, the installed MLflow works with {expected}",
    )
