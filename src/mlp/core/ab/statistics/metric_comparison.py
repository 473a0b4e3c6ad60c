"""A metric of both arms compared: the interval of each, the always-valid and the plain test."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlp.core.ab.statistics import fixed_horizon, sequential
from mlp.core.ab.statistics.estimates import Pair
from mlp.core.ab.statistics.metrics import Statistic

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class AnalysisPlan:
    """What was decided before the data: level, power, smallest effect, fewest samples."""

    alpha: float
    power: float
    effect: float | None
    min_samples: int

    def mixture(self, pair: Pair, ratio: float = 1.0) -> Array:
        """The sequential test's mixture: sharpest where the test is planned to end.

        That is where a plain test would find the smallest effect, or at the fewest samples.
        """
        if self.effect is not None:
            planned: Any = sequential.variance_to_detect(self.effect, self.alpha, self.power)
        else:
            planned = pair.variance_at(self.min_samples, ratio)
        return np.asarray(sequential.mixing(planned, self.alpha))


@dataclass(frozen=True, slots=True)
class Compared:
    """`arms`: value, low, high of champion and challenger. The rest speaks of their difference.

    `growth`: by which factor the data must grow until the sequential test finds the effect.
    """

    arms: tuple[tuple[float, float, float], tuple[float, float, float]]
    difference: float
    sequential: tuple[float, float, float]  # low, high, p
    fixed: tuple[float, float, float]
    growth: float | None


def compare(statistic: Statistic, plan: AnalysisPlan) -> Compared:
    """Both tests of a metric.

    They use the delta method's variance (for AUC: of the influence function), also for metrics that
    are not means: those are means in the limit.
    """
    pair = statistic.pair()
    d, v = (float(x) for x in pair.contrast())
    mixture = plan.mixture(pair)
    wide = float(sequential.half_width(v, mixture, plan.alpha))
    p = float(sequential.p_value(d, v, mixture))
    freedom = pair.freedom()
    half = float(fixed_horizon.half_width(v, freedom, plan.alpha))
    plain = (d - half, d + half, float(fixed_horizon.p_value(d, v, freedom)))
    each = fixed_horizon.half_width(pair.variances(), pair.users - 1.0, plan.alpha)
    arms = [(float(x), float(x - h), float(x + h)) for x, h in zip(pair.value, each, strict=True)]
    effect = plan.effect if plan.effect is not None else abs(d)
    growth = sequential.growth_needed(effect, v, float(mixture), plan.alpha, plan.power)
    return Compared((arms[0], arms[1]), d, (d - wide, d + wide, p), plain, growth)
