"""Whether users were split as configured: the sample-ratio mismatch check.

A mismatch means that something else than the configured share decides who is in which arm or whose
rows arrive, and then no comparison of the arms can be trusted (Fabijan and others, "Diagnosing
Sample Ratio Mismatch in Online Controlled Experiments", KDD 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest, chi2

from mlp.core.ab.statistics import sequential
from mlp.core.ab.verdict import SampleRatio

_STRAYED = 0.01  # of the users
_FEW_STRAYED = 10
SUSPECT = 0.001  # the usual threshold: a false alarm stops an experiment
# Where the always-valid test is sharpest: the variance of 4,000 users at a share of one half.
PLANNED = 1000.0


@dataclass(frozen=True, slots=True)
class Split:
    """The users first seen while `share` held, 0 < share < 1: all, and the challenger's."""

    share: float
    users: int
    challenger: int


def check(splits: Sequence[Split], strayed: int = 0) -> SampleRatio:
    """The counts of all periods against the sum of n * share; `strayed` users were in both arms.

    A user's place is uniform and independent of when he comes, so he counts once, with the share
    that held when he was first seen: the challenger's count is then a sum of independent binomials.
    `p` is the exact binomial test where one share held, and otherwise chi-square with one degree of
    freedom, (O - sum n s)^2 / sum n s (1 - s). `p_sequential` takes the same deviation for a
    Brownian motion at time sum n s (1 - s) (see `sequential`).
    """
    splits = [split for split in splits if split.users]
    users = sum(split.users for split in splits)
    observed = sum(split.challenger for split in splits)
    expected = sum(split.users * split.share for split in splits)
    variance = sum(split.users * split.share * (1 - split.share) for split in splits)
    p = valid = 1.0
    if variance:
        deviation = observed - expected
        if len({split.share for split in splits}) == 1:
            p = float(binomtest(observed, users, splits[0].share).pvalue)
        else:
            p = float(chi2.sf(deviation**2 / variance, 1))
        mixture = sequential.mixing(1 / PLANNED, SUSPECT)
        valid = float(sequential.p_value(deviation / variance, 1 / variance, mixture))
    suspect = valid < SUSPECT or strayed > max(_FEW_STRAYED, _STRAYED * users)
    return SampleRatio(users, observed, expected, p, valid, strayed, suspect)
