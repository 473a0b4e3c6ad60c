"""Guards: measures that may not become worse, tested so that looking often breaks none by chance.

A guard is broken when an always-valid one-sided test says so at alpha divided by the number of
limits (Bonferroni): all guards together stop a harmless challenger with a chance of at most alpha,
however often they are looked at. A limit that is exceeded by chance breaks nothing.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlp.core.ab.ab_section import Guard
from mlp.core.ab.statistics import metrics, quantiles, sequential, sums
from mlp.core.ab.statistics.estimates import CHALLENGER, CHAMPION, Pair
from mlp.core.ab.statistics.labelled_rows import LabelledRows
from mlp.core.ab.statistics.metrics import Metric
from mlp.core.ab.statistics.sums import Sums
from mlp.core.ab.verdict import BROKEN, KEPT, MIN_USERS, UNKNOWN, GuardCheck
from mlp.core.errors import ConfigurationError

Array = NDArray[Any]
FEWEST = 100  # requests (or labelled rows) of each arm
_PLANNED = 1000  # users of each arm, where the test is sharpest
_LATENCY = re.compile(r"latency_p(\d{1,2}(?:\.\d+)?)_ms")


@dataclass(frozen=True, slots=True)
class Requests:
    """One entry per request and arm; fields as in `Rows`. `failed`: its own version did not answer.

    `latency_ms` is what the caller waited, a fallback to the champion included.
    """

    arm: Array
    user: Array
    users: int
    weight: Array
    latency_ms: Array
    failed: Array


@dataclass(frozen=True, slots=True)
class _Excess:
    """By how much a limit is exceeded (negative: kept), and the variance of that."""

    words: str
    value: float
    variance: float
    planned: float


def check(
    guards: Mapping[str, Guard],
    requests: Requests,
    rows: Callable[[Metric], LabelledRows],
    alpha: float,
    positive: str | None = None,
) -> tuple[GuardCheck, ...]:
    """All guards; `rows` gives the labelled rows that a metric can be computed from.

    Raises ConfigurationError where a name is neither a measure nor a metric.
    """
    limits = sum(len(guard.model_fields_set) for guard in guards.values())
    return tuple(
        _check(name, guard, requests, rows, alpha / max(limits, 1), positive)
        for name, guard in guards.items()
    )


def _check(
    name: str,
    guard: Guard,
    requests: Requests,
    rows: Callable[[Metric], LabelledRows],
    alpha: float,
    positive: str | None,
) -> GuardCheck:
    known: Requests | LabelledRows = requests
    latency = _LATENCY.fullmatch(name)
    if latency:
        q = float(latency[1]) / 100
        values = [
            quantiles.quantile(
                requests.latency_ms[requests.arm == arm], requests.weight[requests.arm == arm], q
            )
            for arm in (CHAMPION, CHALLENGER)
        ]
        excesses = list(_latency_excesses(name, guard, requests, q, values[CHAMPION]))
    else:
        if name == "error_rate":
            pair = _errors(requests).pair()
        else:
            metric = _metric(name)
            known = rows(metric)
            pair = metric.of(known, positive).pair()
        values = [float(value) for value in pair.value]
        excesses = list(_excesses(guard, pair))
    p, words = 1.0, ", ".join(excess.words for excess in excesses)
    for excess in excesses:
        mixture = sequential.mixing(excess.planned, alpha)
        value, variance = excess.value, excess.variance
        p = min(p, float(sequential.p_value(value, variance, mixture, one_sided=True)))
    shown = [value if np.isfinite(value) else None for value in values]
    compares = guard.max_ratio is not None or guard.min_ratio is not None
    undefined = shown[CHALLENGER] is None or (compares and shown[CHAMPION] is None)
    state = BROKEN if p <= alpha else KEPT
    if undefined or not _enough(known, CHALLENGER) or (compares and not _enough(known, CHAMPION)):
        state = UNKNOWN
    return GuardCheck(name, shown[CHAMPION], shown[CHALLENGER], words, p, state)


def _metric(name: str) -> Metric:
    try:
        return metrics.find(name)
    except ConfigurationError as e:
        raise ConfigurationError(
            f"the guard {name!r} is not known "
            f"(have: latency_pNN_ms, error_rate, {', '.join(metrics.METRICS)})",
            fix="correct ab.guards in mlp.yaml",
        ) from e


def _errors(requests: Requests) -> Sums:
    as_rows = LabelledRows(
        requests.arm,
        requests.user,
        requests.users,
        requests.weight,
        label=requests.failed,
        prediction=requests.failed,
    )
    return Sums.of(as_rows, [requests.failed, np.ones(len(requests.arm))], sums.ratio, (1,))


def _excesses(guard: Guard, pair: Pair) -> Iterator[_Excess]:
    """Each limit of a guard on an estimate."""
    for ratio, sign, words in ((guard.max_ratio, 1, "at most"), (guard.min_ratio, -1, "at least")):
        if ratio is not None:
            value, variance = pair.contrast(ratio)
            planned = float(pair.variance_at(_PLANNED, ratio))
            allowed = f"{words} {ratio:g} x the champion's"
            yield _Excess(allowed, sign * float(value), float(variance), planned)
    for limit, sign, words in ((guard.max, 1, "at most"), (guard.min, -1, "at least")):
        if limit is not None:
            value, variance = pair.contrast(0.0)
            planned = float(pair.variance_at(_PLANNED, 0.0))
            excess = sign * (float(value) - limit)
            yield _Excess(f"{words} {limit:g}", excess, float(variance), planned)


def _latency_excesses(
    name: str, guard: Guard, requests: Requests, q: float, reference: float
) -> Iterator[_Excess]:
    """Each limit of a guard on a quantile of latency."""
    if guard.min is not None or guard.min_ratio is not None:
        raise ConfigurationError(
            f"the guard {name} knows max and max_ratio", fix="correct mlp.yaml"
        )

    def pair(limit: float) -> Pair:
        return quantiles.exceeding(
            requests.latency_ms,
            (reference, limit),
            requests.arm,
            requests.user,
            requests.users,
            requests.weight,
        ).pair()

    if guard.max_ratio is not None:
        found = pair(guard.max_ratio * reference)
        value, variance = found.contrast()
        words = f"at most {guard.max_ratio:g} x the champion's"
        yield _Excess(words, float(value), float(variance), float(found.variance_at(_PLANNED)))
    if guard.max is not None:
        found = pair(guard.max)
        value, variance = found.contrast(0.0)
        planned = float(found.variance_at(_PLANNED, 0.0))
        yield _Excess(f"at most {guard.max:g}", float(value) - (1 - q), float(variance), planned)


def _enough(of: Requests | LabelledRows, arm: int) -> bool:
    mine = (of.arm == arm) & (of.weight > 0)
    users = np.count_nonzero(np.bincount(of.user[mine], minlength=1))
    return bool(np.count_nonzero(mine) >= FEWEST and users >= MIN_USERS)
