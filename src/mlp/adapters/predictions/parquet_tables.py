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


def schema(table: str) -> "pyarrow.Schema":
    """The columns of a table; times are in UTC."""
    import pyarrow as pa

    text, time, number = pa.string(), pa.timestamp("us"), pa.float64()
    columns = {
        PREDICTIONS: {
            "request_id": text,
            "row": pa.int32(),
            "time": time,
            "model": text,
            "version": text,
            "run_id": text,
            "route": text,
            "user_key": text,
            "latency_ms": number,
            "status": pa.int32(),
            "failed": pa.bool_(),
            "reason": text,
            "prediction": text,
            "prediction_number": number,
            "probabilities": pa.list_(number),
            "features": text,
        },
        LABELS: {
            "request_id": text,
            "row": pa.int32(),
            "time": time,
            "model": text,
            "label": text,
            "label_number": number,
        },
        GAPS: {
            "time": time,
            "model": text,
            "reason": text,
            "lost": pa.int64(),
            "since": time,
        },
    }
    return pa.schema(list(columns[table].items()))


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
        columns = schema(relative.partition("/")[0])
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
