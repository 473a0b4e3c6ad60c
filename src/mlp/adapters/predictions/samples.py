"""What a verdict is reached from: rows of two versions as columns of numbers and texts."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlp.adapters.predictions.log_reading import translated

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Columns = dict[str, Any]  # of numpy arrays, all of the same length


def samples(
    log: "DuckDBPyConnection",
    model: str,
    versions: Sequence[str],
    *,
    since: float = 0.0,
    until: float | None = None,
    routes: Sequence[str] = (),
    prediction: str | None = None,
    probability: str | None = None,
) -> Columns:
    """Rows of `versions`, labelled or not, the oldest first, as numpy arrays by name.

    request_id, row, version, route, user_key (None without one), time (seconds, epoch), latency_ms,
    failed (bool), prediction and label (texts; None without one), prediction_number and
    label_number (NaN where the text is not a number), probability (of the second of two classes, or
    of the only one; NaN otherwise), probabilities (an array for each row, or None). `since`,
    `until`: seconds since the epoch; `routes`: all unless given; `prediction`, `probability`: the
    columns that hold them where an answer has several. All rows are in memory then.
    Raises MlpError where the log cannot be read.
    """
    marks = ", ".join("?" for _ in versions)
    conditions = [f"model = ? AND version IN ({marks})"]
    values: list[Any] = [model, *versions]
    # Days are folders, so that rows of other days are not read.
    if since:
        conditions.append("date >= make_timestamp(?)::DATE AND time >= make_timestamp(?)")
        values += [int(since * 1e6)] * 2
    if until is not None:
        conditions.append("date <= make_timestamp(?)::DATE AND time < make_timestamp(?)")
        values += [int(until * 1e6)] * 2
    if routes:
        conditions.append(f"route IN ({', '.join('?' for _ in routes)})")
        values += routes
    with translated():
        query = _QUERY.format(where=" AND ".join(conditions), **_columns(prediction, probability))
        found = log.execute(query, values).fetchnumpy()
    return {name: _plain(column) for name, column in found.items()}


_QUERY = """
SELECT request_id, row, version, route, user_key, epoch(time) AS time, latency_ms, failed,
  {prediction} AS prediction, coalesce({number}, 'nan'::DOUBLE) AS prediction_number,
  label->>'$' AS label, coalesce(label_number, 'nan'::DOUBLE) AS label_number,
  coalesce({probability}, 'nan'::DOUBLE) AS probability,
  probabilities
FROM predictions LEFT JOIN latest USING (request_id, row)
WHERE {where}
ORDER BY time, request_id, row, route
"""


def _columns(prediction: str | None, probability: str | None) -> dict[str, str]:
    """What the query reads a prediction, its number and its probability from."""
    text, number = "prediction->>'$'", "prediction_number"
    if prediction is not None:
        text = f"prediction->>{json_path(prediction)}"
        number = f"TRY_CAST({text} AS DOUBLE)"
    likely = "CASE len(probabilities) WHEN 1 THEN probabilities[1] WHEN 2 THEN probabilities[2] END"
    if probability is not None:
        likely = f"TRY_CAST(prediction->>{json_path(probability)} AS DOUBLE)"
    return {"prediction": text, "number": number, "probability": likely}


def json_path(column: str) -> str:
    """A column of an answer as a path into its JSON, quoted for SQL."""
    name = json.dumps(column, ensure_ascii=False)
    return "'$." + name.replace("'", "''") + "'"


def _plain(column: Any) -> Any:
    """An array without a mask: None stands for what is missing in a column of objects."""
    import numpy as np

    if not isinstance(column, np.ma.MaskedArray):
        return column
    values = column.data
    if values.dtype == object:
        values[np.ma.getmaskarray(column)] = None
    return values
