"""The outcome follows from what was found, in this order; guards are broken by evidence only."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlp.core.ab.ab_section import Ab, Guard
from mlp.core.ab.exposure import Period
from mlp.core.ab.statistics import guards, metrics
from mlp.core.ab.statistics.arms import Log
from mlp.core.ab.statistics.guards import Requests
from mlp.core.ab.statistics.judging import VerdictQuestion, judge
from mlp.core.ab.statistics.labelled_rows import LabelledRows
from mlp.core.ab.statistics.metrics import Metric
from mlp.core.ab.traffic import Traffic
from mlp.core.ab.verdict import (
    BROKEN,
    KEPT,
    UNKNOWN,
    Arm,
    Because,
    GuardCheck,
    Inference,
    Outcome,
    SampleRatio,
    Verdict,
    decide,
)
from mlp.core.errors import ConfigurationError

Array = NDArray[Any]

ARM = Arm("1", 2000, 2000, 500, 1500, 400, 0.8, 0.7, 0.9)
RIGHT = SampleRatio(1000, 500, 500.0, 1.0, 1.0, 0, False)
WRONG = SampleRatio(1000, 700, 500.0, 1e-9, 1e-8, 0, True)
STRAY = SampleRatio(1000, 500, 500.0, 1.0, 1.0, 300, True)
SLOW = GuardCheck("latency_p95_ms", 10.0, 90.0, "at most 1.5 x the champion's", 1e-9, BROKEN)
DARK = GuardCheck("auc", None, None, "at least 0.5", 1.0, UNKNOWN)


def seen(low: float | None, high: float | None) -> Inference:
    middle = None if low is None or high is None else (low + high) / 2
    return Inference(middle, low, high, 0.5, "")


PLAIN = Verdict(
    model="demo",
    metric="f1",
    goal="maximize",
    alpha=0.05,
    mode="split",
    since=None,
    until=None,
    share=0.5,
    fixed=seen(None, None),
    effect=None,
    min_samples=1000,
    champion=ARM,
    challenger=dataclasses.replace(ARM, version="2"),
    sample_ratio=RIGHT,
    sequential=seen(0.01, 0.05),
    guards=(),
    taken_out=None,
)
FEW = dataclasses.replace(ARM, labelled=10)
FEW_USERS = dataclasses.replace(ARM, labelled_users=10)

TABLE: list[tuple[dict[str, Any], Outcome, Because, str]] = [
    ({}, Outcome.BETTER, Because.METRIC, "version 2 is better: f1 differs by +0.03"),
    ({"goal": "minimize"}, Outcome.WORSE, Because.METRIC, "version 2 is worse"),
    ({"sequential": seen(-0.05, -0.01)}, Outcome.WORSE, Because.METRIC, "is worse"),
    (
        {"sequential": seen(-0.05, -0.01), "goal": "minimize"},
        Outcome.BETTER, Because.METRIC, "is better",
    ),
    ({"sequential": seen(-0.01, 0.03)}, Outcome.INCONCLUSIVE, Because.NO_DIFFERENCE, "nothing is"),
    ({"sequential": seen(0.0, 0.0)}, Outcome.INCONCLUSIVE, Because.NO_DIFFERENCE, "nothing is"),
    ({"sequential": seen(1.0, 1.0)}, Outcome.BETTER, Because.METRIC, "is better"),
    (
        {"sequential": seen(-0.01, 0.03), "effect": 0.04},
        Outcome.INCONCLUSIVE, Because.EQUIVALENT, "less than 0.04 either way",
    ),
    (
        {"sequential": seen(-0.01, 0.05), "effect": 0.04},
        Outcome.INCONCLUSIVE, Because.NO_DIFFERENCE, "nothing is excluded",
    ),
    ({"sequential": seen(None, None)}, Outcome.INCONCLUSIVE, Because.UNDEFINED, "not defined"),
    ({"guards": (DARK,)}, Outcome.INCONCLUSIVE, Because.UNDEFINED, "the guard auc"),
    ({"challenger": FEW}, Outcome.INCONCLUSIVE, Because.SAMPLES, "10 of 1000 labelled rows of the"),
    ({"champion": FEW_USERS}, Outcome.INCONCLUSIVE, Because.SAMPLES, "10 of 30 users of the champ"),
    ({"guards": (SLOW, DARK)}, Outcome.WORSE, Because.GUARD, "latency_p95_ms is 90, champion 10"),
    ({"guards": (SLOW,), "champion": FEW}, Outcome.WORSE, Because.GUARD, "breaks a guard"),
    (
        {"guards": (SLOW,), "sample_ratio": WRONG},
        Outcome.INCONCLUSIVE, Because.SAMPLE_RATIO, "700 users were in the challenger's arm",
    ),
    ({"sample_ratio": STRAY}, Outcome.INCONCLUSIVE, Because.SAMPLE_RATIO, "300 of 1000 users"),
    ({"sample_ratio": None}, Outcome.BETTER, Because.METRIC, "is better"),
    (
        {"taken_out": "it hung", "sample_ratio": WRONG},
        Outcome.WORSE, Because.TAKEN_OUT, "version 2 was taken out: it hung",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "outcome", "because", "words"), TABLE)
def test_the_first_thing_that_applies_decides(
    changes: dict[str, Any], outcome: Outcome, because: Because, words: str
) -> None:
    found = decide(dataclasses.replace(PLAIN, **changes))
    assert found[:2] == (outcome, because)
    assert words in found[2]


# --- guards -------------------------------------------------------------------------------------


def requests(n: int, seed: int, *, slower: float = 1.0, failing: float = 0.0) -> Requests:
    """Two requests a user; the challenger's are slower by a factor, and fail."""
    random = np.random.default_rng(seed)
    user = np.arange(n) // 2
    arm = random.integers(0, 2, n)[user]
    latency = random.lognormal(2.0, 0.7, n) * np.where(arm == 1, slower, 1.0)
    failed = 1.0 * (random.random(n) < np.where(arm == 1, failing, 0.0))
    return Requests(arm, user, n, np.ones(n), latency, failed)


