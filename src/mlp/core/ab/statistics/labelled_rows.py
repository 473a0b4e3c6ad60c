"""What the metrics are computed from: labelled rows of both arms, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlp.core.ab.statistics.outcomes import outcome
from mlp.core.errors import ConfigurationError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """One entry per row and arm.

    `arm` is 0 for the champion and 1 for the challenger; `user` numbers the independent units from
    0 to `users` - 1; `weight` makes arms comparable where the share changed (`exposure.weights`).
    `probability` holds a column per class in the order of `classes`, or one column: the score of
    the positive class.
    """

    arm: Array
    user: Array
    users: int
    weight: Array
    label: Array
    prediction: Array
    probability: Array | None = None

    def numbers(self, name: str, of: Array) -> Array:
        """`of` as floats. Raises ConfigurationError where that cannot be, for the metric `name`."""
        try:
            return of.astype(float)
        except (TypeError, ValueError) as e:
            raise ConfigurationError(
                f"{name} needs numbers, and the log has {_first_text(of)!r}",
                fix="choose a metric for classes with ab.metric, or correct the labels",
            ) from e


@dataclass(frozen=True, slots=True)
class Classes:
    """Labels and predictions as positions in `names`, which are sorted."""

    label: Array
    prediction: Array
    names: Sequence[Any]


def classes(rows: LabelledRows) -> Classes:
    """The classes of labels and predictions; "1", 1, 1.0 and true are one class."""
    n = len(rows.label)
    both = np.concatenate([rows.label, rows.prediction])
    try:
        both = both.astype(float)
    except (TypeError, ValueError):
        both = np.array([_text(value) for value in both])
    names, codes = np.unique(both, return_inverse=True)
    return Classes(codes[:n], codes[n:], tuple(names.tolist()))


def positive(found: Classes, metric: str, wanted: str | None) -> int:
    """The position of the positive class: `wanted`, or the last of at most two (1, true, yes).

    Raises ConfigurationError where there are more than two and none is wanted, or it is not there.
    """
    if wanted is not None:
        texts = [_text(name) for name in found.names]
        number = _text(outcome(wanted))
        for text in (wanted, number):
            if text in texts:
                return texts.index(text)
        return -1 if len(found.names) < 2 else _absent(wanted, texts)
    if len(found.names) > 2:
        raise ConfigurationError(
            f"{metric} is of two classes, and the log has {len(found.names)}",
            fix="use f1_macro, precision_macro, recall_macro or accuracy, or set ab.positive",
        )
    return len(found.names) - 1


def _absent(wanted: str, have: Sequence[str]) -> int:
    raise ConfigurationError(
        f"ab.positive is {wanted!r}, which is not a class of the log (have: {', '.join(have)})"
    )


def _text(name: object) -> str:
    if isinstance(name, float) and name.is_integer():
        return str(int(name))  # all digits of it: a class may be a long number
    return str(name)


def _first_text(of: Array) -> object:
    for value in of:
        try:
            float(value)
        except (TypeError, ValueError):
            return value
    return ""
