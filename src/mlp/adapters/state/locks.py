"""One lock for each model, which any death of its holder frees."""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import OperationalError

from mlp.adapters.state import database_errors
from mlp.adapters.state.engines import is_sqlite
from mlp.core.errors import MlpError
from mlp.core.patience import waiting_for
from mlp.core.runs.tracking_uri import file_of

_POLL_S = 0.02
_LOCK_NOT_AVAILABLE = "55P03"


@contextmanager
def of_file(uri: str, model: str, seconds: float, busy: MlpError) -> Iterator[None]:
    """Hold a file lock beside the SQLite file; raises `busy` after `seconds` of waiting."""
    with database_errors.translated(uri):
        make_folder(uri)
        path = f"{file_of(uri)}.{_digest(model).hex()[:16]}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        until = time.monotonic() + seconds
        with waiting_for(f"another process, which changes {model}"):
            while not _taken(descriptor):
                if time.monotonic() > until:
                    raise busy
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def advisory(
    engine: Engine, uri: str, model: str, seconds: float, busy: MlpError
) -> Iterator[None]:
    """Hold an advisory lock of PostgreSQL on a connection of its own, as long as that lasts."""
    key = int.from_bytes(_digest(model)[:8], signed=True)
    with database_errors.translated(uri):
        connection = engine.connect()
        connection.detach()  # closed for good at the end, and the lock with it
    try:
        with database_errors.translated(uri):
            connection.execute(text(f"SET lock_timeout = {int(seconds * 1000)}"))
            try:
                connection.execute(select(func.pg_advisory_lock(key)))
            except OperationalError as e:
                if getattr(e.orig, "pgcode", None) == _LOCK_NOT_AVAILABLE:
                    raise busy from e
                raise
            connection.commit()  # the lock is the session's: no transaction waits open meanwhile
        yield
    finally:
        connection.close()


def make_folder(uri: str) -> None:
    """Make the folder of a SQLite file."""
    if is_sqlite(uri):
        Path(file_of(uri)).parent.mkdir(parents=True, exist_ok=True)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _digest(model: str) -> bytes:
    return hashlib.sha256(f"mlp model {model}".encode()).digest()