def no_rows(_: Metric) -> LabelledRows:
    nothing = np.zeros(0, int)
    return LabelledRows(nothing, nothing, 0, np.zeros(0), np.zeros(0, object), np.zeros(0, object))


def states(found: Requests, **guard: Guard) -> list[str]:
    with np.errstate(all="ignore"):
        return [check.state for check in guards.check(guard, found, no_rows, 0.05)]


def test_a_guard_is_broken_by_evidence_and_not_by_chance() -> None:
    ratio, limit = Guard(max_ratio=1.5), Guard(max=0.01)
    assert states(requests(4000, 0, slower=2.2), latency_p95_ms=ratio) == [BROKEN]
    assert states(requests(4000, 0, slower=1.55), latency_p95_ms=ratio) == [KEPT]
    assert states(requests(4000, 0, failing=0.05), error_rate=limit) == [BROKEN]
    assert states(requests(4000, 0, failing=0.012), error_rate=limit) == [KEPT]
    assert states(requests(4000, 0), latency_p50_ms=Guard(max=20.0)) == [KEPT]
    assert states(requests(4000, 0), latency_p50_ms=Guard(max=5.0)) == [BROKEN]


def test_a_guard_needs_a_hundred_requests() -> None:
    assert states(requests(80, 0, failing=1.0), error_rate=Guard(max=0.01)) == [UNKNOWN]
    assert states(requests(400, 0, failing=1.0), error_rate=Guard(max=0.01)) == [BROKEN]


def test_a_gross_failure_is_found_early_and_looking_often_breaks_no_guard() -> None:
    """200 experiments at the limits, with a look each 100 requests from 200 on: 5 % are 10."""
    both = {"latency_p95_ms": Guard(max_ratio=1.5), "error_rate": Guard(max=0.01)}
    false, early = 0, 0
    for seed in range(200):
        whole = requests(4000, seed, slower=1.5, failing=0.01)
        looks = [_first(whole, seen) for seen in range(200, 4001, 200)]
        false += any(BROKEN in states(some, **both) for some in looks)
        gross = _first(requests(400, seed, failing=0.3), 400)
        early += BROKEN in states(gross, **both)
    assert false <= 10
    assert early == 200


def _first(of: Requests, n: int) -> Requests:
    return Requests(of.arm[:n], of.user[:n], n, of.weight[:n], of.latency_ms[:n], of.failed[:n])


def test_guards_on_metrics_go_either_way() -> None:
    n = 4000
    arm = np.arange(n) % 2
    label = np.ones(n, int).astype(object)
    right = np.where(arm == 1, np.arange(n) % 10 < 6, True).astype(int).astype(object)
    rows = LabelledRows(arm, np.arange(n), n, np.ones(n), label, right)

    def state(**limits: float) -> str:
        known = {"accuracy": Guard(**limits)}
        (found,) = guards.check(known, requests(n, 0), lambda _: rows, 0.05)
        return found.state

    assert state(min_ratio=0.9) == BROKEN
    assert state(min_ratio=0.5) == KEPT
    assert state(min=0.7) == BROKEN
    assert state(min=0.5) == KEPT


def test_a_guard_nobody_knows_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"guard 'lateny_p95' is not known \(have: latency"
    ):
        states(requests(400, 0), lateny_p95=Guard(max=1))
    with pytest.raises(ConfigurationError, match="knows max and max_ratio"):
        states(requests(400, 0), latency_p95_ms=Guard(min=1))


# --- the whole of it ----------------------------------------------------------------------------


def world(
    n: int, seed: int, *, share: float = 0.5, actual: float | None = None, right: float = 0.8
) -> Log:
    """A log in which the champion is right in 80 % of rows and the challenger in `right`."""
    random = np.random.default_rng(seed)
    users = n // 3
    key = random.integers(0, users, n)
    arm = (random.random(users) < (share if actual is None else actual))[key]
    label = random.integers(0, 2, n)
    hit = random.random(n) < np.where(arm, right, 0.8)
    return Log(
        time=np.linspace(100.0, 200.0, n),
        version=np.where(arm, "2", "1"),
        route=np.where(arm, "challenger", "champion"),
        request=np.arange(n),
        row=np.zeros(n, int),
        key=key.astype(object),
        prediction=np.where(hit, label, 1 - label).astype(object),
        probability=None,
        label=label.astype(object),
        latency_ms=random.lognormal(1.0, 0.5, n),
        failed=np.zeros(n, bool),
    )


