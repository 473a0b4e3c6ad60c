"""Ask the log: DuckDB over its Parquet files and over what is not packed yet, in bounded memory."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlp.adapters.base import duckdb_files
from mlp.adapters.base.duckdb_files import exactly, literal
from mlp.adapters.predictions import parquet_tables, questions, records, segments
from mlp.adapters.predictions.destination import Destination
from mlp.adapters.predictions.pack import convert
from mlp.core.errors import MlpError
from mlp.core.serving.prediction_log import LABELS, PREDICTIONS, TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = "1GB"  # what does not fit goes to a temporary directory
_THREADS = 4
_DAY_S = 86400.0


@contextlib.contextmanager
def connect(
    destination: str | Path,
    journals: Sequence[Path] = (),
    *,
    files: Sequence[Path] = (),
    kept: Path | None = None,
    since: float = 0.0,
    memory: str = MEMORY,
) -> Iterator["DuckDBPyConnection"]:
    """All that was acknowledged until now, as the views that `_views` describes.

    Times are in UTC; of days before `since` (seconds since the epoch) there is nothing. It reads
    the log, of which a copy is `kept` where that is far away, and `files`; nothing else of the
    machine or the network. Raises RemoteError where the destination does not answer,
    ConfigurationError where it cannot be reached by anything that is installed, and MlpError where
    a file of the log cannot be read.
    """
    import duckdb

    place = Destination(destination)
    with tempfile.TemporaryDirectory(prefix="mlp-log-") as scratch:
        kept = kept or Path(scratch, "kept")
        with duckdb_files.connected(scratch, memory, _THREADS) as connection:
            try:
                _views(connection, _files(connection, place, journals, scratch, kept, since))
            except duckdb.Error as e:
                raise _unreadable(e) from e
            _confine(connection, [str(kept) if place.remote else place.address, scratch], files)
            yield connection


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """DuckDB's errors over a query as ours. Raises UsageError for one that it refuses."""
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.HTTPException, duckdb.OutOfMemoryException) as e:
        raise _unreadable(e) from e
    except duckdb.Error as e:
        raise questions.refused(e) from e


def _unreadable(error: Exception) -> MlpError:
    return MlpError("the log of predictions cannot be read", cause=str(error))


def _files(
    connection: "DuckDBPyConnection",
    place: Destination,
    journals: Sequence[Path],
    scratch: str,
    kept: Path,
    since: float,
) -> dict[str, list[Path]]:
    """The Parquet files of each table; what is not packed yet has some in `scratch`."""
    # First: what is packed in between is in both, and left out below.
    unpacked = {"none", *_snapshot(journals, Path(scratch))}
    # One day more, for the clocks of two machines are not the same.
    day = f"{records.moment(max(0.0, since - _DAY_S)):%Y-%m-%d}"
    found = {}
    for table in TABLES:
        empty = Path(scratch, table, "date=1970-01-01", "none.parquet")
        empty.parent.mkdir(parents=True, exist_ok=True)
        statement = f"COPY ({parquet_tables.no_rows(table)}) TO {literal(str(empty))}"
        connection.execute(f"{statement} (FORMAT parquet)")
        # A segment that is still there may have Parquet files as well, if its packer died.
        packed = [p for p in place.files(table, day, kept) if p.stem not in unpacked]
        found[table] = [*Path(scratch, table).glob("*/*.parquet"), *packed]
    return found


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
        with parquet_tables.writing(lambda relative: scratch / relative, path.stem) as writer:
            convert(path, data, writer, complete=False)
        names.append(path.stem)
    return names


def _confine(
    connection: "DuckDBPyConnection", folders: Sequence[str], files: Sequence[Path]
) -> None:
    """Whatever it is asked from now on, it opens what lies in `folders`, and `files`."""
    paths = [str(path.absolute()) for path in files]
    # A pattern is looked at as it is written, too.
    folders, paths = ([*places, *map(exactly, places)] for places in (folders, paths))
    for name, places in (("allowed_directories", folders), ("allowed_paths", paths)):
        connection.execute(f"SET {name} = {literal(places)}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _views(connection: "DuckDBPyConnection", files: Mapping[str, Sequence[Path]]) -> None:
    """Make the views, from the files of each table.

    predictions, labels, gaps: all rows. latest: the last label told for each row. labelled:
    predictions with their label, for which there is one.
    """
    for table, paths in files.items():
        # A path is a pattern, too: in these nothing stands for something else.
        names = ", ".join(literal(exactly(path)) for path in paths)
        connection.execute(
            f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{names}], union_by_name=true,"
            " hive_partitioning=true, hive_types={date: DATE})"
        )
    connection.execute(
        "CREATE VIEW latest AS SELECT request_id, row, last.* FROM (SELECT request_id, row,"
        " arg_max({label: label, label_number: label_number, labelled_at: time}, time) AS last"
        f" FROM {LABELS} GROUP BY request_id, row)"
    )
    connection.execute(
        f"CREATE VIEW labelled AS SELECT * FROM {PREDICTIONS} JOIN latest USING (request_id, row)"
    )
