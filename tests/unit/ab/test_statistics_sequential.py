"""The sequential test keeps its promise under looks at any time, by simulation of our own code."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlp.core.ab.statistics import estimates, fixed_horizon, sequential, sums
from mlp.core.ab.statistics.estimates import Pair
from mlp.core.ab.statistics.labelled_rows import LabelledRows
from mlp.core.ab.statistics.metric_comparison import AnalysisPlan
from mlp.core.ab.statistics.ranking import Ranking

Array = NDArray[Any]
PLAN = AnalysisPlan(alpha=0.05, power=0.8, effect=None, min_samples=1000)
EXPERIMENTS = 2000
LOOKS = np.arange(2000, 8001, 100)  # samples of both arms: the first one where a verdict may be


def pairs(
    champion: Array, challenger: Array, at: Array, function: estimates.Function, bounded: bool
) -> Pair:
    """The estimates at each look, from rows (experiments, n, k) in order; every row is a user."""
    k = champion.shape[-1]
    looks = at.shape[0]
    total = np.zeros((len(champion), looks, 2, k))
    products = np.zeros((len(champion), looks, 2, k, 2, k))
    for arm, rows in enumerate((champion, challenger)):
        total[:, :, arm] = np.cumsum(rows, 1)[:, at[:, arm] - 1]
        for i in range(k):
            for j in range(k):
                crossed = np.cumsum(rows[..., i] * rows[..., j], 1)
                products[:, :, arm, i, arm, j] = crossed[:, at[:, arm] - 1]
    users = np.broadcast_to(at.astype(float), (len(champion), looks, 2))
    active = None
    if bounded:
        active = np.empty(users.shape)
        for arm, rows in enumerate((champion, challenger)):
            active[..., arm] = np.cumsum(rows[..., 1] != 0, 1)[:, at[:, arm] - 1]
    return estimates.from_sums(function, total, products, users, active)


def halves(looks: Array = LOOKS) -> Array:
    return np.stack([looks // 2, looks // 2], -1)


def rejected(pair: Pair, plan: AnalysisPlan = PLAN) -> Array:
    d, v = pair.contrast()
    return np.asarray(sequential.p_value(d, v, plan.mixture(pair)) <= plan.alpha)


def means(values: Array) -> Array:
    return np.stack([values, np.ones_like(values)], -1)


def f1_rows(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """2 TP and 2 TP + FP + FN of rows with 20 % positives, 70 % of them found."""
    real = random.random(shape) < 0.2
    predicted = np.where(real, random.random(shape) < 0.7, random.random(shape) < 0.1)
    return np.stack([2.0 * (real & predicted), 1.0 * real + predicted], -1)


Draw = Callable[[np.random.Generator, tuple[int, int]], Array]
NULLS: dict[str, tuple[Draw, estimates.Function, bool]] = {
    "proportion": (lambda r, s: means(1.0 * (r.random(s) < 0.3)), sums.ratio, True),
    "rare": (lambda r, s: means(1.0 * (r.random(s) < 0.005)), sums.ratio, True),
    "mean": (lambda r, s: means(r.exponential(size=s)), sums.ratio, False),
    "rmse": (lambda r, s: means(r.standard_normal(s) ** 2), sums.root_ratio, False),
    "f1": (f1_rows, sums.ratio, True),
}


@pytest.mark.parametrize("name", NULLS)
def test_looking_every_100_samples_finds_nothing_where_nothing_is(name: str) -> None:
    draw, function, bounded = NULLS[name]
    random = np.random.default_rng(1)
    shape = (EXPERIMENTS // 4, int(LOOKS[-1] // 2))
    false = 0
    for _ in range(4):
        pair = pairs(draw(random, shape), draw(random, shape), halves(), function, bounded)
        false += int(rejected(pair).any(1).sum())
    assert false <= 0.05 * EXPERIMENTS


def test_a_share_of_a_tenth_finds_nothing_either() -> None:
    """500 experiments: 5 % are 25, the promise holds with 1 to 3 %."""
    random = np.random.default_rng(2)
    at = np.stack([np.arange(9000, 27001, 450), np.arange(1000, 3001, 50)], -1)
    rows = [means(1.0 * (random.random((500, n)) < 0.9)) for n in at[-1]]
    assert rejected(pairs(rows[0], rows[1], at, sums.ratio, True)).any(1).sum() <= 25


def returning_users(experiments: int, seed: int) -> Array:
    """Whether 300 users, some of them much more active than others, are found to differ by arm.

    Each user has a rate of his own; a look each 100 rows, while the same users come back.
    """
    random = np.random.default_rng(seed)
    users, found = 300, np.zeros((2, experiments), bool)
    by_user = np.zeros((experiments, users, 2, 2))
    arm = random.integers(0, 2, (experiments, users))
    rate = 1 / (1 + np.exp(-random.standard_normal((experiments, users))))
    activity = random.pareto(1.5, users) + 0.2
    each = np.arange(experiments)[:, None]
    for new in [2000, *([100] * 40)]:
        user = random.choice(users, (experiments, new), p=activity / activity.sum())
        hit = random.random((experiments, new)) < rate[each, user]
        cell = ((each * users + user) * 2 + arm[each, user]).ravel()
        for column, value in enumerate((hit.ravel().astype(float), np.ones(hit.size))):
            added = np.bincount(cell, value, by_user[..., 0].size)
            by_user[..., column] += added.reshape(experiments, users, 2)
        found[0] |= rejected(_clustered(by_user))
        found[1] |= rejected(_as_if_independent(by_user))
    return np.asarray(found.mean(1))


def _clustered(by_user: Array) -> Pair:
    flat = by_user.reshape(*by_user.shape[:2], 4)
    products = (np.swapaxes(flat, 1, 2) @ flat).reshape(-1, 2, 2, 2, 2)
    users = (by_user[..., 1] > 0).sum(1).astype(float)
    return estimates.from_sums(sums.ratio, by_user.sum(1), products, users, users)


def _as_if_independent(by_user: Array) -> Pair:
    hits, rows = np.moveaxis(by_user.sum(1), -1, 0)
    p = hits / rows
    return Pair(p, (p * (1 - p) / rows)[..., None] * np.eye(2), rows)


def test_users_who_come_back_are_one_user_and_not_many() -> None:
    clustered, independent = returning_users(400, seed=3)
    assert clustered <= 0.05
    assert independent > 0.2  # the data are such that it matters


def auc_rejections(experiments: int, better: float, seed: int) -> int:
    """How many experiments an area is found to differ in, with a look each 200 samples.

    A user makes ten requests, which have the same label and similar scores.
    """
    random = np.random.default_rng(seed)
    found = 0
    n = 6000
    for _ in range(experiments):
        arm, positive, own = (
            np.repeat(of_user, 10)
            for of_user in (
                random.integers(0, 2, n // 10),
                random.random(n // 10) < 0.3,
                random.standard_normal(n // 10),
            )
        )
        score = random.standard_normal(n) + own + positive * np.where(arm == 1, 1 + better, 1.0)
        for seen in range(2000, n + 1, 200):
            some = slice(seen)
            user = np.arange(seen) // 10
            rows = LabelledRows(
                arm[some], user, seen, np.ones(seen), positive[some], positive[some]
            )
            if rejected(Ranking.of(rows, score[some], positive[some]).pair()):
                found += 1
                break
    return found


def test_looking_at_auc_finds_nothing_where_nothing_is_and_something_where_it_is() -> None:
    """200 experiments: 5 % are 10, the promise holds with 1 to 3 %."""
    assert auc_rejections(200, better=0.0, seed=4) <= 10
    assert auc_rejections(20, better=1.5, seed=5) >= 19


@pytest.mark.parametrize("stated", [True, False])
def test_the_stated_samples_have_the_stated_power(stated: bool) -> None:
    """The size that `growth_needed` tells finds the effect in 80 % of experiments, or more."""
    effect, p, per_arm = 0.03, 0.3, 1000
    plan = AnalysisPlan(0.05, 0.8, effect if stated else None, 1000)
    variance = (p * (1 - p) + (p + effect) * (1 - p - effect)) / per_arm
    mixture = sequential.mixing(
        sequential.variance_to_detect(effect, 0.05, 0.8) if stated else variance, 0.05
    )
    growth = sequential.growth_needed(effect, variance, mixture, 0.05, 0.8)
    assert growth is not None
    n = int(np.ceil(growth * per_arm))
    random = np.random.default_rng(6)
    rows = [means(1.0 * (random.random((600, n)) < q)) for q in (p, p + effect)]
    at_end = rejected(pairs(rows[0], rows[1], np.array([[n, n]]), sums.ratio, True), plan).mean()
    looks = np.linspace(1000, n, 30).astype(int)
    ever = rejected(
        pairs(rows[0], rows[1], np.stack([looks, looks], -1), sums.ratio, True), plan
    ).any(1)
    assert at_end == pytest.approx(0.8, abs=0.05)  # three standard errors
    assert ever.mean() >= 0.8


def test_intervals_hold_the_true_difference() -> None:
    """At all looks the sequential one, in 95 % of experiments; at each look the plain one."""
    random = np.random.default_rng(7)
    rows = [means(1.0 * (random.random((1000, 4000)) < q)) for q in (0.5, 0.53)]
    pair = pairs(rows[0], rows[1], halves(), sums.ratio, True)
    d, v = pair.contrast()
    away = np.abs(d - 0.03)
    always = (away <= sequential.half_width(v, PLAN.mixture(pair), 0.05)).all(1)
    assert always.mean() >= 0.95
    plain = away <= fixed_horizon.half_width(v, pair.freedom(), 0.05)
    assert plain.mean() == pytest.approx(0.95, abs=0.02)


def test_p_is_one_minus_the_level_at_which_zero_drops_out() -> None:
    for d in (0.5, 2.0, 4.0):
        p = float(sequential.p_value(d, 1.0, 3.0))
        if p < 1:
            assert float(sequential.half_width(1.0, 3.0, p)) == pytest.approx(d)
    assert sequential.p_value(0.0, 1.0, 3.0) == 1
    assert sequential.p_value(0.0, 0.0, 0.0) == 1  # both arms without any spread
    assert sequential.p_value(1.0, 0.0, 0.0) == 0
    assert sequential.p_value(np.nan, 1.0, 1.0) == 1


def test_the_mixture_is_the_one_that_makes_the_interval_narrowest() -> None:
    best = float(sequential.mixing(2.0, 0.05))
    widths = sequential.half_width(2.0, np.array([best / 1.1, best, best * 1.1]), 0.05)
    assert widths.argmin() == 1


def test_one_sided_evidence_speaks_against_one_side_only() -> None:
    assert sequential.p_value(-9.0, 1.0, 3.0, one_sided=True) == 1
    one, both = (float(sequential.p_value(4.0, 1.0, 3.0, one_sided=s)) for s in (True, False))
    assert one == pytest.approx(both / 2, rel=1e-3)


def test_no_effect_needs_no_number_of_samples() -> None:
    assert sequential.growth_needed(0.0, 1.0, 1.0, 0.05, 0.8) is None
    assert sequential.growth_needed(1e-9, 1.0, 1.0, 0.05, 0.8) is None
    assert sequential.growth_needed(100.0, 1.0, 1.0, 0.05, 0.8) == 1.0
