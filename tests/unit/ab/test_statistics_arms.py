"""Two arms that may be compared are made from a log, and a broken splitter is found."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlp.core.ab.exposure import Period, comparable, periods
from mlp.core.ab.statistics import arms, assignment, metrics, sequential
from mlp.core.ab.statistics import columns as read
from mlp.core.ab.statistics.arms import Arms, Log, assemble
from mlp.core.ab.statistics.assignment import Split, check
from mlp.core.ab.statistics.metric_comparison import AnalysisPlan, compare
from mlp.core.ab.traffic import Traffic, position
from mlp.core.ab.verdict import SampleRatio
from mlp.core.models.ledger import Action, LedgerEntry

Array = NDArray[Any]
NOW = Traffic("1", "2", 0.5)


def log(entries: Sequence[dict[str, Any]]) -> Log:
    """Entries in words; what they leave out is a champion's sound answer."""
    usual = {
        "time": 100.0, "version": "1", "route": "champion", "request": "r", "row": 0, "key": None,
        "prediction": 1, "label": None, "latency_ms": 5.0, "failed": False,
    }  # fmt: skip
    whole = [usual | {"request": f"r{number}"} | entry for number, entry in enumerate(entries)]
    columns = {}
    for name in usual:
        values = [entry[name] for entry in whole]
        texts = name in ("key", "prediction", "label", "version", "route", "request")
        columns[name] = np.array(values, object if texts else None)
    return Log(**columns, probability=None)


def challenger(**entry: Any) -> dict[str, Any]:
    return {"version": "2", "route": "challenger"} | entry


def made(entries: Sequence[dict[str, Any]], now: Traffic = NOW, settle: float = 0.0) -> Arms:
    return assemble(log(entries), [Period(0.0, None, now)], now, settle)


# --- what belongs to whom -----------------------------------------------------------------------


@pytest.mark.parametrize("noted_as", ["challenger", "champion"])
def test_an_answer_in_the_challengers_stead_counts_for_the_challenger(noted_as: str) -> None:
    """Intention to treat: its failure, the whole latency, and what the user got."""
    found = made(
        [
            challenger(request="a", prediction=None, failed=True, latency_ms=100.0),
            {"request": "a", "route": noted_as, "prediction": 0, "label": 1, "latency_ms": 105.0},
            {"request": "b", "label": 1},
        ]
    )
    assert found.arm.tolist() == [1, 0]
    assert found.requests.failed.tolist() == [0, 1] or found.requests.failed.tolist() == [1, 0]
    mine = found.requests.arm == 1
    assert found.requests.failed[mine] == [1.0]
    assert found.requests.latency_ms[mine] == [105.0]
    rows = found.labelled(metrics.find("accuracy"))
    assert rows.prediction[rows.arm == 1].tolist() == [0]
    assert [(s.users, s.challenger) for s in found.splits] == [(2, 1)]


def test_other_versions_routes_and_times_are_left_out() -> None:
    before = Period(0.0, 90.0, Traffic("1", "2", 0.0))
    during = Period(90.0, 200.0, NOW)
    entries = [
        {"time": 50.0}, {"time": 95.0}, {"time": 150.0}, {"time": 150.0, "version": "0"},
        challenger(time=150.0), challenger(time=150.0, version="3"),
        {"time": 150.0, "version": "2", "route": "shadow"}, {"time": 250.0},
    ]  # fmt: skip
    chosen = comparable([before, during], NOW)
    assert chosen == (during,)
    found = assemble(log(entries), chosen, NOW, settle=10.0)
    assert found.arm.tolist() == [0, 1]


def test_a_request_counts_once_for_latency_and_each_row_for_the_metric() -> None:
    rows = [{"request": "a", "row": i, "label": 1, "key": f"u{i}"} for i in range(3)]
    found = made([*rows, challenger(request="b", label=0)])
    assert (found.side(0).requests, found.side(0).rows, found.side(0).users) == (1, 3, 3)
    assert len(found.requests.arm) == 2
    assert len(found.labelled(metrics.find("accuracy")).arm) == 4


def test_without_a_key_a_request_is_a_user() -> None:
    found = made([{"request": "a", "row": i} for i in range(5)] + [challenger(request="b")])
    assert found.users == 2


def test_in_shadow_the_same_rows_are_compared() -> None:
    now = Traffic("1", "2", 0.5, shadow=True)
    entries = [
        {"request": "a", "label": 1}, {"request": "b", "label": 1}, {"request": "c", "label": 1},
        challenger(request="a", route="shadow", label=1, prediction=0),
        challenger(request="b", route="shadow", label=1),
    ]  # fmt: skip
    found = made(entries, now)
    assert found.arm.tolist() == [0, 0, 1, 1]
    rows = found.labelled(metrics.find("accuracy"))
    assert rows.users == 2
    pair = metrics.find("accuracy").of(rows, None).pair()
    assert pair.value.tolist() == [1.0, 0.5]


