"""Single changes as lines of text: of data, code and environment."""

from collections.abc import Iterator, Sequence
from typing import Any

from mlp.cli import render
from mlp.core.compare.run_comparison import (
    Change,
    CodeDifference,
    DataChange,
    DirectoryDifference,
    EntryChange,
    EnvironmentDifference,
    FileChange,
)
from mlp.core.compare.table_changes import ColumnChange, ColumnSummary, TableDifference
from mlp.core.runs.pipeline import DataItem

_COLUMNS = 5
_ENTRIES = 8
_FOLLOWING = 12
_FILES = 30
_NOTABLE = 0.01  # the shift of a column from which on it is worth a line
_STATUS = {"modified": "changed", "added": "new", "deleted": "gone", "differs": "differs"}


def values(before: Any, after: Any) -> str:
    """ "0.01 -> 0.02", with as many digits as it takes to tell them apart; once where equal."""
    if isinstance(before, float | int) and isinstance(after, float | int):
        old, new = _number(before, 4), _number(after, 4)
        digits = 5
        while old == new and before != after and digits <= 17:
            old, new = _number(before, digits), _number(after, digits)
            digits += 1
    else:
        old, new = _value(before), _value(after)
    return old if old == new else f"{old} -> {new}"


def _value(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, float):
        return _number(value, 4)
    return " ".join(str(value).split()) or '""'


def _number(value: float, digits: int) -> str:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int) or (value == int(value) if abs(value) < 1e15 else False):
        return f"{int(value):,}"
    if 1000 <= abs(value) < 1e15:
        return f"{value:,.{max(1, digits - 4)}f}"
    return f"{value:.{digits}g}"


def data_lines(changes: Sequence[DataChange]) -> Iterator[str]:
    """Sources in full; what stages made of them in a line each."""
    for change in changes:
        if change.made_by is None:
            first, *rest = one_line(change)
            read = f"  (read by {', '.join(change.read_by)})" if change.read_by else ""
            yield f"{first}{read}"
            yield from (f"    {line}" for line in rest)
    made = [change for change in changes if change.made_by is not None]
    for change in made[:_FOLLOWING]:
        yield f"{change.path}: {_brief(change)}  (made by {change.made_by})"
    if len(made) > _FOLLOWING:
        yield f"and {len(made) - _FOLLOWING} more that stages made"


def code_lines(code: CodeDifference) -> Iterator[str]:
    """Files, then commands."""
    width = max((len(f.path) for f in code.files[:_FILES]), default=0)
    for file in code.files[:_FILES]:
        yield f"{file.path.ljust(width)}  {_file(file)}"
    if len(code.files) > _FILES:
        yield f"and {len(code.files) - _FILES} more files"
    for command in code.commands:
        yield f"command of {command.name}: {values(command.before, command.after)}"


def environment_lines(environment: EnvironmentDifference) -> Iterator[str]:
    """Python, packages, machine."""
    single = [change for change in (environment.python, environment.image) if change]
    changes = [*single, *environment.packages, *environment.machine]
    width = max((len(change.name) for change in changes), default=0)
    for change in changes:
        yield f"{change.name.ljust(width)}  {_versions(change)}"


def one_line(change: Change | FileChange | DataChange) -> list[str]:
    """A change in a line, and more of them where there is more to say of it."""
    if isinstance(change, FileChange):
        return [f"{change.path}  {_file(change)}"]
    if isinstance(change, Change):
        return [f"{change.name}: {_versions(change)}"]
    lines = [f"{change.path}: {_brief(change)}"]
    if change.table:
        lines += _table(change.table)
    if change.directory:
        lines += _entries(change.directory)
    return lines


def _versions(change: Change) -> str:
    if change.name == "memory":
        return f"{render.size(change.before)} -> {render.size(change.after)}"
    if isinstance(change.before, list) or isinstance(change.after, list):
        return f"{_listed(change.before)} -> {_listed(change.after)}"
    return values(change.before, change.after)


def _listed(value: Any) -> str:
    items = value if isinstance(value, list | tuple) else [value]
    return ", ".join(str(item) for item in items) or "none"


def _file(file: FileChange) -> str:
    status = "" if file.status == "modified" else f"  ({_STATUS.get(file.status, file.status)})"
    if file.added is None or file.removed is None:
        return status.strip() or "(binary)"
    return f"+{file.added:,} -{file.removed:,}{status}"


def _brief(change: DataChange) -> str:
    """What happened to a path, in one line."""
    if change.before is None:
        return f"new, {_size(change.after)}"
    if change.after is None:
        return f"gone, it had {_size(change.before)}"
    note = f"; {change.note}" if change.note else ""
    if change.table:
        return _rows(change.table) + note
    if change.directory:
        return _files(change.directory) + note
    old, new = change.before.size, change.after.size
    if old is None or new is None:
        return f"other content{note}"
    if old == new:
        return f"other content, {render.size(new)} as before{note}"
    sizes = [render.size(size) for size in (old, new)]
    if sizes[0] == sizes[1]:
        return f"other content, {old:,} -> {new:,} bytes{note}"
    return f"{sizes[0]} -> {sizes[1]}{note}"


