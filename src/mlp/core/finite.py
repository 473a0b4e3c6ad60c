"""NaN and infinities, for which JSON has no number and MLflow's SQL stores no value."""

import math
import sys
from collections.abc import Mapping
from typing import Any


def for_json(value: Any) -> Any:
    """`value` with null in place of every NaN and infinity, as JavaScript writes them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: for_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(inner) for inner in value]
    return value


def from_mlflow(value: float) -> float:
    """A metric's value as it was logged: MLflow's SQL stores keep the largest number of a double
    for infinity."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value
