"""The tables that journals become, and how they are written as Parquet, piece by piece."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from mlp.adapters.predictions.records import moment
from mlp.core.serving.prediction_log import TABLES, LogRow, PredictionRow

if TYPE_CHECKING:
    import pyarrow

_ROWS = 20_000  # held in memory for a file, at most, or
_BYTES = 16 * 2**20  # of features
# DuckDB's names of the types that rows have; times are in UTC.
_TYPES = {
    str: "VARCHAR",
    int: "INTEGER",
    float: "DOUBLE",
    bool: "BOOLEAN",
    datetime: "TIMESTAMP",
    Sequence[float | None]: "DOUBLE[]",
}


def _columns(table: str) -> dict[str, str]:
    """The columns of a table, with DuckDB's names of their types."""
    columns = {}
    for name, hint in get_type_hints(TABLES[table]).items():
        kinds = [kind for kind in (hint, *get_args(hint)) if kind in _TYPES]
        columns[name] = _TYPES[kinds[0]]
    return columns


def no_rows(table: str) -> str:
    """A query that gives the table's columns, and no row."""
    columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _columns(table).items())
    return f"SELECT {columns} WHERE false"


def _schema(table: str) -> "pyarrow.Schema":
    import pyarrow as pa

    kinds = {
        "VARCHAR": pa.string(),
        "TIMESTAMP": pa.timestamp("us"),
        "DOUBLE": pa.float64(),
        "DOUBLE[]": pa.list_(pa.float64()),
        "INTEGER": pa.int32(),
        "BOOLEAN": pa.bool_(),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in _columns(table).items()])


class Writer:
    """Writes rows into one Parquet file for each table and day; `path` says where each lies."""

    def __init__(self, path: Callable[[str], Path], name: str) -> None:
        self.written: dict[str, Path] = {}  # by relative path, as in the destination
        self.rows = dict.fromkeys(TABLES, 0)
        self._path = path
        self._name = name
        self._names: dict[tuple[str, float], str] = {}
        self._files: dict[str, Any] = {}
        self._held: dict[str, list[LogRow]] = {}
        self._bytes: dict[str, int] = {}

    def add(self, table: str, row: LogRow, at: float) -> None:
        """Take a row; it goes to the partition of the day of `at`."""
        part = (table, at // 86400)
        relative = self._names.get(part)
        if relative is None:
            relative = f"{table}/date={moment(at):%Y-%m-%d}/{self._name}.parquet"
            self._names[part] = relative
            self._held.setdefault(relative, [])
            self._bytes[relative] = 0
        held = self._held[relative]
        held.append(row)
        self.rows[table] += 1
        if isinstance(row, PredictionRow):
            self._bytes[relative] += len(row.features or "")
        if len(held) >= _ROWS or self._bytes[relative] >= _BYTES:
            self._flush(relative)

    def close(self) -> None:
        """Finish all files."""
        for relative in self._held:
            self._flush(relative)
        for file in self._files.values():
            file.close()

    def _flush(self, relative: str) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        held, self._held[relative] = self._held[relative], []
        self._bytes[relative] = 0
        columns = _schema(relative.partition("/")[0])
        if relative not in self._files:
            path = self._path(relative)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.written[relative] = path
            self._files[relative] = parquet.ParquetWriter(path, columns, compression="zstd")
        if held:
            values = {name: [getattr(row, name) for row in held] for name in columns.names}
            self._files[relative].write_table(pa.Table.from_pydict(values, schema=columns))


@contextlib.contextmanager
def writing(path: Callable[[str], Path], name: str) -> Iterator[Writer]:
    """A writer whose files are finished at the end of the block, or removed if it fails."""
    writer = Writer(path, name)
    try:
        yield writer
        writer.close()
    except BaseException:
        for part in writer.written.values():
            part.unlink(missing_ok=True)
        raise
