"""The metrics by name: what each sums up over rows, and which way is better."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlp.core.ab.statistics import sums
from mlp.core.ab.statistics.labelled_rows import Classes, LabelledRows, classes, positive
from mlp.core.ab.statistics.ranking import Ranking
from mlp.core.ab.statistics.sums import Sums
from mlp.core.errors import ConfigurationError
from mlp.core.nearest import did_you_mean

Array = NDArray[Any]
Statistic = Sums | Ranking
Positive = str | None


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is made from labelled rows.

    `served`: it is about what followed from the answer, so a version that only shadows cannot be
    measured by it, and a row needs no prediction. `scored`: it is computed from probabilities.
    `counted`: it counts the rows in which label and prediction are the same class. `least` and
    `most`: no value is beyond.
    """

    name: str
    goal: Literal["maximize", "minimize"]
    of: Callable[[LabelledRows, Positive], Statistic]
    served: bool = False
    scored: bool = False
    counted: bool = False
    least: float = -math.inf
    most: float = math.inf


def find(name: str) -> Metric:
    """The metric of that name or of sklearn's name for it. Raises ConfigurationError otherwise."""
    known = METRICS.get(canonical(name))
    if known is None:
        raise ConfigurationError(
            f"the metric {name!r} cannot be computed from the log of predictions "
            f"(have: {', '.join(METRICS)}){did_you_mean(name, METRICS)}",
            fix="set ab.metric in mlp.yaml to one of them, or: mlp ab verdict --metric NAME",
        )
    return known


def canonical(name: str) -> str:
    """Our name for what sklearn calls `name`."""
    return _ALIASES.get(name, name)


def _accuracy(rows: LabelledRows, _: Positive) -> Statistic:
    found = classes(rows)
    right = found.label == found.prediction
    return Sums.of(rows, [right, np.ones(len(right))], sums.ratio, (1,))


def _counts(found: Classes, which: int) -> tuple[Array, Array, Array]:
    """True positives, predicted and real ones of a class."""
    predicted, real = found.prediction == which, found.label == which
    return predicted & real, predicted, real


def _f1(found: Classes, which: int) -> Sequence[Array]:
    hit, predicted, real = _counts(found, which)
    return 2.0 * hit, predicted + 1.0 * real


def _precision(found: Classes, which: int) -> Sequence[Array]:
    hit, predicted, _ = _counts(found, which)
    return hit, predicted


def _recall(found: Classes, which: int) -> Sequence[Array]:
    hit, _, real = _counts(found, which)
    return hit, real


Part = Callable[[Classes, int], Sequence[Array]]


def _of_positive(name: str, part: Part) -> Callable[[LabelledRows, Positive], Statistic]:
    def of(rows: LabelledRows, wanted: Positive) -> Statistic:
        found = classes(rows)
        return Sums.of(rows, part(found, positive(found, name, wanted)), sums.ratio, (1,))

    return of


def _macro(part: Part) -> Callable[[LabelledRows, Positive], Statistic]:
    def of(rows: LabelledRows, _: Positive) -> Statistic:
        found = classes(rows)
        columns: list[Array] = []
        for which in range(max(len(found.names), 1)):
            predicted, real = _counts(found, which)[1:]
            columns += [*part(found, which), predicted | real]
        return Sums.of(rows, columns, sums.mean_of_ratios, range(2, len(columns), 3))

    return of


def _conversion(rows: LabelledRows, wanted: Positive) -> Statistic:
    found = classes(
        LabelledRows(rows.arm, rows.user, rows.users, rows.weight, rows.label, rows.label)
    )
    if wanted is None and found.names == (0.0,):
        hit = np.zeros(len(rows.label))  # nobody has converted yet
    else:
        hit = found.label == positive(found, "conversion", wanted)
    return Sums.of(rows, [hit, np.ones(len(hit))], sums.ratio, (1,))


def _mean_label(rows: LabelledRows, _: Positive) -> Statistic:
    label = rows.numbers("mean_label", rows.label)
    return Sums.of(rows, [label, np.ones(len(label))], sums.ratio)


def _score(rows: LabelledRows, name: str) -> Array:
    """The score of the positive class: its probability, or the prediction where that is one.

    Raises ConfigurationError where the predictions are classes: a loss of those is not a loss of
    probabilities, though it can be computed.
    """
    if rows.probability is not None and rows.probability.shape[1] in (1, 2):
        return rows.probability[:, -1].astype(float)
    if rows.probability is not None:
        raise ConfigurationError(
            f"{name} is of two classes, and the model has {rows.probability.shape[1]}",
            fix="use accuracy, f1_macro or log_loss",
        )
    score = rows.numbers(name, rows.prediction)
    if len(score) and np.isin(score, (0.0, 1.0)).all():
        raise ConfigurationError(
            f"{name} is of probabilities, and the log has only the classes that were predicted",
            fix="let the model answer its probability and name that column: model.probability;"
            " or use accuracy or f1",
        )
    return score


