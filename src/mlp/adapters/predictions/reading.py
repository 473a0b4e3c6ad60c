"""Ask the log: DuckDB over its Parquet files and over what is not packed yet, in bounded memory."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlp.adapters.predictions import records, segments, tables
from mlp.adapters.predictions.destination import Destination
from mlp.adapters.predictions.pack import convert
from mlp.core.errors import MlpError, UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = "1GB"  # what does not fit goes to a temporary directory
_THREADS = 4


@contextlib.contextmanager
def connect(
    destination: str | Path, journals: Sequence[Path] = (), *, memory: str = MEMORY
) -> Iterator["DuckDBPyConnection"]:
    """All that was acknowledged until now, as the views that `_views` describes.

    Times are in UTC. A connection sees records of `journals` as of when it was made. Raises
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
            _views(connection, place, Path(scratch), mine)
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
        raise UsageError(
            "DuckDB refuses this query",
            fix="DESCRIBE predictions shows the columns; also: labels, labelled, gaps",
            cause=str(e),
        ) from e


def only_reads(connection: "DuckDBPyConnection", sql: str) -> None:
    """Raises UsageError unless `sql` is one statement, which reads."""
    import duckdb

    with translated():
        statements = connection.extract_statements(sql)
    kinds = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if len(statements) != 1 or statements[0].type not in kinds:
        raise UsageError("the log takes one question: SELECT, DESCRIBE or EXPLAIN")


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


def _views(
    connection: "DuckDBPyConnection", place: Destination, scratch: Path, mine: Sequence[str]
) -> None:
    """Make the views.

    predictions, labels, gaps: all rows. latest: the last label told for each row. labelled:
    predictions with their label, for which there is one.
    """
    import pyarrow.parquet

    if place.remote:
        filesystem, root = place.filesystem()
        connection.register_filesystem(filesystem)
        base = f"{place.address.partition('://')[0]}://{root}"
    else:
        base = _escaped(place.address)
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
            packed = _source(f"{base}/{table}/*/*.parquet")
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
