"""Metrics that are smooth functions of sums over rows: all but AUC."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlp.core.ab.statistics import estimates
from mlp.core.ab.statistics.estimates import Function, Pair
from mlp.core.ab.statistics.labelled_rows import LabelledRows

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of each user in each arm, `user` (users, 2, k), and the function that is the metric.

    `bases` are the columns of its denominators for a metric within [0, 1], empty for others.
    """

    user: Array
    counts: Array  # (users, 2): rows
    function: Function
    bases: Sequence[int] = ()

    @classmethod
    def of(
        cls,
        rows: LabelledRows,
        columns: Sequence[Array],
        function: Function,
        bases: Sequence[int] = (),
    ) -> "Sums":
        """The weighted sums of `columns` (each (n,)) by user and arm."""
        data = np.stack([*(rows.weight * column for column in columns), np.ones(len(rows.arm))], -1)
        by_user = estimates.clustered(data, rows.arm, rows.user, rows.users)
        return cls(by_user[..., :-1], by_user[..., -1], function, tuple(bases))

    def pair(self) -> Pair:
        """The metric of both arms."""
        n, _, k = self.user.shape
        flat = self.user.reshape(n, 2 * k)
        products = (flat.T @ flat).reshape(2, k, 2, k)
        seen = (self.counts > 0).sum(0)
        active = None
        if self.bases:
            by_base = (self.user[..., list(self.bases)] != 0).sum(0)  # (2, bases)
            rarest = np.where(by_base > 0, by_base, n + 1).min(-1)  # of those that an arm has seen
            active = np.count_nonzero(by_base, -1) * rarest
        return estimates.from_sums(self.function, self.user.sum(0), products, seen, active)


def ratio(sums: Array) -> Array:
    """S0 / S1; not a number without a denominator."""
    return _divided(sums[..., 0], sums[..., 1], np.nan)


def root_ratio(sums: Array) -> Array:
    """sqrt(S0 / S1)."""
    return np.sqrt(ratio(sums))


def mean_of_ratios(sums: Array) -> Array:
    """The mean of S0/S1, S3/S4, … over the classes that S2, S5, … say were seen, as in sklearn.

    A class that was seen and has no denominator counts as 0.
    """
    parts = _divided(sums[..., 0::3], sums[..., 1::3], 0.0)
    return _divided(parts.sum(-1), (sums[..., 2::3] != 0).sum(-1), np.nan)


def determination(sums: Array) -> Array:
    """R squared from sums of squared errors, labels, squared labels and weights."""
    errors, labels, squares, weights = np.moveaxis(sums, -1, 0)
    return 1 - _divided(errors, squares - labels * _divided(labels, weights, np.nan), np.nan)


def _divided(a: Array, b: Array, otherwise: float) -> Array:
    out = np.full(np.broadcast(a, b).shape, otherwise, np.result_type(a, b, float))
    with np.errstate(invalid="ignore"):  # of infinities
        return np.divide(a, b, out=out, where=b != 0)
