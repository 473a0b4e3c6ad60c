"""The door to DuckDB: a connection in bounded memory, and texts and paths as its SQL takes them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@contextmanager
def connected(folder: str, memory: str, threads: int = 8) -> Iterator["DuckDBPyConnection"]:
    """A database in the folder, where what does not fit into `memory` ("1GB") is spilled, too.

    Each of the threads, at most one for each processor, needs memory of its own.
    Raises duckdb.Error, as all that is done with it.
    """
    import duckdb

    settings = {
        "memory_limit": memory,
        "temp_directory": f"{folder}/spill",
        "threads": str(min(threads, os.cpu_count() or 1)),
        "preserve_insertion_order": "false",
        # Everything used here is built in: nothing is fetched.
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    with duckdb.connect(f"{folder}/mlp.duckdb", config=settings) as connection:
        connection.execute("SET enable_progress_bar = false")
        yield connection


def literal(value: object) -> str:
    """A text, number, truth value or list in SQL."""
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, bool | int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def exactly(path: str | Path) -> str:
    """A pattern that only this path matches: DuckDB takes paths as glob patterns."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))