def _binary(rows: LabelledRows, wanted: Positive, name: str) -> Array:
    """Whether each label is the positive class."""
    only = LabelledRows(rows.arm, rows.user, rows.users, rows.weight, rows.label, rows.label)
    found = classes(only)
    if wanted is None and found.names == (0.0,):
        return np.zeros(len(rows.label), bool)
    hit = found.label == positive(found, name, wanted)
    if wanted is not None and rows.probability is not None and rows.probability.shape[1] == 2:
        last = len(found.names) - 1
        if len(found.names) == 2 and positive(found, name, wanted) != last:
            raise ConfigurationError(
                f"{name} takes the last column of the probabilities for the positive class, "
                f"and ab.positive is the first class",
                fix="leave ab.positive out for this metric",
            )
    return np.asarray(hit)


def _auc(rows: LabelledRows, wanted: Positive) -> Statistic:
    return Ranking.of(rows, _score(rows, "auc"), _binary(rows, wanted, "auc"))


def _brier(rows: LabelledRows, wanted: Positive) -> Statistic:
    loss = (_score(rows, "brier") - _binary(rows, wanted, "brier")) ** 2
    return Sums.of(rows, [loss, np.ones(len(loss))], sums.ratio)


def _log_loss(rows: LabelledRows, wanted: Positive) -> Statistic:
    """The mean of -log of the probability given to what was true, clipped as sklearn does."""
    tiny = np.finfo(float).eps
    if rows.probability is not None and rows.probability.shape[1] > 2:
        chosen = rows.probability[np.arange(len(rows.label)), _columns(rows)]
    else:
        score = _score(rows, "log_loss")
        chosen = np.where(_binary(rows, wanted, "log_loss"), score, 1 - score)
    loss = -np.log(np.clip(chosen, tiny, 1.0 - tiny))
    return Sums.of(rows, [loss, np.ones(len(loss))], sums.ratio)


def _columns(rows: LabelledRows) -> Array:
    """The column of the probabilities that belongs to each label."""
    assert rows.probability is not None
    found, width = classes(rows), rows.probability.shape[1]
    if len(found.names) == width:
        return found.label
    names = np.array(found.names)
    if names.dtype.kind == "f" and ((names >= 0) & (names < width) & (names % 1 == 0)).all():
        return names[found.label].astype(int)
    raise ConfigurationError(
        f"log_loss cannot tell which of {width} probabilities belongs to which of the "
        f"{len(found.names)} classes in the log",
        fix="wait until each class was seen, or number the classes from 0",
    )


def _errors(rows: LabelledRows, name: str) -> Array:
    return rows.numbers(name, rows.prediction) - rows.numbers(name, rows.label)


def _mae(rows: LabelledRows, _: Positive) -> Statistic:
    error = np.abs(_errors(rows, "mae"))
    return Sums.of(rows, [error, np.ones(len(error))], sums.ratio)


def _squared(
    name: str, function: Callable[[Array], Array]
) -> Callable[[LabelledRows, Positive], Statistic]:
    def of(rows: LabelledRows, _: Positive) -> Statistic:
        error = _errors(rows, name) ** 2
        return Sums.of(rows, [error, np.ones(len(error))], function)

    return of


def _r2(rows: LabelledRows, _: Positive) -> Statistic:
    label = rows.numbers("r2", rows.label)
    label = label - label.mean() if len(label) else label  # R squared does not change, digits do
    columns = [_errors(rows, "r2") ** 2, label, label**2, np.ones(len(label))]
    return Sums.of(rows, columns, sums.determination)


def _counting(name: str, of: Callable[[LabelledRows, Positive], Statistic]) -> Metric:
    return Metric(name, "maximize", of, counted=True, least=0, most=1)


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "maximize", _accuracy, counted=True, least=0, most=1),
        _counting("precision", _of_positive("precision", _precision)),
        _counting("recall", _of_positive("recall", _recall)),
        _counting("f1", _of_positive("f1", _f1)),
        _counting("precision_macro", _macro(_precision)),
        _counting("recall_macro", _macro(_recall)),
        _counting("f1_macro", _macro(_f1)),
        Metric("auc", "maximize", _auc, scored=True, least=0, most=1),
        Metric("log_loss", "minimize", _log_loss, scored=True, least=0),
        Metric("brier", "minimize", _brier, scored=True, least=0),
        Metric("conversion", "maximize", _conversion, served=True, least=0, most=1),
        Metric("mean_label", "maximize", _mean_label, served=True),
        Metric("mae", "minimize", _mae, least=0),
        Metric("mse", "minimize", _squared("mse", sums.ratio), least=0),
        Metric("rmse", "minimize", _squared("rmse", sums.root_ratio), least=0),
        Metric("r2", "maximize", _r2, most=1),
    )
}
_ALIASES: Mapping[str, str] = {
    "accuracy_score": "accuracy",
    "f1_score": "f1",
    "precision_score": "precision",
    "recall_score": "recall",
    "roc_auc": "auc",
    "roc_auc_score": "auc",
    "mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "root_mean_squared_error": "rmse",
    "r2_score": "r2",
    "brier_score": "brier",
}
