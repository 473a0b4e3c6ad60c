"""Inference that stays valid however often the data are looked at.

The estimate `d` of a difference is, with `v` its variance, looked at as a Brownian motion observed
at time 1/v. Mixing its likelihood ratio against zero over N(0, t) alternatives gives the evidence

    E = sqrt(v / (v + t)) * exp(d^2 t / (2 v (v + t))),

a martingale if nothing differs, which ever reaches 1/alpha with a chance of at most alpha (Ville).
It is Robbins' normal mixture (1970), the mSPRT of Johari, Koomen, Pekelis and Walsh (Operations
Research 70, 2022), and with estimated variances the asymptotic confidence sequence of Waudby-Smith,
Arbour, Sinha, Kennedy and Ramdas (Annals of Statistics 52, 2024), whose theorem needs no more than
finite variances and covers estimates that are means in the limit (their section 3), as all of ours
are. "Asymptotic" is why a verdict waits for a minimum of samples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import lambertw, log_ndtr
from scipy.stats import norm

Floats = NDArray[np.float64]
_MOST = 1e9  # times the data: beyond it, nothing is promised


def mixing(variance: Any, alpha: float) -> Any:
    """The mixture's variance `t` that makes the interval narrowest where `d` has `variance`.

    t / variance = -W(-alpha^2 / e) - 1, W the lower branch of Lambert's function, which solves
    x = log((1 + x) / alpha^2) (Waudby-Smith and others 2024, appendix on the choice of rho). It is
    to be chosen before the data: from the planned number of samples or the smallest effect of
    interest, never from the difference seen.
    """
    return variance * (-lambertw(-(alpha**2) / np.e, -1).real - 1)


def variance_to_detect(effect: float, alpha: float, power: float) -> float:
    """The variance of the difference at which a plain test finds `effect` with `power`."""
    return float((effect / (norm.ppf(1 - alpha / 2) + norm.ppf(power))) ** 2)


def p_value(difference: Any, variance: Any, mixture: Any, *, one_sided: bool = False) -> Any:
    """The always-valid p-value 1/E, at most 1: one minus the level at which 0 drops out.

    With `one_sided` it speaks against a difference of at most 0: the mixture is then over positive
    alternatives only, which multiplies E by 2 Phi(d sqrt(t) / sqrt(v (v + t))). A variance of zero
    decides at once; a difference that is not a number is never evidence.
    """
    d, v, t = np.broadcast_arrays(*(np.asarray(x, float) for x in (difference, variance, mixture)))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = np.sqrt(t / (v * (v + t)))
        evidence = (d * scale) ** 2 / 2 - np.log1p(t / v) / 2
        if one_sided:
            evidence += np.log(2) + log_ndtr(d * scale)
        p = np.exp(-np.maximum(evidence, 0.0))
    certain = (d > 0) if one_sided else (d != 0)
    p = np.where(v > 0, p, np.where(certain, 0.0, 1.0))
    return np.where(np.isnan(d) | np.isnan(v) | np.isnan(t), 1.0, p)


def half_width(variance: Any, mixture: Any, alpha: float) -> Any:
    """Half of the width of the confidence sequence: the |d| at which `p_value` is `alpha`.

    sqrt(v (v + t) / t * log((v + t) / (v alpha^2))).
    """
    v, t = np.asarray(variance, float), np.asarray(mixture, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.sqrt(v * (v + t) / t * np.log((v + t) / (v * alpha**2)))
    return np.where(v > 0, width, np.where(v == 0, 0.0, np.nan))


def growth_needed(
    effect: float, variance: float, mixture: float, alpha: float, power: float
) -> float | None:
    """By which factor the data must grow until `effect` is found with `power`; at least 1.

    The variance `w` at which the effect is the half width plus z(power) standard errors: a test
    at that one moment has the power, and the sequence, which may end before, has more. None where
    it takes more than a billion times the data.
    """
    if not (effect > 0 and variance > 0):
        return None

    def lacking(log_growth: float) -> float:
        w = variance * np.exp(-log_growth)
        return float(half_width(w, mixture, alpha) + norm.ppf(power) * np.sqrt(w) - effect)

    if lacking(0.0) <= 0:
        return 1.0
    if lacking(np.log(_MOST)) > 0:
        return None
    return float(np.exp(brentq(lacking, 0.0, np.log(_MOST))))
