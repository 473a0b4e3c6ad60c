"""What differs between two versions of a table, in bounded memory, asked of DuckDB."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.base import duckdb_files
from mlp.adapters.base.duckdb_files import exactly, literal
from mlp.core.compare import table_changes
from mlp.core.compare.table_changes import (
    ColumnChange,
    ColumnSummary,
    TableDifference,
    TableFormat,
    TypeChange,
)
from mlp.core.errors import ConfigurationError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = "1GB"  # what does not fit goes to the scratch directory
MAX_SUMMARISED = 200
TOP = 5
_BATCH = 50  # columns in one query
_EXTREME = "1e150"  # squares of larger numbers overflow a double
# What pandas reads as missing, so that a column of numbers with gaps is one of numbers here too.
_MISSING = ("", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None")
_DELIMITERS = b",;\t|"
_NUMBERS = (
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL"),
    *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"),
)
_MOMENTS = ("DATE", "TIME", "TIMESTAMP")


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that both versions have: where it is in each, and the type to compare it as."""

    name: str
    before: int
    after: int
    type: str

    @property
    def kind(self) -> str:
        base = self.type.partition("(")[0]
        if base in _NUMBERS:
            return "number"
        return "moment" if base.startswith(_MOMENTS) else "text"


def compare(
    before: Path, after: Path, form: TableFormat, *, scratch: Path | None = None
) -> TableDifference:
    """What differs between two versions of a table, whatever their files are called.

    Rows are compared as a multiset over the columns that both have, by name. What does not fit in
    `MEMORY` is spilled to a temporary directory in `scratch`. Raises ConfigurationError where a
    file cannot be read as `form`.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mlp-tables-", dir=scratch) as directory,
        _connected(directory) as connection,
    ):
        _load(connection, before, after, form)
        return _compare(connection)


@contextmanager
def _connected(scratch: str) -> Iterator["DuckDBPyConnection"]:
    import duckdb

    try:
        with duckdb_files.connected(scratch, MEMORY) as connection:
            yield connection
    except duckdb.Error as e:
        first = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ConfigurationError("the versions cannot be compared as tables", cause=first) from e


def _load(connection: "DuckDBPyConnection", before: Path, after: Path, form: TableFormat) -> None:
    """Make `before` and `after` of the database: text is parsed once, Parquet is read in place."""
    options = [_options(connection, file, form) for file in (before, after)]
    # A file without numbers may or may not look headed: the versions are read alike.
    headed = any(o.get("header") for o in options)
    for name, file, chosen in zip(("before", "after"), (before, after), options, strict=True):
        if "header" in chosen:
            chosen["header"] = headed
        given = "".join(f", {key} = {literal(value)}" for key, value in chosen.items())
        function = {"parquet": "read_parquet", "jsonl": "read_json"}.get(form.kind, "read_csv")
        kind = "VIEW" if form.kind == "parquet" else "TABLE"
        source = f"{function}({literal(exactly(file.absolute()))}{given})"
        connection.execute(f"CREATE {kind} {name} AS SELECT * FROM {source}")


def _options(connection: "DuckDBPyConnection", file: Path, form: TableFormat) -> dict[str, Any]:
    if form.kind == "parquet":
        return {}
    options: dict[str, Any] = {"compression": form.compression, "sample_size": -1}
    if form.kind == "jsonl":  # nested values stay text, which compares whatever their shape
        return options | {"format": "newline_delimited", "maximum_depth": 1}
    options |= {"delim": "\t" if form.kind == "tsv" else _delimiter(file, form)}
    options |= {"nullstr": list(_MISSING)}
    given = "".join(f", {key} = {literal(value)}" for key, value in options.items())
    sniffed = connection.execute(
        f"SELECT HasHeader FROM sniff_csv({literal(exactly(file.absolute()))}{given})"
    ).fetchone()
    return options | {"header": bool(sniffed and sniffed[0])}


def _delimiter(file: Path, form: TableFormat) -> str:
    """The one that the first line has most of: a guess from the values is misled by texts."""
    if form.compression != "none":
        return ","
    with file.open("rb") as opened:
        line = opened.readline(2**20)
    found = max(_DELIMITERS, key=line.count)
    return chr(found) if found in line else ","


def _compare(connection: "DuckDBPyConnection") -> TableDifference:
    old, new = _columns(connection, "before"), _columns(connection, "after")
    rows = [_one(connection, f"SELECT count(*) FROM {name}")[0] for name in ("before", "after")]
    common = _common(connection, old, new)
    added = removed = None
    changed: list[_Column] = []
    if common:
        added, removed = _rows(connection, old, new, common)
        changed = _changed(connection, old, new, common) if added or removed else []
    summarised = _summarised(connection, old, new, changed[:MAX_SUMMARISED])
    types = [
        TypeChange(c.name, old[c.name][1], new[c.name][1])
        for c in common
        if old[c.name][1] != new[c.name][1] and all(rows)  # an empty column has no type to speak of
    ]
    return TableDifference(
        rows_before=rows[0],
        rows_after=rows[1],
        added=added,
        removed=removed,
        unchanged=None if removed is None else rows[0] - removed,
        columns_added=tuple(name for name in new if name not in old),
        columns_removed=tuple(name for name in old if name not in new),
        types=tuple(types),
        columns=tuple(sorted(summarised, key=lambda c: -c.shift)),
        not_summarised=max(0, len(changed) - MAX_SUMMARISED),
    )


# Name -> position and type. Queries name columns by position (b0, a3): a name may be anything.
_Known = dict[str, tuple[int, str]]


def _columns(connection: "DuckDBPyConnection", table: str) -> _Known:
    described = connection.execute(f"SELECT * FROM {table} LIMIT 0").description or []
    return {str(d[0]): (i, str(d[1])) for i, d in enumerate(described)}


def _common(connection: "DuckDBPyConnection", old: _Known, new: _Known) -> list[_Column]:
    common = []
    for name, (before, type_before) in old.items():
        if name in new:
            after, type_after = new[name]
            column = _Column(name, before, after, type_before)
            if type_before != type_after:
                both = column.kind == _Column(name, 0, 0, type_after).kind == "number"
                column = _Column(name, before, after, "DOUBLE" if both else "VARCHAR")
            common.append(column)
    return common


def _both(old: _Known, new: _Known, columns: Sequence[_Column]) -> str:
    """The rows of both versions, with columns c0, c1, … and `side`: -1 before, 1 after."""

    def one(table: str, letter: str, known: _Known, side: int) -> str:
        names = ", ".join(f"{letter}{i}" for i in range(len(known)))
        chosen = ", ".join(
            f"CAST({letter}{c.before if letter == 'b' else c.after} AS {c.type}) AS c{i}"
            for i, c in enumerate(columns)
        )
        return f"SELECT {chosen}, {side} AS side FROM {table} AS t({names})"

    return f"({one('before', 'b', old, -1)} UNION ALL {one('after', 'a', new, 1)})"


def _rows(
    connection: "DuckDBPyConnection", old: _Known, new: _Known, common: Sequence[_Column]
) -> tuple[int, int]:
    """Rows added and removed: one grouping, which is EXCEPT ALL both ways and can spill."""
    keys = ", ".join(f"c{i}" for i in range(len(common)))
    added, removed = _one(
        connection,
        "SELECT coalesce(sum(n) FILTER (n > 0), 0), coalesce(-sum(n) FILTER (n < 0), 0) FROM"
        f" (SELECT sum(side) AS n FROM {_both(old, new, common)} GROUP BY {keys})",
    )
    return int(added), int(removed)


def _changed(
    connection: "DuckDBPyConnection", old: _Known, new: _Known, common: Sequence[_Column]
) -> list[_Column]:
    """The columns whose values, in whatever order, are not the same.

    The sum of the values' hashes tells: it is zero over both sides where they are the same (plus
    one each, as the hash of 0 is 0).
    """
    changed: list[_Column] = []
    for batch in _batches(common):
        sums = ", ".join(f"sum((hash(c{i})::HUGEINT + 1) * side)" for i in range(len(batch)))
        row = _one(connection, f"SELECT {sums} FROM {_both(old, new, batch)}")
        changed += [column for column, total in zip(batch, row, strict=True) if total != 0]
    return changed


def _summarised(
    connection: "DuckDBPyConnection", old: _Known, new: _Known, changed: Sequence[_Column]
) -> Iterator[ColumnChange]:
    for kind, summarise in (("number", _numbers), ("moment", _moments)):
        for batch in _batches([c for c in changed if c.kind == kind]):
            yield from summarise(connection, _both(old, new, batch), batch)
    for column in changed:
        if column.kind == "text":
            yield _text(connection, _both(old, new, [column]), column)


def _batches(columns: Sequence[_Column]) -> Iterator[Sequence[_Column]]:
    for start in range(0, len(columns), _BATCH):
        yield columns[start : start + _BATCH]


def _numbers(
    connection: "DuckDBPyConnection", both: str, batch: Sequence[_Column]
) -> Iterator[ColumnChange]:
    wanted = ["count(*)"]
    for i in range(len(batch)):
        value, fit = f"c{i}::DOUBLE", f"FILTER (abs(c{i}::DOUBLE) < {_EXTREME})"
        wanted += [
            f"count(*) FILTER (c{i} IS NULL OR isnan({value}))",
            f"count(*) FILTER (abs({value}) >= {_EXTREME} AND NOT isnan({value}))",
            *(f"{f}({value}) {fit}" for f in ("avg", "stddev_samp", "min", "max")),
        ]
    before, after = _sides(connection, both, wanted)
    for i, column in enumerate(batch):
        at = slice(1 + 6 * i, 7 + 6 * i)
        old, new = ColumnSummary(before[0], *before[at]), ColumnSummary(after[0], *after[at])
        yield ColumnChange(column.name, "number", old, new, table_changes.number_shift(old, new))


def _moments(
    connection: "DuckDBPyConnection", both: str, batch: Sequence[_Column]
) -> Iterator[ColumnChange]:
    wanted = ["count(*)"]
    for i in range(len(batch)):
        wanted += [f"count(*) FILTER (c{i} IS NULL)", f"min(c{i})::VARCHAR", f"max(c{i})::VARCHAR"]
    before, after = _sides(connection, both, wanted)
    for i, column in enumerate(batch):
        old, new = (
            ColumnSummary(row[0], row[1 + 3 * i], minimum=row[2 + 3 * i], maximum=row[3 + 3 * i])
            for row in (before, after)
        )
        yield ColumnChange(column.name, "moment", old, new, table_changes.moment_shift(old, new))


def _sides(
    connection: "DuckDBPyConnection", both: str, wanted: Sequence[str]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The aggregates of each version; those of a version without rows are nulls and zeros."""
    before, after = (
        _one(connection, f"SELECT {', '.join(wanted)} FROM {both} WHERE side = {side}")
        for side in (-1, 1)
    )
    return before, after


