"""The area under the ROC curve, with weights, ties and clusters."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlp.core.ab.statistics import estimates
from mlp.core.ab.statistics.estimates import Pair
from mlp.core.ab.statistics.labelled_rows import LabelledRows

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Group:
    """The positives or the negatives of an arm, by score."""

    score: Array
    user: Array
    weight: Array

    def users(self, of: int) -> Array:
        """Which of `of` users are in it."""
        return np.asarray(np.bincount(self.user, minlength=of) > 0)


@dataclass(frozen=True, slots=True)
class _Curve:
    """An arm: positives and negatives, and how many negatives are below each positive.

    `below` counts those with a lower score, `not_above` those with the same as well.
    """

    positives: _Group
    negatives: _Group
    below: Array
    not_above: Array

    def area(self) -> float:
        """The share of pairs in which the positive has the higher score, ties counting half."""
        positive, negative = self.positives.weight, self.negatives.weight
        placed = (positive * _between(negative, self.below, self.not_above)).sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(placed / positive.sum() / negative.sum())

    def influence(self, area: float, users: int) -> Array:
        """What each user adds to the error of the area, (users,).

        A positive row adds its weight times (share of negatives below it - area) / (weight of all
        positives), a negative row likewise: the components of DeLong, DeLong and Clarke-Pearson
        (Biometrics 44, 1988), summed within users as Obuchowski does (Biometrics 53, 1997).
        """
        p, q = self.positives, self.negatives
        total_p, total_q = p.weight.sum(), q.weight.sum()
        if total_p == 0 or total_q == 0:
            return np.full(users, np.nan)
        beaten = _between(q.weight, self.below, self.not_above) / total_q
        low, high = (np.searchsorted(p.score, q.score, side) for side in ("left", "right"))
        beating = 1 - _between(p.weight, low, high) / total_p
        added = np.bincount(p.user, p.weight * (beaten - area) / total_p, users)
        return added + np.bincount(q.user, q.weight * (beating - area) / total_q, users)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The curves of champion and challenger."""

    curves: tuple[_Curve, _Curve]
    users: int

    @classmethod
    def of(cls, rows: LabelledRows, score: Array, positive: Array) -> "Ranking":
        """From rows in any order; rows without weight count for nothing."""
        order = np.argsort(score, kind="stable")
        order = order[rows.weight[order] > 0]

        def curve(arm: int) -> _Curve:
            mine = order[rows.arm[order] == arm]
            groups = [
                _Group(score[some], rows.user[some], rows.weight[some].astype(float))
                for some in (mine[positive[mine]], mine[~positive[mine]])
            ]
            p, q = groups
            low, high = (np.searchsorted(q.score, p.score, side) for side in ("left", "right"))
            return _Curve(p, q, low, high)

        return cls((curve(estimates.CHAMPION), curve(estimates.CHALLENGER)), rows.users)

    def pair(self) -> Pair:
        """The areas and their covariance."""
        areas = [curve.area() for curve in self.curves]
        influence = np.stack(
            [c.influence(area, self.users) for c, area in zip(self.curves, areas, strict=True)]
        )
        inside = [
            (c.positives.users(self.users), c.negatives.users(self.users)) for c in self.curves
        ]
        seen = np.array([np.count_nonzero(p | q) for p, q in inside])
        active = np.array([min(p.sum(), q.sum()) for p, q in inside])
        return estimates.from_influence(np.array(areas), influence, seen, active)


def _between(weight: Array, low: Array, high: Array) -> Array:
    """The sum of `weight` before `low` and half of that from there to `high`."""
    reached = np.concatenate([[0.0], np.cumsum(weight)])
    return np.asarray((reached[low] + reached[high]) / 2)
