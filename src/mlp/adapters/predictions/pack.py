"""Turn journals into Parquet: each segment once, whatever dies in between.

The files of a segment bear its name, and it is removed only when all of them are in place. Who is
killed before that leaves the segment, and the next packer writes the same files again.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlp.adapters.predictions import frames, parquet_tables, records, segments
from mlp.adapters.predictions.destination import Destination
from mlp.core.errors import RemoteError
from mlp.core.serving.prediction_log import GAPS, LABELS, PREDICTIONS, GapRow


@dataclass(frozen=True, slots=True)
class Packed:
    """What became of the segments that nobody writes to any more."""

    segments: int = 0  # that are Parquet now
    rows: int = 0  # of predictions
    labels: int = 0
    lost: int = 0  # predictions that the journal had no room for
    damaged: int = 0  # places where a segment could not be read
    waiting: int = 0  # segments left, because the destination cannot take them
    waiting_bytes: int = 0
    trouble: str = ""  # why, in a line


def pack(journal: Path, destination: str | Path) -> Packed:
    """Bring all complete segments of the folder `journal` to the destination.

    Several may do so at once. Where the destination does not take a segment, it stays, and the
    others with it: `waiting` and `trouble` tell. Raises ConfigurationError where the address cannot
    be reached by anything that is installed.
    """
    place = Destination(destination)
    done, trouble = [Packed()], ""
    for path in segments.found(journal):
        with segments.taken(path) as file:
            if file is None:
                continue
            try:
                done.append(_pack(path, file, place))
            except RemoteError as e:
                trouble = e.one_line()
            except OSError as e:  # a full disk, say
                trouble = f"{e.strerror}: {e.filename or place.address}"
            if trouble:
                break
            path.unlink()
    waiting = list(_waiting(journal)) if trouble else []
    return Packed(
        len(done) - 1,
        sum(one.rows for one in done),
        sum(one.labels for one in done),
        sum(one.lost for one in done),
        sum(one.damaged for one in done),
        len(waiting),
        sum(waiting),
        trouble,
    )


def _pack(path: Path, segment: int, place: Destination) -> Packed:
    with tempfile.TemporaryDirectory(prefix="mlp-pack-") as scratch:
        folder = Path(scratch)
        with parquet_tables.writing(
            lambda relative: place.part(relative, folder), path.stem
        ) as writer:
            lost, damaged = convert(path, segments.read(segment), writer, complete=True)
        for relative, part in writer.written.items():
            place.deliver(part, relative)
        rows = writer.rows
    return Packed(1, rows[PREDICTIONS], rows[LABELS], lost, damaged)


def convert(
    path: Path, data: bytes, writer: parquet_tables.Writer, *, complete: bool
) -> tuple[int, int]:
    """Write a segment's records as rows; how many were lost before it, and how many are damaged.

    A segment that is not `complete` may end in a record that is just being written.
    """
    reader = records.Reader(segments.made_at(path))
    lost = damaged = 0
    for found in frames.scan(data, frames.marker(path.stem)):
        trouble = ""
        if isinstance(found, frames.Frame):
            try:
                for table, row in list(reader.rows(found)):
                    lost += row.lost if isinstance(row, GapRow) else 0
                    writer.add(table, row, reader.at)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
                trouble = "not understood"
        elif complete or not found.torn:
            trouble = "torn" if found.torn else "damaged"
        if trouble:
            damaged += 1
            writer.add(GAPS, reader.gap(trouble, 0), reader.at)
    return lost, damaged


def _waiting(journal: Path) -> Iterator[int]:
    """The sizes of all segments that nobody holds."""
    for path in segments.found(journal):
        with segments.taken(path) as file:
            if file is not None:
                yield os.fstat(file).st_size
