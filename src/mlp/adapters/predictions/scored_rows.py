"""The rows of a request and of its answer, in MLflow's scoring protocol."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from mlp.core.serving.scoring_formats import CSV, INPUTS, PARQUET, SPLIT, columns_of, data_of


def of_request(body: bytes, content_type: str) -> list[Any] | None:
    """What the model was asked for, row by row; None where there are no rows to tell apart.

    A row with named columns is a mapping, one without is a list or a single value.
    """
    kind = content_type.partition(";")[0].strip()
    try:
        if kind == CSV:
            return _csv(body)
        if kind == PARQUET:
            return _parquet(body)
        return _json(loads(body))
    except (ValueError, TypeError, OSError):  # not what it claims to be: kept as it came
        return None


def of_answer(body: bytes, count: int | None) -> list[Any]:
    """What was answered, row by row; one row where it cannot be told apart into `count`."""
    try:
        answer = loads(body)
    except ValueError:
        return []
    found = answer.get("predictions", answer) if isinstance(answer, dict) else answer
    if isinstance(found, dict):
        columns = _columns(found)
        return columns if columns is not None and count in (None, len(columns)) else [found]
    return found if isinstance(found, list) else [found]


def number(value: Any) -> float | None:
    """A prediction or label as a number: itself, the only number in it, or what a text spells.

    None where it is none, or not a finite one.
    """
    while isinstance(value, list | dict) and len(value) == 1:
        value = value[0] if isinstance(value, list) else next(iter(value.values()))
    if not isinstance(value, bool | int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def loads(text: bytes) -> Any:
    """JSON, also with NaN and half surrogate pairs, which orjson refuses. Raises ValueError."""
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        import json

        try:
            return json.loads(text)
        except RecursionError as e:
            raise ValueError("nested too deeply") from e


def dumps(value: Any) -> str:
    """JSON; what is not a finite number becomes null."""
    import orjson

    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    try:
        return str(orjson.dumps(value, default=str, option=options), "utf-8")
    except TypeError:
        import json

        return json.dumps(value, default=str).encode("utf-8", "replace").decode()


def _json(body: Any) -> list[Any] | None:
    found = data_of(body)
    if found is None:
        return None
    form, data = found
    if form == SPLIT:
        return _split(data)
    if isinstance(data, list):
        return data
    if isinstance(data, dict):
        return _columns(data)
    return None if data is None or form != INPUTS else [data]


def _split(table: Any) -> list[Any] | None:
    if not isinstance(table, dict) or not isinstance(table.get("data"), list):
        return None
    rows: list[Any] = [row if isinstance(row, list | dict) else [row] for row in table["data"]]
    width = max((len(row) for row in rows), default=0)
    given = table.get("columns")
    names = [str(name) for name in (range(width) if given is None else given)]
    if len(set(names)) < len(names):
        return rows  # a mapping would lose columns of the same name
    return [row if isinstance(row, dict) else dict(zip(names, row, strict=False)) for row in rows]


def _columns(columns: Mapping[str, Any]) -> list[Any] | None:
    """Rows of a table that came by columns; one where its columns are single values."""
    if columns and not any(isinstance(value, list) for value in columns.values()):
        return [dict(columns)]
    table = columns_of(columns)
    if table is None:
        return None
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def _csv(body: bytes) -> list[Any]:
    """As MLflow's server reads it, types included, where the model has no signature."""
    import pandas

    table = pandas.read_csv(BytesIO(body))
    rows: list[Any] = table.to_dict("records")
    return rows  # what is missing is NaN, which becomes null


def _parquet(body: bytes) -> list[Any]:
    import pyarrow.parquet

    rows: list[Any] = pyarrow.parquet.read_table(BytesIO(body)).to_pylist()
    return rows


def aligned(values: Sequence[Any] | None, positions: Sequence[int]) -> Sequence[Any] | None:
    """One value for each of `positions`: `values` has as many, or one for each row asked for."""
    if values is None or len(values) == len(positions):
        return values
    if positions and max(positions) < len(values):
        return [values[position] for position in positions]
    return None