def test_a_metric_of_what_followed_needs_no_prediction() -> None:
    found = made([{"prediction": None, "label": 1, "failed": True}, challenger(label=0)])
    assert len(found.labelled(metrics.find("conversion")).arm) == 2
    assert len(found.labelled(metrics.find("accuracy")).arm) == 1


# --- shares that change -------------------------------------------------------------------------


def entry(action: Action, at: float, version: str | None = "2", **more: Any) -> LedgerEntry:
    return LedgerEntry("m", action, version, at=at, **more)


def test_periods_follow_the_ledger() -> None:
    def shared(share: float, at: float, shadow: bool = False) -> LedgerEntry:
        return entry(Action.SHARED, at, evidence={"share": share, "shadow": shadow})

    ledger = [
        entry(Action.REGISTERED, 1.0, "1"),
        entry(Action.PROMOTED, 2.0, "1", alias="champion"),
        entry(Action.INTENDED, 2.5, "2", alias="challenger"),
        entry(Action.FOUND, 3.0, "2", alias="challenger"),
        shared(0.1, 4.0),
        shared(0.1, 5.0),
        shared(0.5, 6.0),
        entry(Action.TAKEN_OUT, 7.0),
    ]
    now = Traffic("1", "2", 0.0)
    found = periods(ledger, now, 0.0, False)
    assert [(p.start, p.end, p.traffic.share) for p in found] == [
        (2.0, 3.0, 0.0), (3.0, 4.0, 0.0), (4.0, 6.0, 0.1), (6.0, 7.0, 0.5), (7.0, None, 0.0)
    ]  # fmt: skip
    assert [p.traffic.share for p in comparable(found, now)] == [0.1, 0.5]
    assert comparable(found, Traffic("1", "3", 0.1)) == ()


def test_aliases_that_something_else_moved_hold_from_the_last_entry_on() -> None:
    ledger = [entry(Action.PROMOTED, 2.0, "1", alias="champion")]
    found = periods(ledger, Traffic("1", "2", 0.2), 0.2, False)
    assert [(p.start, p.traffic.challenger) for p in found] == [(2.0, None), (2.0, "2")]
    assert periods([], NOW, 0.5, False) == (Period(0.0, None, NOW),)


def ramp(seed: int, drift: float) -> tuple[Arms, list[Period]]:
    """A share of 0.1, then of 0.5; everybody's rate falls by `drift` in between. No difference."""
    random = np.random.default_rng(seed)
    n = 8000
    key = random.integers(0, 4000, n)
    time = np.sort(random.random(n)) * 100
    share = np.where(time < 50, 0.1, 0.5)
    place = random.random(4000)
    arm = place[key] < share
    label = random.random(n) < np.where(time < 50, 0.5 + drift, 0.5)
    history = [
        Period(0.0, 50.0, Traffic("1", "2", 0.1)), Period(50.0, None, Traffic("1", "2", 0.5))
    ]  # fmt: skip
    whole = Log(
        time=time,
        version=np.where(arm, "2", "1"),
        route=np.where(arm, "challenger", "champion"),
        request=np.arange(n),
        row=np.zeros(n, int),
        key=key.astype(object),
        prediction=np.ones(n, object),
        probability=None,
        label=label.astype(int).astype(object),
        latency_ms=np.ones(n),
        failed=np.zeros(n, bool),
    )
    return assemble(whole, history, history[-1].traffic, 0.0), history


def test_a_share_that_grew_makes_no_difference_where_the_world_changed_meanwhile() -> None:
    """The plain comparison is fooled (Simpson's paradox); 60 experiments at 5 %: at most 8."""
    weighted, pooled = 0, 0
    conversion = metrics.find("conversion")
    for seed in range(60):
        found, _ = ramp(seed, drift=0.2)
        rows = found.labelled(conversion)
        flat = dataclasses.replace(rows, weight=np.ones(len(rows.arm)))
        plan = AnalysisPlan(0.05, 0.8, None, 1000)
        weighted += compare(conversion.of(rows, None), plan).fixed[2] <= 0.05
        pooled += compare(conversion.of(flat, None), plan).fixed[2] <= 0.05
    assert weighted <= 8
    assert pooled == 60


def test_users_who_were_moved_by_a_larger_share_count_once_where_they_came_first() -> None:
    suspects = 0
    for seed in range(20):
        found, _ = ramp(seed, drift=0.0)
        assert sum(split.users for split in found.splits) == found.users
        assert found.strayed == 0
        suspects += check(found.splits).suspect
    assert suspects == 0


# --- the sample-ratio check ---------------------------------------------------------------------


def test_a_right_splitter_is_not_accused_however_often_one_looks() -> None:
    """2,000 experiments with a look each 100 users and a share that changes: at most 0.1 %."""
    random = np.random.default_rng(0)
    share = np.where(np.arange(10_000) < 3000, 0.1, 0.5)
    accused = 0
    for _ in range(4):
        deviation = np.cumsum((random.random((500, 10_000)) < share) - share, 1)[:, 99::100]
        variance = np.cumsum(share * (1 - share))[99::100]
        mixture = sequential.mixing(1 / assignment.PLANNED, assignment.SUSPECT)
        p = sequential.p_value(deviation / variance, 1 / variance, mixture)
        accused += int((p < assignment.SUSPECT).any(1).sum())
    assert accused <= 2


