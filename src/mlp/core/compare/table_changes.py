"""What differs between two versions of a table, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass

_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True, slots=True)
class TableFormat:
    """How a table's file is to be read: csv, tsv, parquet or jsonl; none, gzip or zstd."""

    kind: str
    compression: str


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """One column of one version. Missing values are nulls and NaN.

    `mean`, `std`, `minimum` and `maximum` are those of the finite numbers (magnitudes of 1e150 and
    more count as `extreme`, like infinities); of dates, the first and the last. `distinct` and
    `top` (the most frequent values with their counts) are those of anything else.
    """

    rows: int
    missing: int
    extreme: int = 0
    mean: float | None = None
    std: float | None = None
    minimum: float | str | None = None
    maximum: float | str | None = None
    distinct: int | None = None
    top: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A column whose values are not the same in both versions.

    `shift` says how far it moved, to sort by: for numbers the distance of the means in standard
    deviations or the change of the spread, otherwise the share of rows that moved to other values;
    at least the change in the share of missing values.
    """

    name: str
    kind: str  # number, moment, text
    before: ColumnSummary
    after: ColumnSummary
    shift: float


@dataclass(frozen=True, slots=True)
class TypeChange:
    """A column whose type differs, in DuckDB's words."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class TableDifference:
    """Rows as a multiset over the columns that both versions have; order never counts.

    `added`, `removed` and `unchanged` are None where the versions share no column.
    """

    rows_before: int
    rows_after: int
    added: int | None
    removed: int | None
    unchanged: int | None
    columns_added: Sequence[str]
    columns_removed: Sequence[str]
    types: Sequence[TypeChange]
    columns: Sequence[ColumnChange]  # the farthest moved first
    not_summarised: int = 0  # changed columns beyond the limit of what is summarised


def format_of(path: str) -> TableFormat | None:
    """The format that a file's name speaks of, None where it is not a table's."""
    name = path.lower()
    compression = "none"
    for suffix, known in _COMPRESSIONS.items():
        if name.endswith(suffix):
            name, compression = name.removesuffix(suffix), known
    kind = next((k for suffix, k in _FORMATS.items() if name.endswith(suffix)), None)
    return TableFormat(kind, compression) if kind else None


def number_shift(before: ColumnSummary, after: ColumnSummary) -> float:
    """How far a column of numbers moved: in standard deviations, of mean, spread or range."""
    moved = [_missing_shift(before, after)]
    if before.mean is not None and after.mean is not None:
        unit = before.std or after.std or abs(before.mean) or 1.0
        moved.append(abs(after.mean - before.mean) / unit)
        if before.std is not None and after.std is not None:
            moved.append(abs(after.std - before.std) / unit)
    return max(moved)


def moment_shift(before: ColumnSummary, after: ColumnSummary) -> float:
    """How far a column of dates moved: a new first or last one counts as a tenth."""
    ends = (before.minimum, before.maximum) != (after.minimum, after.maximum)
    return max(_missing_shift(before, after), 0.1 if ends else 0.0)


def text_shift(before: ColumnSummary, after: ColumnSummary, moved: float) -> float:
    """How far a column of text moved; `moved` is the share of rows with other values."""
    return max(_missing_shift(before, after), moved)


def _missing_shift(before: ColumnSummary, after: ColumnSummary) -> float:
    return abs(_share(after) - _share(before))


def _share(summary: ColumnSummary) -> float:
    return summary.missing / summary.rows if summary.rows else 0.0
