"""Labels that come back: what turned out to be true for predictions, by request id."""

import json
import re
import time
from typing import Any

from mlp.adapters.predictions.prediction_journal import PredictionJournal
from mlp.core.serving.prediction_log import ROWS, Label
from mlp.runtime.serving.messages import problem

# Where orjson might make a float of an integer, without a word.
_LONG = re.compile(rb"\d{19}")


def take(body: bytes, journal: PredictionJournal) -> tuple[int, bytes]:
    """Write labels down, all or none of them; returns status and body of the answer."""
    try:
        labels = parse(_read(body))
    except ValueError as e:
        return 400, problem(str(e))
    if not journal.label(labels):
        return 503, problem("the log cannot be written; try again")
    return 200, b'{"accepted": %d}' % len(labels)


def _read(body: bytes) -> Any:
    """The JSON document. Raises ValueError where it is none, or would not be kept as it is."""
    import orjson

    document = orjson.loads(body)
    if _LONG.search(body):
        try:
            json.loads(body, parse_int=_exact)
        except RecursionError as e:
            raise ValueError("nested too deeply") from e
    return document


def _exact(digits: str) -> None:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise ValueError(f"{digits[:30]} is beyond 64 bits and would be rounded; send it as text")


def parse(document: Any) -> list[Label]:
    """The labels in a document: one object or a list. Raises ValueError where it is neither."""
    items = document if isinstance(document, list) else [document]
    return [_label(item, time.time()) for item in items]


def _label(item: Any, now: float) -> Label:
    request_id = item.get("request_id") if isinstance(item, dict) else None
    if not isinstance(request_id, str) or not request_id:
        raise ValueError("feedback is {request_id, label, row?}, or a list of such objects")
    unknown = item.keys() - {"request_id", "label", "row"}
    if unknown or "label" not in item:
        raise ValueError(f"feedback has request_id, label and row; this one has {sorted(item)}")
    if item["label"] is None:
        raise ValueError("label null tells nothing; leave it out until the label is known")
    row = item.get("row", 0)
    if type(row) is not int or not 0 <= row < ROWS:
        raise ValueError(f"row is a position in the request, from 0 on, not {row!r}")
    return Label(request_id, item["label"], row, now)
