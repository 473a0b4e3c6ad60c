"""The tables that journals become, and how they are written as Parquet, piece by piece."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.predictions.records import GAPS, LABELS, PREDICTIONS, Row, moment

if TYPE_CHECKING:
    import pyarrow

TABLES = (PREDICTIONS, LABELS, GAPS)
_ROWS = 20_000  # held in memory for a file, at most, or
_BYTES = 16 * 2**20  # of features


# The columns of each table with DuckDB's names of their types; times are in UTC.
_COLUMNS = {
    PREDICTIONS: {
        "request_id": "VARCHAR",
        "row": "INTEGER",
        "time": "TIMESTAMP",
        "model": "VARCHAR",
        "version": "VARCHAR",
        "run_id": "VARCHAR",
        "route": "VARCHAR",
        "user_key": "VARCHAR",
        "latency_ms": "DOUBLE",
        "status": "INTEGER",
        "failed": "BOOLEAN",
        "reason": "VARCHAR",
        "prediction": "VARCHAR",
        "prediction_number": "DOUBLE",
        "probabilities": "DOUBLE[]",
        "features": "VARCHAR",
    },
    LABELS: {
        "request_id": "VARCHAR",
        "row": "INTEGER",
        "time": "TIMESTAMP",
        "model": "VARCHAR",
        "label": "VARCHAR",
        "label_number": "DOUBLE",
    },
    GAPS: {
        "time": "TIMESTAMP",
        "model": "VARCHAR",
        "reason": "VARCHAR",
        "lost": "BIGINT",
        "since": "TIMESTAMP",
    },
}


def no_rows(table: str) -> str:
    """A query that gives the table's columns, and no row."""
    columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _COLUMNS[table].items())
    return f"SELECT {columns} WHERE false"


def _schema(table: str) -> "pyarrow.Schema":
    import pyarrow as pa

    kinds = {
        "VARCHAR": pa.string(),
        "TIMESTAMP": pa.timestamp("us"),
        "DOUBLE": pa.float64(),
        "DOUBLE[]": pa.list_(pa.float64()),
        "INTEGER": pa.int32(),
        "BIGINT": pa.int64(),
        "BOOLEAN": pa.bool_(),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in _COLUMNS[table].items()])


class Writer:
    """Writes rows into one Parquet file for each table and day; `path` says where each lies."""

    def __init__(self, path: Callable[[str], Path], name: str) -> None:
        self.written: dict[str, Path] = {}  # by relative path, as in the destination
        self.rows = dict.fromkeys(TABLES, 0)
        self._path = path
        self._name = name
        self._names: dict[tuple[str, float], str] = {}
        self._files: dict[str, Any] = {}
        self._held: dict[str, list[Row]] = {}
        self._bytes: dict[str, int] = {}

    def add(self, table: str, row: Row, at: float) -> None:
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
        self._bytes[relative] += len(row.get("features") or "")
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
            self._files[relative].write_table(pa.Table.from_pylist(held, schema=columns))


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
