"""Quantiles of latency in both arms, compared without estimating a density."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlp.core.ab.statistics import estimates, sums
from mlp.core.ab.statistics.sums import Sums

Array = NDArray[Any]


def quantile(values: Array, weight: Array, q: float) -> float:
    """The smallest value that at least the share `q` of the weight does not exceed; or nan."""
    kept = (weight > 0) & np.isfinite(values)
    values, weight = values[kept], weight[kept]
    if not len(values):
        return float("nan")
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    at = np.searchsorted(reached, q * reached[-1] * (1 - 1e-12))
    return float(values[order][min(at, len(values) - 1)])


def exceeding(
    values: Array, limits: tuple[float, float], arm: Array, user: Array, users: int, weight: Array
) -> Sums:
    """The share of each arm's values above its limit, as a metric within [0, 1].

    With the limits Q and r Q, Q the champion's quantile, the challenger's quantile is at most r
    times the champion's exactly if its share is at most the champion's. Where the latencies differ
    by a factor, the density that Q's own error would bring in is the same on both sides and drops
    out, so the difference of shares has the variance of two proportions, clustered by user (the
    sign-test form of a quantile's interval; Deng, Knoblich and Lu, KDD 2018, section 4).
    """
    above = (values > np.where(arm == estimates.CHALLENGER, limits[1], limits[0])).astype(float)
    kept = np.isfinite(values)
    data = np.stack([weight * above * kept, weight * kept, 1.0 * kept], -1)
    by_user = estimates.clustered(data, arm, user, users)
    return Sums(by_user[..., :-1], by_user[..., -1], sums.ratio, (1,))
