"""Ask the log: DuckDB over its Parquet files and over what is not packed yet, in bounded memory."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlp.adapters.predictions import questions, records, segments, tables
from mlp.adapters.predictions.destination import Destination
from mlp.adapters.predictions.pack import convert
from mlp.core.errors import MlpError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = "1GB"  # what does not fit goes to a temporary directory
_THREADS = 4


@contextlib.contextmanager
def connect(
    destination: str | Path,
    journals: Sequence[Path] = (),
    *,
    files: Sequence[Path] = (),
    memory: str = MEMORY,
) -> Iterator["DuckDBPyConnection"]:
    """All that was acknowledged until now, as the views that `_views` describes.

    Times are in UTC. A connection sees records of `journals` as of when it was made. It reads the
    log and `files`, and nothing else of the machine or the network. Raises
    RemoteError where the destination does not answer, and ConfigurationError where it cannot be
    reached by anything that is installed.
    """
    import duckdb

    place = Destination(destination)
    with tempfile.TemporaryDirectory(prefix="mlp-log-") as scratch:
        mine = _snapshot(journals, Path(scratch))
        settings = {
            "memory_limit": memory,
            "temp_directory": f"{scratch}/spill",
            "threads": str(min(_THREADS, os.cpu_count() or 1)),
            "preserve_insertion_order": "false",
            # Everything used here is built in: nothing is fetched.
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        with duckdb.connect(f"{scratch}/log.duckdb", config=settings) as connection:
            connection.execute("SET enable_progress_bar = false")
            base = _base(connection, place)
            _views(connection, place, base, Path(scratch), mine)
            _confine(connection, [base, scratch], files)
            yield connection


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """DuckDB's errors over a query as ours. Raises UsageError for one that it refuses."""
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.HTTPException, duckdb.OutOfMemoryException) as e:
        raise MlpError("the log of predictions cannot be read", cause=str(e)) from e
    except duckdb.Error as e:
        raise questions.refused(e) from e


def _snapshot(journals: Sequence[Path], scratch: Path) -> list[str]:
    """Write what is not packed yet as Parquet into `scratch`; the names of those segments."""
    names = []
    for path in (found for folder in journals for found in segments.found(folder)):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # packed since it was listed
        try:
            data = segments.read(fd)
        finally:
            os.close(fd)
        with tables.writing(lambda relative: scratch / relative, path.stem) as writer:
            convert(path, data, writer, complete=False)
        names.append(path.stem)
    return names


def _base(connection: "DuckDBPyConnection", place: Destination) -> str:
    """Where the log lies, in DuckDB's words."""
    if not place.remote:
        return place.address
    filesystem, root = place.filesystem()
    connection.register_filesystem(filesystem)
    return f"{place.address.partition('://')[0]}://{root}"


def _confine(
    connection: "DuckDBPyConnection", folders: Sequence[str], files: Sequence[Path]
) -> None:
    """Whatever it is asked from now on, it opens what lies in `folders`, and `files`."""
    paths = [str(path.absolute()) for path in files]
    folders = [*folders, *map(_escaped, folders)]  # a pattern is looked at as it is written, too
    for name, places in (("allowed_directories", folders), ("allowed_paths", paths)):
        texts = ", ".join("'" + place.replace("'", "''") + "'" for place in places)
        connection.execute(f"SET {name} = [{texts}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _views(
    connection: "DuckDBPyConnection",
    place: Destination,
    base: str,
    scratch: Path,
    mine: Sequence[str],
) -> None:
    """Make the views.

    predictions, labels, gaps: all rows. latest: the last label told for each row. labelled:
    predictions with their label, for which there is one.
    """
    import pyarrow.parquet

    connection.execute("CREATE TABLE unpacked(name VARCHAR)")
    connection.executemany("INSERT INTO unpacked VALUES (?)", [[""], *([name] for name in mine)])
    for table in tables.TABLES:
        empty = scratch / table / "date=1970-01-01" / "none.parquet"
        empty.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(tables.schema(table).empty_table(), empty)
        source = _source(f"{_escaped(str(scratch))}/{table}/*/*.parquet")
        connection.execute(f"CREATE VIEW {table}_unpacked AS SELECT * FROM {source}")
        text = f"CREATE VIEW {table} AS SELECT * EXCLUDE (filename) FROM {table}_unpacked"
        if place.has(table):
            packed = _source(f"{base if place.remote else _escaped(base)}/{table}/*/*.parquet")
            # A segment that is still there may have Parquet files as well, if its packer died.
            text += (
                f" UNION ALL BY NAME SELECT * EXCLUDE (filename) FROM {packed}"
                " WHERE parse_filename(filename, true) NOT IN (SELECT name FROM unpacked)"
            )
        connection.execute(text)
    connection.execute(
        "CREATE VIEW latest AS SELECT request_id, row, last.* FROM (SELECT request_id, row,"
        " arg_max({label: label, label_number: label_number, labelled_at: time}, time) AS last"
        f" FROM {records.LABELS} GROUP BY request_id, row)"
    )
    connection.execute(
        f"CREATE VIEW labelled AS SELECT * FROM {records.PREDICTIONS}"
        " JOIN latest USING (request_id, row)"
    )


def _source(pattern: str) -> str:
    quoted = pattern.replace("'", "''")
    return (
        f"read_parquet('{quoted}', filename=true, union_by_name=true, hive_partitioning=true,"
        " hive_types={date: DATE})"
    )


def _escaped(path: str) -> str:
    """A path in which nothing stands for something else."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)