def judged(log: Log, share: float = 0.5, metric: str = "accuracy", **ab: Any) -> Verdict:
    now = Traffic("1", "2", share)
    question = VerdictQuestion(
        "m", metrics.find(metric), True, now, (Period(0.0, None, now),), 1.0, None
    )
    return judge(log, question, Ab(**ab))


def test_no_interval_goes_beyond_what_the_metric_can_be() -> None:
    """Nearly all rows are right: the normal interval would end above 1."""
    arm = judged(world(600, 0, right=0.99)).challenger
    assert arm.value is not None and 0.97 < arm.value < 1
    assert arm.high == 1


def test_a_better_and_a_worse_challenger_are_told() -> None:
    better, worse = judged(world(6000, 0, right=0.9)), judged(world(6000, 0, right=0.7))
    assert (better.outcome, worse.outcome) == (Outcome.BETTER, Outcome.WORSE)
    assert better.needs is None
    assert better.challenger.value == pytest.approx(0.9, abs=0.02)
    assert better.sequential.p < 0.001
    assert better.fixed.low < 0.1 < better.fixed.high  # type: ignore[operator]
    assert [guard.state for guard in better.guards] == [KEPT, KEPT]


def test_what_is_open_says_how_many_more() -> None:
    found = judged(world(6000, 1, right=0.81), effect=0.02)
    assert found.because == Because.NO_DIFFERENCE
    assert found.needs is not None
    assert found.needs.basis == "the stated effect"
    assert found.needs.challenger is not None
    # A plain test needs 6,300 of each for 0.02 at 0.8; one that may be looked at, more.
    assert 6300 < found.needs.challenger + found.challenger.labelled < 20_000


def test_the_samples_it_asks_for_are_enough() -> None:
    """With an effect that is there: 0.8 of 60 experiments is 48, three errors below is 39."""
    needs = judged(world(2500, 2), effect=0.04).needs
    assert needs is not None
    assert needs.challenger is not None
    n = 2500 + 2 * needs.challenger
    found = [judged(world(n, seed, right=0.84), effect=0.04).outcome for seed in range(60)]
    assert found.count(Outcome.BETTER) >= 39
    assert Outcome.WORSE not in found


def test_a_splitter_that_is_off_stops_the_verdict() -> None:
    found = judged(world(20_000, 3, share=0.1, actual=0.13, right=0.95), share=0.1)
    assert (found.outcome, found.because) == (Outcome.INCONCLUSIVE, Because.SAMPLE_RATIO)
    assert found.needs is None


def test_an_empty_log_is_inconclusive_and_asks_for_the_minimum() -> None:
    found = judged(world(0, 0))
    assert (found.outcome, found.because) == (Outcome.INCONCLUSIVE, Because.SAMPLES)
    assert found.needs is not None
    assert (found.needs.champion, found.needs.challenger) == (1000, 1000)
    assert (found.since, found.champion.value) == (None, None)


def test_labels_that_come_unequally_are_told() -> None:
    log = world(6000, 4)
    late = (log.route == "challenger") & (np.arange(6000) % 3 == 0)
    label = log.label.copy()
    label[late] = None
    found = judged(dataclasses.replace(log, label=label))
    assert any("labels come unequally: for 100.0%" in note for note in found.notes)
    assert not any("unequally" in note for note in judged(log).notes)


def test_labels_of_no_class_that_was_predicted_are_told() -> None:
    log = world(6000, 4)
    label = log.label.astype(object)
    label[:7] = "zebra"
    found = judged(dataclasses.replace(log, label=label))
    assert any("7 labels are of a class that no version" in note for note in found.notes)
    assert not any("of a class that no" in note for note in judged(log).notes)


def test_what_compares_no_classes_knows_no_strange_labels() -> None:
    """Numbers differ from what was predicted, and a probability is not the label."""
    log = world(6000, 4)
    score = np.random.default_rng(5).integers(1, 100, 6000) / 100
    scored = dataclasses.replace(log, prediction=score.astype(object), probability=score[:, None])
    for metric in ("mae", "rmse", "auc", "conversion"):
        assert not any("of a class that no" in note for note in judged(scored, metric=metric).notes)
    guarded = judged(scored, metric="auc", guards={"accuracy": Guard(min=0.1)})
    assert any("6000 labels are of a class" in note for note in guarded.notes)


def test_what_followed_from_an_answer_cannot_be_asked_of_a_shadow() -> None:
    now = Traffic("1", "2", 0.5, shadow=True)
    question = VerdictQuestion("m", metrics.find("conversion"), True, now, (), 1.0, None)
    with pytest.raises(ConfigurationError, match="in shadow only the champion answers"):
        judge(world(100, 0), question, Ab())
