"""Connections to the two kinds of database, set up for many processes at a time."""

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from mlp.adapters.state import database_errors
from mlp.core.runs.tracking_uri import file_of, with_driver

# Writers of a SQLite file wait for each other; each is done in milliseconds.
_BUSY_MS = 30_000
_CONNECT_S = 5
_WRITING = "mlp_writing"
_SQLITE = "sqlite:///"


def is_sqlite(uri: str) -> bool:
    """Whether the address is of a SQLite file."""
    return uri.startswith(_SQLITE)


def engine(uri: str) -> Engine:
    """The engine for `uri`; connects when it is used. Raises ConfigurationError."""
    address = with_driver(uri)
    if is_sqlite(uri):
        if file_of(uri) in ("", ":memory:"):
            raise database_errors.unknown_address(
                uri, "a ledger in memory would be gone with its process"
            )
        options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_MS / 1000}}
    elif address.startswith("postgresql"):
        # A server that went away and came back costs a question, not a failure.
        options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": _CONNECT_S}}
    else:
        raise database_errors.unknown_address(uri)
    try:
        made = create_engine(address, pool_size=1, max_overflow=20, **options)
    except ModuleNotFoundError as e:
        raise database_errors.missing_driver(uri, str(e)) from e
    except (SQLAlchemyError, ValueError) as e:
        raise database_errors.unknown_address(uri, str(e)) from e
    if is_sqlite(uri):
        event.listen(made, "connect", _set_up)
        event.listen(made, "begin", _begin)
    return made


def writing(engine: Engine) -> Engine:
    """The same engine, for transactions that write."""
    return engine.execution_options(**{_WRITING: True})


def _set_up(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # Python's own BEGIN would come too late: see _begin
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    connection.execute("PRAGMA journal_mode = WAL")  # who reads does not wait for who writes
    connection.execute("PRAGMA synchronous = FULL")  # what is acknowledged survives the power


def _begin(connection: Connection) -> None:
    """Whoever will write waits for its turn at once: halfway it could only fail."""
    write = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
