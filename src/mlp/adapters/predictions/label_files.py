"""Labels from a file: CSV, JSON lines or Parquet with request_id, label and, optionally, row."""

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.base.duckdb_files import exactly, literal
from mlp.adapters.predictions.samples import json_path
from mlp.core.errors import UsageError
from mlp.core.serving.prediction_log import Label

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_BATCH = 1000  # labels in one record of the journal
_MOST_PREDICTED = 5000  # different predictions; more are not classes
_READERS = {
    # Guessed, quotes could be those of a label: 'a' would become a.
    ".csv": """read_csv({}, all_varchar=true, header=true, quote='"', escape='"', comment='')""",
    ".jsonl": "read_json({}, format='newline_delimited', maximum_depth=1)",
    ".parquet": "read_parquet({})",
}


def attach(log: "DuckDBPyConnection", path: Path) -> None:
    """Make the file the table `told` of the connection.

    Raises UsageError where it is no such file, or has not the columns.
    """
    import duckdb

    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"labels come from {', '.join(_READERS)} files, and this is {path.name}")
    quoted = literal(exactly(path.absolute()))
    try:
        relation = log.sql(f"SELECT * FROM {reader.format(quoted)}")
        have = relation.columns
        missing = [name for name in ("request_id", "label") if name not in have]
        if missing:
            raise UsageError(
                f"{path.name} has no column {' and none named '.join(missing)}"
                f" (have: {', '.join(have)})"
            )
        text = "request_id->>'$'" if path.suffix.lower() == ".jsonl" else "request_id::VARCHAR"
        row = "row::VARCHAR" if "row" in have else "'0'"
        log.execute(
            "CREATE TEMP TABLE told AS SELECT *, TRY_CAST(said AS INTEGER) AS row,"
            " coalesce(row >= 0 AND row = TRY_CAST(said AS DOUBLE), false) AS fits FROM ("
            f"SELECT {text} AS request_id, coalesce({row}, '0') AS said, label"
            f" FROM {reader.format(quoted)})"
        )
        (unnamed,) = log.execute(
            "SELECT count(*) FROM told WHERE request_id IS NULL"
        ).fetchone() or (0,)
        wrong = log.execute(
            "SELECT said, request_id, count(*) OVER () FROM told WHERE NOT fits LIMIT 1"
        ).fetchone()
    except duckdb.Error as e:
        raise UsageError(f"cannot read labels from {path}", cause=str(e)) from e
    if unnamed:
        raise UsageError(f"{path.name}: {_lines(unnamed)} no request_id")
    if wrong is not None:
        said, request_id, count = wrong
        raise UsageError(
            f"{path.name}: {_lines(count)} a row that is not a position, such as {said!r} of"
            f" request {request_id}",
            fix="row is the position in the request: 0, 1, …; empty means 0",
        )


def batches(
    log: "DuckDBPyConnection", path: Path, names: Collection[str] = ()
) -> Iterator[Sequence[Label]]:
    """The labels of `told`, those that are empty left out.

    `names` are classes that are texts: a label 101 of a class "101" is a text, too.
    """
    value = _of_parquet if path.suffix.lower() == ".parquet" else of_text
    log.execute("SELECT request_id, row, label FROM told WHERE label IS NOT NULL")
    while found := log.fetchmany(_BATCH):
        yield [
            Label(request_id, str(label) if str(label) in names else value(label), row)
            for request_id, row, label in found
        ]


def counts(log: "DuckDBPyConnection") -> tuple[int, int]:
    """How many labels of `told` are of rows that the log does not have, and how many are empty."""
    unknown = log.execute(
        "SELECT count(*) FROM told ANTI JOIN predictions USING (request_id, row)"
        " WHERE label IS NOT NULL"
    ).fetchone()
    empty = log.execute("SELECT count(*) FROM told WHERE label IS NULL").fetchone()
    return (unknown or (0,))[0], (empty or (0,))[0]


def distinct(log: "DuckDBPyConnection", path: Path) -> dict[str, int]:
    """How often each label of `told` comes, by its text as the log will have it."""
    value = _of_parquet if path.suffix.lower() == ".parquet" else of_text
    found = log.execute(
        "SELECT label, count(*) FROM told WHERE label IS NOT NULL GROUP BY ALL"
    ).fetchall()
    return {_written(value(label)): count for label, count in found}


def predicted(log: "DuckDBPyConnection", model: str, column: str | None) -> dict[str, bool]:
    """The different predictions of all versions of a model as texts, and whether each is a text in
    the answers, too."""
    path = "'$'" if column is None else json_path(column)
    found = log.execute(
        f"SELECT prediction->>{path} AS said, bool_and(json_type(prediction, {path}) = 'VARCHAR')"
        " FROM predictions WHERE model = ? AND said IS NOT NULL GROUP BY said"
        f" LIMIT {_MOST_PREDICTED}",
        [model],
    ).fetchall()
    return dict(found)


def _written(label: Any) -> str:
    import json

    return label if isinstance(label, str) else json.dumps(label)


def _lines(count: int) -> str:
    return "a line has" if count == 1 else f"{count} lines have"


def of_text(text: str) -> Any:
    """What JSON makes of it, or a boolean in any spelling; the text itself where that is nothing,
    no finite number, or one that is written otherwise (a class 1e3 or 1.50 keeps its name)."""
    import json

    if text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    try:
        value = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
    number = isinstance(value, int | float)
    if value is None or _infinite(value) or (number and json.dumps(value) != text.strip()):
        return text
    return value


def _of_parquet(value: Any) -> Any:
    plain = isinstance(value, bool | int | float | str | list | dict)
    return value if plain and not _infinite(value) else str(value)


def _infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