def test_the_hash_of_keys_is_not_accused() -> None:
    places = np.array([position("salt", f"user-{i}") for i in range(20_000)])
    for share in (0.01, 0.1, 0.5, 0.9):
        found = check([Split(share, 20_000, int((places < share).sum()))])
        assert not found.suspect
        assert found.p > 0.001


def test_a_broken_splitter_is_found() -> None:
    """A share of 0.12 where 0.1 is configured, with 20,000 users: in all of 200 experiments."""
    random = np.random.default_rng(1)
    found = [
        check([Split(0.1, 10_000, int(a)), Split(0.2, 10_000, int(b))])
        for a, b in zip(
            random.binomial(10_000, 0.12, 200), random.binomial(10_000, 0.22, 200), strict=True
        )
    ]
    assert all(balance.suspect for balance in found)
    assert all(balance.p < 1e-6 for balance in found)


def test_the_check_is_exact_for_one_share_and_counts_zero_for_nothing() -> None:
    from scipy.stats import binomtest

    assert check([Split(0.5, 10, 9)]).p == pytest.approx(binomtest(9, 10, 0.5).pvalue)
    assert check([]) == SampleRatio(0, 0, 0.0, 1.0, 1.0, 0, False)
    assert check([Split(0.1, 100, 10), Split(0.5, 100, 50)]).p == 1
    assert check([Split(0.1, 100, 10), Split(0.5, 100, 50)]).expected == 60


def test_users_in_both_arms_at_one_share_are_counted() -> None:
    entries = [{"key": "u"}, challenger(key="u"), {"key": "v"}]
    assert made(entries).strayed == 1
    assert made([{"key": "u"}, {"key": "v"}]).strayed == 0


def test_numbering_keeps_the_order() -> None:
    codes, count = arms.numbered(["b", "a", "b"])
    assert (codes.tolist(), count) == ([0, 1, 0], 2)


def test_the_time_until_the_challenger_first_answers_is_left_out() -> None:
    early = [{"time": float(at), "key": f"u{at}"} for at in range(10)]
    entries = [*early, challenger(time=20.0), {"time": 21.0}]
    assert made(entries).arm.tolist() == [1, 0]


def test_an_answer_in_the_stead_of_a_challenger_that_loads_does_not_begin_the_comparison() -> None:
    stead = {"time": 10.0, "route": "challenger", "key": "u"}
    entries = [stead, challenger(time=20.0, key="u"), {"time": 21.0}, stead | {"time": 22.0}]
    found = made(entries)
    assert found.arm.tolist() == [1, 0, 1] and found.strayed == 0


# --- what the log holds -------------------------------------------------------------------------


def columns(
    prediction: list[Any],
    number: list[float],
    lists: list[Any],
    probability: list[float] | None = None,
) -> Log:
    n = len(prediction)
    texts = {name: np.array(["x"] * n, object) for name in ("version", "route", "request_id")}
    return read.log(
        texts
        | {
            "prediction": np.array(prediction, object),
            "prediction_number": np.array(number),
            "label": np.array([None, "yes", "2"][:n], object),
            "label_number": np.array([np.nan, np.nan, 2.0][:n]),
            "probabilities": np.array([*lists, None], object)[:n],
            "probability": np.full(n, np.nan) if probability is None else np.array(probability),
            "user_key": np.full(n, None, object),
            "row": np.zeros(n, int),
            "time": np.zeros(n),
            "latency_ms": np.ones(n),
            "failed": np.zeros(n, bool),
        }
    )


def test_numbers_are_numbers_and_the_rest_is_text() -> None:
    found = columns(["1", "cat", None], [1.0, np.nan, np.nan], [[0.1, 0.9], [0.2, 0.8], [0.5]])
    assert found.prediction.tolist() == [1.0, "cat", None]
    assert found.label.tolist() == [None, "yes", 2.0]
    assert found.probability is not None
    np.testing.assert_array_equal(found.probability, [[0.1, 0.9], [0.2, 0.8], [np.nan] * 2])


def test_a_prediction_of_several_numbers_is_taken_for_probabilities() -> None:
    found = columns(["[0.1, 0.7, 0.2]", "[1, 2", None], [np.nan] * 3, [None, None, None])
    assert found.prediction.tolist() == [1.0, "[1, 2", None]
    assert found.probability is not None
    np.testing.assert_array_equal(found.probability[0], [0.1, 0.7, 0.2])
    assert np.isnan(found.probability[1:]).all()
    assert columns(["1"], [1.0], [None]).probability is None


def test_a_column_of_the_answer_is_the_probability_where_it_is_named_as_such() -> None:
    found = columns(["1", "0"], [1.0, 0.0], [None, None], [0.8, 0.3])
    assert found.probability is not None
    assert (found.prediction.tolist(), found.probability.tolist()) == ([1.0, 0.0], [[0.8], [0.3]])