def _text(connection: "DuckDBPyConnection", both: str, column: _Column) -> ColumnChange:
    grouped = (
        "(SELECT c0 AS v, count(*) FILTER (side < 0) AS b, count(*) FILTER (side > 0) AS a"
        f" FROM {both} GROUP BY c0)"
    )
    counts = ", ".join(
        f"any_value(n{n}), coalesce(sum({n}) FILTER (v IS NULL), 0),"
        f" count(*) FILTER ({n} > 0 AND v NOT NULL)"
        for n in ("b", "a")
    )
    found = _one(
        connection,
        f"WITH g AS {grouped}, s AS (SELECT sum(b) AS nb, sum(a) AS na FROM g) SELECT {counts},"
        " sum(abs(b / greatest(nb, 1) - a / greatest(na, 1))) / 2 FROM g, s",
    )
    rows = [int(n) for n in found[:6]]
    old, new = (
        ColumnSummary(n, missing, distinct=distinct, top=_top(connection, grouped, side))
        for (n, missing, distinct), side in ((rows[:3], "b"), (rows[3:], "a"))
    )
    return ColumnChange(
        column.name, "text", old, new, table_changes.text_shift(old, new, float(found[6]))
    )


def _top(connection: "DuckDBPyConnection", grouped: str, side: str) -> tuple[tuple[str, int], ...]:
    found = connection.execute(
        f"SELECT left(v::VARCHAR, 60), {side} FROM {grouped} WHERE v NOT NULL AND {side} > 0"
        f" ORDER BY {side} DESC, v LIMIT {TOP}"
    ).fetchall()
    return tuple((str(value), int(count)) for value, count in found)


def _one(connection: "DuckDBPyConnection", query: str) -> tuple[Any, ...]:
    """The only row of a query that has one."""
    row = connection.execute(query).fetchone()
    assert row is not None
    return tuple(row)
