"""Whether what somebody asks the log only reads: DuckDB writes from inside of some SELECTs too."""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlp.core.errors import UsageError
from mlp.core.nearest import did_you_mean

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

VIEWS = ("predictions", "labels", "latest", "labelled", "gaps")

# What stands before the statement that is explained; anything else is left to be refused.
_EXPLAIN = re.compile(
    r"\A\s*explain\b(?:\s+analyze\b)?(?:\s*\((?:analyze|format\s+\w+|[,\s])*\))?", re.IGNORECASE
)
# The body of a CTE may be a COPY, an INSERT, …: https://duckdb.org/docs/stable/sql/query_syntax/with
_READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
# They run what only a text holds, which nobody has looked at.
_RUNNING = {"query", "query_table", "json_execute_serialized_sql"}
_NO_TABLE = re.compile(r'Table with name "?(.+?)"? does not exist!')


def only_reads(connection: "DuckDBPyConnection", sql: str) -> None:
    """Raises UsageError unless `sql` is one statement, which reads."""
    inner = _EXPLAIN.sub("", sql, count=1)
    (text,) = connection.execute("SELECT json_serialize_sql(?)", [inner]).fetchone() or ("{}",)
    found = json.loads(text)
    if found.get("error") and found.get("error_type") == "parser":
        raise UsageError("DuckDB cannot read this query", fix=_fix(), cause=found["error_message"])
    if found.get("error") or len(found.get("statements", ())) != 1:
        raise UsageError(
            "the log takes one question, which reads: SELECT, DESCRIBE, SUMMARIZE or EXPLAIN",
            fix=_fix(),
        )
    for key, value in _all(found["statements"]):
        if key == "type" and value.endswith("_NODE") and value not in _READING:
            raise UsageError(
                "a question may not write: its WITH has a statement that is not a SELECT",
                fix=_fix(),
            )
        if key == "function_name" and value.lower() in _RUNNING:
            raise UsageError(f"a question may not run others by {value}()", fix=_fix())


def refused(error: Exception) -> UsageError:
    """DuckDB's word against a question in ours."""
    text = str(error)
    missing = _NO_TABLE.search(text)
    if missing is not None:
        near = did_you_mean(missing[1], VIEWS)
        return UsageError(
            f"the log has no table {missing[1]!r} (have: {', '.join(VIEWS)}){near}",
            fix="DESCRIBE predictions shows the columns of one",
        )
    if "file system operations are disabled" in text:
        return UsageError("a question reads the log, and no other files", fix=_fix(), cause=text)
    return UsageError("DuckDB refuses this query", fix=_fix(), cause=text)


def _fix() -> str:
    return f"ask about {', '.join(VIEWS)}; DESCRIBE predictions shows the columns of one"


def _all(tree: Any) -> Iterator[tuple[str, str]]:
    """The keys of a tree of mappings and lists whose values are texts, with these."""
    if isinstance(tree, list):
        for item in tree:
            yield from _all(item)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if isinstance(value, str):
                yield key, value
            else:
                yield from _all(value)