def _size(item: DataItem | None) -> str:
    files = f" in {item.files:,} files" if item and item.files else ""
    return (render.size(item.size if item else None) or "of unknown size") + files


def _rows(table: TableDifference) -> str:
    total = f"of {table.rows_before:,}"
    if table.added is None or table.removed is None:
        return f"no column in common, rows {values(table.rows_before, table.rows_after)}"
    if not table.added and not table.removed:
        if table.columns_added or table.columns_removed:
            return f"the same {table.rows_before:,} rows in the columns that both have"
        return f"the same {table.rows_before:,} rows, in another order or written another way"
    parts = []
    if table.added:
        parts.append(f"+{table.added:,} {_plural('row', table.added)}")
    if table.removed:
        parts.append(f"-{table.removed:,} {_plural('row', table.removed)}")
    return f"{', '.join(parts)} {total}"


def _table(table: TableDifference) -> Iterator[str]:
    if table.columns_added:
        yield f"new {_plural('column', len(table.columns_added))} {_names(table.columns_added)}"
    if table.columns_removed:
        gone = table.columns_removed
        yield f"{_plural('column', len(gone))} gone: {_names(gone)}"
    for change in table.types[:_COLUMNS]:
        yield f"column {change.name}: type {change.before.lower()} -> {change.after.lower()}"
    notable = [column for column in table.columns if column.shift >= _NOTABLE][:_COLUMNS]
    for column in notable or table.columns[:1]:
        yield f"column {column.name}: {_column(column)}"
    rest = len(table.columns) - max(1, len(notable))
    if rest > 0:
        yield f"{rest} other {_plural('column', rest)} moved less"
    if table.not_summarised:
        yield f"{table.not_summarised} more columns differ"
    if (table.added or table.removed) and not table.columns:
        yield "every column has the same values: they moved between rows"


def _column(column: ColumnChange) -> str:
    old, new = column.before, column.after
    parts = []
    if column.kind == "number":
        for name in ("mean", "std", "minimum", "maximum"):
            pair = getattr(old, name), getattr(new, name)
            if pair[0] != pair[1]:
                parts.append(
                    f"{name[:3] if name[0] == 'm' and name != 'mean' else name} {values(*pair)}"
                )
    elif column.kind == "moment":
        spans = [f"{s.minimum} .. {s.maximum}" for s in (old, new)]
        parts.append(values(*spans))
    else:
        if old.distinct != new.distinct:
            parts.append(f"distinct {values(old.distinct, new.distinct)}")
        parts += _shares(old, new)
    if _missing(old) != _missing(new):
        parts.append(f"missing {_missing(old)} -> {_missing(new)}")
    return ", ".join(parts) or "other values"


def _shares(old: ColumnSummary, new: ColumnSummary) -> Iterator[str]:
    """The two frequent values whose shares moved most."""
    before, after = dict(old.top), dict(new.top)
    shares = {
        value: (before[value] / old.rows, after[value] / new.rows)
        for value in before
        if value in after and old.rows and new.rows
    }
    farthest = sorted(shares, key=lambda v: -abs(shares[v][1] - shares[v][0]))
    for value in farthest[:2]:
        one, other = (f"{share:.1%}" for share in shares[value])
        if one != other:
            yield f"{value!r} {one} -> {other}"


def _missing(summary: ColumnSummary) -> str:
    share = summary.missing / summary.rows if summary.rows else 0.0
    return f"{share:.1%}"


def _files(found: DirectoryDifference) -> str:
    total = found.removed + found.changed + found.unchanged
    parts = [
        f"{count:,} {_plural('file', count)} {word}"
        for count, word in (
            (found.changed, "changed"),
            (found.added, "new"),
            (found.removed, "gone"),
        )
        if count
    ]
    return f"{', '.join(parts)} of {total:,}" if parts else "the same files"


def _entries(found: DirectoryDifference) -> Iterator[str]:
    for entry in found.entries[:_ENTRIES]:
        yield f"{entry.path}: {_entry(entry)}"
        if entry.table:
            yield from (f"  {line}" for line in _table(entry.table))
    rest = found.added + found.removed + found.changed - min(_ENTRIES, len(found.entries))
    if rest > 0:
        yield f"and {rest:,} more {_plural('file', rest)}"


def _entry(entry: EntryChange) -> str:
    note = f"; {entry.note}" if entry.note else ""
    if entry.table:
        return _rows(entry.table) + note
    if entry.status != "modified":
        size = entry.size_after if entry.status == "added" else entry.size_before
        return f"{_STATUS[entry.status]} {render.size(size)}".strip() + note
    sizes = [render.size(size) or "?" for size in (entry.size_before, entry.size_after)]
    return ("other content" if sizes[0] == sizes[1] else f"{sizes[0]} -> {sizes[1]}") + note


def _names(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
