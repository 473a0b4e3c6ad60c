"""Labels that come back: what turned out to be true for predictions, by request id."""

import time
from typing import Any

from mlp.adapters.predictions.journal import Journal
from mlp.core.predictions import Label
from mlp.runtime.serving.messages import problem


def take(body: bytes, journal: Journal) -> tuple[int, bytes]:
    """Write labels down, all or none of them; returns status and body of the answer."""
    import orjson

    try:
        labels = parse(orjson.loads(body))
    except ValueError as e:
        return 400, problem(str(e))
    if not journal.label(labels):
        return 503, problem("the log cannot be written; try again")
    return 200, b'{"accepted": %d}' % len(labels)


def parse(document: Any) -> list[Label]:
    """The labels in a document: one object or a list. Raises ValueError where it is neither."""
    items = document if isinstance(document, list) else [document]
    return [_label(item, time.time()) for item in items]


def _label(item: Any, now: float) -> Label:
    if not isinstance(item, dict) or not isinstance(item.get("request_id"), str):
        raise ValueError("feedback is {request_id, label, row?}, or a list of such objects")
    unknown = item.keys() - {"request_id", "label", "row"}
    if unknown or "label" not in item:
        raise ValueError(f"feedback has request_id, label and row; this one has {sorted(item)}")
    row = item.get("row", 0)
    if type(row) is not int or row < 0:
        raise ValueError(f"row is a position in the request, from 0 on, not {row!r}")
    return Label(item["request_id"], item["label"], row, now)
