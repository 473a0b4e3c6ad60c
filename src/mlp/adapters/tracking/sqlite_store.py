"""SQLite stores, which are made by whoever opens them first: by one process at a time.

MLflow makes their tables in dozens of steps. Two processes at once break each other's work, and
leave a store that MLflow can neither use nor upgrade.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mlp.core.errors import ConfigurationError
from mlp.core.runs.tracking_uri import file_of

_SCHEME = "sqlite:///"


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Let nobody else open the store at `uri` for the block, where it is a SQLite file.

    The lock is on its folder, which is made where it is missing: no file of ours lies beside it.
    """
    if not uri.startswith(_SCHEME):
        yield
        return
    make_folder(uri)
    descriptor = os.open(Path(file_of(uri)).parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def revision(connection: sqlite3.Connection) -> str | None:
    """The revision of MLflow's schema in a file, None where it has none yet.

    Raises sqlite3.DatabaseError for a file that is not a database.
    """
    try:
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.DatabaseError as e:
        if "no such table" in str(e):
            return None
        raise
    return str(rows[0][0]) if rows else None


def half_made(uri: str) -> ConfigurationError | None:
    """What to say of a SQLite store whose tables were not made to the end; None of another one."""
    if not uri.startswith(_SCHEME):
        return None
    file = Path(file_of(uri))
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as store:
            names = {str(name) for (name,) in store.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error:
        return None  # missing, or no database: that is said elsewhere
    begun = any(name.startswith("_alembic_tmp_") for name in names)
    if not begun and ("alembic_version" in names or "experiments" not in names):
        return None
    return ConfigurationError(
        f"the MLflow store {file} is incomplete: making its tables was interrupted",
        fix=f"mv {file} {file}.broken; then `mlp runs sync` makes it anew from .mlp/runs",
    )


def make_folder(uri: str) -> None:
    """Make the folder of a SQLite store where there is none yet."""
    if uri.startswith(_SCHEME):
        make_unlisted(Path(file_of(uri)).parent)


def make_unlisted(folder: Path) -> None:
    """Make the folder, with what it will hold nothing for git to list or for DVC to search."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    for name in (".gitignore", ".dvcignore"):
        (folder / name).write_text("*\n", encoding="utf-8")
