"""Intervals by resampling users, for metrics that are not means."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

RESAMPLES = 1000
_FEWEST = 200
_WORK = 1e8  # resamples x rows
_GROUPS = 20_000
_CHUNK = 4e6


class Resampled(Protocol):
    """A metric of both arms that can be computed again for other multiplicities of users."""

    def resampled(self, multiplicity: Array) -> Array: ...  # noqa: D102
    def grouped(self, group: Array, groups: int) -> "Resampled": ...  # noqa: D102
    def user_count(self) -> int: ...  # noqa: D102
    def rows(self) -> int: ...  # noqa: D102


def draws(metric: Resampled, seed: int) -> Array:
    """The metric of champion and challenger in each resample, (1000, 2); fewer for large data.

    Each user counts Poisson(1) times (Chamandy and others, Google, 2012: the bootstrap for large
    data), in both arms alike, so that rows of one user stay together. More than 20,000 users are
    first put into that many groups at random, which are independent as they are. The same data and
    seed give the same draws.
    """
    random = np.random.default_rng(seed)
    users = metric.user_count()
    if users > _GROUPS:
        metric = metric.grouped(random.integers(0, _GROUPS, users), _GROUPS)
        users = _GROUPS
    work = max(metric.rows(), users, 1)
    count = int(np.clip(_WORK / work, _FEWEST, RESAMPLES))
    step = max(1, int(_CHUNK / work))
    found = [
        metric.resampled(random.poisson(1.0, (min(step, count - done), users)).astype(float))
        for done in range(0, count, step)
    ]
    return np.concatenate(found)


def interval(values: Array, alpha: float) -> tuple[float, float]:
    """The percentile interval at level 1 - alpha (Efron and Tibshirani 1993, chapter 13)."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)
