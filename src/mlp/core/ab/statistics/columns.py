"""The log's columns as arrays that can be compared."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlp.core.ab.statistics.arms import Log
from mlp.core.ab.statistics.outcomes import outcome

Array = NDArray[Any]


def log(columns: Mapping[str, Any]) -> Log:
    """From what `adapters.predictions.samples` reads.

    Labels and predictions are numbers where they are, and texts otherwise. A prediction that is a
    list of numbers is taken for the probabilities of classes 0, 1, … where the log has none: the
    largest is the class that is predicted. Where the probability is a column of the answer, it is
    the only one.
    """
    prediction = _values(columns["prediction"], columns["prediction_number"])
    probability = _matrix(columns["probabilities"])
    if probability is None and np.isfinite(columns["probability"]).any():
        probability = columns["probability"].astype(float)[:, np.newaxis]
    if probability is None:
        prediction, probability = _lists(prediction)
    return Log(
        time=columns["time"].astype(float),
        version=columns["version"],
        route=columns["route"],
        request=columns["request_id"],
        row=columns["row"],
        key=columns["user_key"],
        prediction=prediction,
        probability=probability,
        label=_values(columns["label"], columns["label_number"]),
        latency_ms=columns["latency_ms"].astype(float),
        failed=columns["failed"].astype(bool),
    )


def _values(text: Array, number: Array) -> Array:
    """The number where there is one, otherwise what the text stands for, or None."""
    found = text.astype(object)
    known = np.isfinite(number)
    found[known] = number[known]
    rest = np.flatnonzero(~known)
    found[rest] = [outcome(value) if isinstance(value, str) else value for value in found[rest]]
    return found


def _matrix(lists: Array) -> Array | None:
    """Lists as rows, NaN where one is missing or of another length than most; None without any."""
    lengths = np.array([0 if row is None else len(row) for row in lists], int)
    width = int(np.bincount(lengths[lengths > 0]).argmax()) if (lengths > 0).any() else 0
    if width == 0:
        return None
    matrix = np.full((len(lists), width), np.nan)
    right = np.flatnonzero(lengths == width)
    matrix[right] = np.array([lists[at] for at in right], float)
    return matrix


def _lists(prediction: Array) -> tuple[Array, Array | None]:
    """Predictions that are lists of numbers as the class of the largest, and the lists."""
    lists = np.full(len(prediction), None, object)
    for at, value in enumerate(prediction):
        if isinstance(value, str) and value.startswith("["):
            lists[at] = _numbers(value)
    matrix = _matrix(lists)
    if matrix is None or matrix.shape[1] < 2:
        return prediction, None
    known = np.isfinite(matrix).all(1)
    prediction[known] = matrix[known].argmax(1).astype(float)
    return prediction, matrix


def _numbers(text: str) -> list[float] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    sound = isinstance(found, list) and all(isinstance(value, int | float) for value in found)
    return found if sound else None
