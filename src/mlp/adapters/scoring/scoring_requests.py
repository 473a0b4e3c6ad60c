"""Reading a scoring request: how many rows it has, their keys, and some of its rows alone.

Nothing here depends on a model. What a request means for one, and whether it fits, is found when
the model answers it, by MLflow's own functions or by what is proven to do the same.
"""

import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from mlp.adapters.scoring import mlflow_server
from mlp.adapters.scoring.answers import Refusal
from mlp.core.serving.scoring_formats import (
    CSV,
    FORMATS,
    INPUTS,
    INSTANCES,
    JSON,
    SPLIT,
    columns_of,
    data_of,
)

if TYPE_CHECKING:
    from pandas import DataFrame

# Larger numbers without a point or an exponent are floats for orjson and integers for json.
LARGEST = 2.0**63


class ScoringRequest:
    """A request, or some of its rows. `content_type` and `body` are those of the whole request.

    `chosen` has the positions in the whole request of the rows that this one is about, None where
    it is the whole.
    """

    def __init__(
        self, body: bytes, content_type: str, document: Any, chosen: tuple[int, ...] | None = None
    ) -> None:
        self.body = body
        self.content_type = content_type
        self.document = document  # of a JSON request, as orjson reads it where it can
        self.chosen = chosen

    @cached_property
    def rows(self) -> int:
        """How many rows a prediction is wanted for; 1 where the request does not come in rows."""
        if self.chosen is not None:
            return len(self.chosen)
        found = self._length()
        return 1 if found is None else found

    @property
    def divisible(self) -> bool:
        """Whether the request comes in rows, so that `take` can be asked for some of them."""
        return self._length() is not None

    def keys(self, column: str) -> list[str] | None:
        """A column's value in each row as text, in the signature or not; None: it has none.

        Whole numbers are written without a point and a missing value is the empty text, so that a
        key is the same in each of the formats.
        """
        values = self._column(column)
        if values is None:
            return None
        if self.document is not None and any(
            type(value) is float and abs(value) >= LARGEST for value in values
        ):
            values = _column(json.loads(self.body), column) or values
        if self.chosen is not None:
            values = [values[row] for row in self.chosen]
        return [_text(value) for value in values]

    def take(self, rows: Sequence[int]) -> "ScoringRequest":
        """The request for some of its rows alone, in the order given."""
        chosen = tuple(rows if self.chosen is None else (self.chosen[row] for row in rows))
        return ScoringRequest(self.body, self.content_type, self.document, chosen)

    def some(self) -> dict[str, Any]:
        """The document of a JSON request for these rows; its integers from 2^63 on are floats."""
        document: dict[str, Any] = self.document
        return document if self.chosen is None else _some(document, self.chosen)

    def exact(self) -> bytes | dict[str, Any] | str:
        """What MLflow's server would be sent for these rows: the body, or JSON it takes as parsed.

        A content type of `JSON` goes with the latter.
        """
        if self.chosen is None:
            return self.body
        if self.document is not None:
            return _some(json.loads(self.body), self.chosen)
        frame = self._frame
        if frame is None:  # cannot be read: MLflow says why
            return self.body
        some = frame.iloc[list(self.chosen)]
        if mlflow_server.kind(self.content_type) == CSV:
            return str(some.to_csv(index=False))
        return bytes(some.to_parquet())

    def _length(self) -> int | None:
        if self.document is None:
            return None if self._frame is None else len(self._frame)
        rows = _rows(self.document)
        return None if rows is None else len(rows)

    def _column(self, column: str) -> list[Any] | None:
        if self.document is not None:
            return _column(self.document, column)
        if self._frame is None or column not in self._frame:
            return None
        return list(self._frame[column].tolist())

    @cached_property
    def _frame(self) -> "DataFrame | None":
        return mlflow_server.frame(self.body, self.content_type)


def read(body: bytes, content_type: str | None) -> ScoringRequest:
    """A request from its body; raises Refusal where nothing that it could mean is served."""
    if content_type is None:
        # MLflow's server fails on this, with a 500.
        raise Refusal(*mlflow_server.no_content_type())
    kind = _kind(content_type)
    if isinstance(kind, tuple):
        raise Refusal(*kind)
    document = _decoded(body) if kind == JSON else None
    return ScoringRequest(body, content_type, document)


@lru_cache(maxsize=256)
def _kind(content_type: str) -> str | tuple[int, bytes, str]:
    try:
        return mlflow_server.kind(content_type)
    except Refusal as refusal:
        return refusal.status, refusal.body, refusal.content_type


def _decoded(body: bytes) -> dict[str, Any]:
    """The object in the body: as orjson has it, which is stricter, or else as json has it."""
    import orjson

    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    return document if type(document) is dict else mlflow_server.decoded(body)


def _rows(document: dict[str, Any]) -> list[Any] | None:
    """Something with an element for each row, where the request comes in rows."""
    found = data_of(document)
    if found is None or mlflow_server.UNIFIED & document.keys():
        return None
    form, data = found
    if form == SPLIT:
        data = data.get("data") if isinstance(data, dict) else None
    if form in (INSTANCES, INPUTS) and isinstance(data, dict):
        columns = columns_of(data)
        return next(iter(columns.values())) if columns else None
    return data if isinstance(data, list) else None


def _column(document: dict[str, Any], column: str) -> list[Any] | None:
    """A column's value in each row."""
    rows, found = _rows(document), data_of(document)
    if rows is None or found is None:
        return _of_one_row(document, column)
    form, data = found
    if isinstance(data, dict) and form != SPLIT:
        return data.get(column)
    if isinstance(data, dict):
        columns = data.get("columns")
        if not isinstance(columns, list) or column not in columns:
            return None
        at = columns.index(column)
        if not all(isinstance(row, list) and len(row) > at for row in rows):
            return None
        return [row[at] for row in rows]
    if not any(isinstance(row, dict) and column in row for row in rows):
        return None
    return [row.get(column) if isinstance(row, dict) else None for row in rows]


def _of_one_row(document: dict[str, Any], column: str) -> list[Any] | None:
    """The value of a column that all of a request has: beside the data, or alone in its column."""
    beside = {name: value for name, value in document.items() if name not in FORMATS}
    for data in (beside, document.get(INPUTS), document.get(INSTANCES)):
        if not isinstance(data, dict) or column not in data:
            continue
        value = data[column]
        if isinstance(value, list) and len(value) == 1:
            return value
        if not isinstance(value, list | dict):
            return [value]
    return None


def _some(document: dict[str, Any], chosen: Sequence[int]) -> dict[str, Any]:
    """The same request for some of its rows."""
    found = data_of(document)
    assert found is not None, "it comes in rows"
    name, data = found
    if isinstance(data, list):
        return {**document, name: [data[row] for row in chosen]}
    by_row = ("data", "index") if name == SPLIT else data.keys()
    some = {
        key: [values[row] for row in chosen]
        if key in by_row and isinstance(values, list)
        else values
        for key, values in data.items()
    }
    return {**document, name: some}


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool | list | dict):
        return json.dumps(value)
    return str(value)
