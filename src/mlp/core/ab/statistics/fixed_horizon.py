"""The plain test, valid for one look at a time fixed before the data came."""

from typing import Any

import numpy as np
from scipy.stats import t as student


def freedom(variances: Any, users: Any) -> Any:
    """Degrees of freedom of a sum of independent variances, each estimated from `users` units.

    (sum v)^2 / sum(v^2 / (n - 1)): Welch (1947), Satterthwaite (1946). The last axis is summed.
    """
    v, n = np.asarray(variances, float), np.asarray(users, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return v.sum(-1) ** 2 / (v**2 / (n - 1)).sum(-1)


def p_value(difference: Any, variance: Any, freedom: Any, *, one_sided: bool = False) -> Any:
    """The p-value of Student's t: two-sided, or with `one_sided` against a difference above 0.

    For means of independent users this is Welch's test; with a covariance by users it is the
    cluster-robust test by the delta method (Deng, Knoblich and Lu, KDD 2018).
    """
    d, v = np.asarray(difference, float), np.asarray(variance, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = d / np.sqrt(v)
    tail = student.sf(statistic if one_sided else np.abs(statistic), freedom)
    p = tail if one_sided else np.minimum(2 * tail, 1.0)
    certain = (d > 0) if one_sided else (d != 0)
    p = np.where(v > 0, p, np.where(certain, 0.0, 1.0))
    return np.where(np.isnan(d) | np.isnan(v), 1.0, p)


def half_width(variance: Any, freedom: Any, alpha: float) -> Any:
    """Half of the width of Student's interval at level 1 - alpha."""
    v = np.asarray(variance, float)
    return np.where(v > 0, student.ppf(1 - alpha / 2, freedom) * np.sqrt(v), np.where(v == 0, 0, v))
