"""A rollout: what its next move is, whoever asks, whenever."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.core.ab.rollout import (
    Move,
    Opinion,
    Position,
    StepKind,
    Steps,
    next_move,
    opinion,
    parse,
    position,
)
from mlp.core.ab.traffic import traffic
from mlp.core.ab.verdict import Because, Outcome
from mlp.core.errors import UsageError
from mlp.core.models.ledger import CHALLENGER, Action, LedgerEntry

STEPS = Steps()
FINAL = (StepKind.PROMOTE, StepKind.ABORT)


def shared(share: float, at: float, shadow: bool = False, version: str = "2") -> LedgerEntry:
    evidence = {"share": share, "shadow": shadow}
    return LedgerEntry("m", Action.SHARED, version, evidence=evidence, at=at)


def taken_out(at: float, reason: str = "it failed") -> LedgerEntry:
    return LedgerEntry("m", Action.TAKEN_OUT, "2", reason=reason, at=at)


def challenger(at: float) -> LedgerEntry:
    return LedgerEntry("m", Action.PROMOTED, "2", alias=CHALLENGER, at=at)


def test_the_steps_are_taken_in_turn_and_end_in_a_promotion() -> None:
    ledger, now, seen = [challenger(0.0)], 0.0, []
    for _ in range(20):
        move = next_move(STEPS, position(ledger, "2"), Opinion.ALLOWED, "ok", now)
        seen.append((now, move.kind, move.share))
        if move.kind == StepKind.SHARE:
            ledger.append(shared(move.share, now))
        elif move.kind == StepKind.WAIT:
            now = move.until
        else:
            break
    assert [s for _, kind, s in seen if kind == StepKind.SHARE] == [0.1, 0.25, 0.5, 1.0]
    assert seen[-1][:2] == (2400.0, StepKind.PROMOTE)


def test_what_is_refused_is_aborted_at_once() -> None:
    at = position([challenger(0), shared(0.1, 0)], "2")
    assert next_move(STEPS, at, Opinion.REFUSED, "worse", 1.0) == Move(StepKind.ABORT, "worse")


def test_a_challenger_that_was_taken_out_is_aborted_with_the_ledgers_reason() -> None:
    at = position([challenger(0), shared(0.1, 0), taken_out(5, "too slow")], "2")
    assert next_move(STEPS, at, Opinion.BETTER, "", 900).reason == "too slow"


def test_a_step_is_held_without_enough_data_and_given_up_when_patience_is_over() -> None:
    at = position([challenger(0), shared(0.1, 0)], "2")
    assert next_move(STEPS, at, Opinion.OPEN, "too few", 1e9).kind == StepKind.HOLD
    patient = replace(STEPS, patience=60.0)
    assert next_move(patient, at, Opinion.OPEN, "too few", 659).kind == StepKind.HOLD
    assert next_move(patient, at, Opinion.OPEN, "too few", 660).kind == StepKind.ABORT


def test_only_better_is_asked_for_before_nobody_is_left_to_compare_with() -> None:
    strict = replace(STEPS, only_better=True)
    half = position([challenger(0), shared(0.5, 0)], "2")
    quarter = position([challenger(0), shared(0.25, 0)], "2")
    assert next_move(strict, quarter, Opinion.ALLOWED, "", 600).share == 0.5
    assert next_move(strict, half, Opinion.ALLOWED, "", 600).kind == StepKind.HOLD
    assert next_move(strict, half, Opinion.BETTER, "", 600).share == 1.0


def test_a_share_set_by_hand_is_where_it_goes_on_from() -> None:
    at = position([challenger(0), shared(0.1, 0), shared(0.3, 100)], "2")
    assert next_move(STEPS, at, Opinion.ALLOWED, "", 699).kind == StepKind.WAIT
    assert next_move(STEPS, at, Opinion.ALLOWED, "", 700).share == 0.5


def test_a_share_of_zero_set_by_hand_stops_it() -> None:
    at = position([challenger(0), shared(0.1, 0), shared(0.0, 100)], "2")
    assert next_move(STEPS, at, Opinion.BETTER, "", 1e9).kind == StepKind.HOLD


def test_a_shadow_is_no_step() -> None:
    at = position([challenger(0), shared(1.0, 0, shadow=True)], "2")
    assert next_move(STEPS, at, Opinion.ALLOWED, "", 1e9).share == 0.1


def test_two_controllers_that_set_the_same_share_do_not_prolong_it() -> None:
    at = position([challenger(0), shared(0.1, 10), shared(0.1, 400)], "2")
    assert at == Position(0.1, 10, True)


def test_a_version_that_is_challenger_again_begins_anew() -> None:
    ledger = [challenger(0), shared(0.5, 0), taken_out(5), challenger(90)]
    assert next_move(STEPS, position(ledger, "2"), Opinion.OPEN, "", 100).share == 0.1


@pytest.mark.parametrize(
    "text", ["", "a", "10,10", "50,25", "0,10", "10,101", "nan", "10,nan", "-5,10"]
)
def test_steps_that_do_not_rise_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_steps_are_percentages() -> None:
    assert parse("10, 25,50,100") == STEPS.shares


@pytest.mark.parametrize("because", Because)
@pytest.mark.parametrize("outcome", Outcome)
def test_every_verdict_has_a_meaning(outcome: Outcome, because: Because) -> None:
    says = opinion(outcome, because)
    if outcome == Outcome.WORSE or because == Because.SAMPLE_RATIO:
        assert says == Opinion.REFUSED
    else:
        assert says != Opinion.REFUSED


shares = st.lists(st.integers(1, 100), min_size=1, max_size=6, unique=True).map(
    lambda found: tuple(sorted(each / 100 for each in found))
)
plans = st.builds(
    Steps,
    shares=shares,
    step_time=st.integers(1, 10_000),
    only_better=st.booleans(),
    patience=st.none() | st.integers(0, 100_000),
)
# What happens between two looks: time that passes, and what the verdict says then.
looks = st.lists(st.tuples(st.integers(0, 5000), st.sampled_from(Opinion)), min_size=1, max_size=60)


@given(plans, looks)
def test_shares_only_rise_and_each_is_held_for_its_time(
    steps: Steps, looks: list[tuple[int, Opinion]]
) -> None:
    ledger, now, taken = [challenger(0)], 0, [(0.0, 0)]
    for passed, says in looks:
        now += passed
        at = position(ledger, "2")
        move = next_move(steps, at, says, "because", now)
        if says == Opinion.REFUSED and at.begun:
            assert move.kind == StepKind.ABORT
        if move.kind == StepKind.SHARE:
            last, since = taken[-1]
            assert move.share > last and move.share in steps.shares
            assert now - since >= steps.step_time or not at.begun
            assert says != Opinion.REFUSED or not at.begun
            ledger.append(shared(move.share, now))
            taken.append((move.share, now))
        if move.kind == StepKind.PROMOTE:
            assert tuple(share for share, _ in taken[1:]) == steps.shares
            assert says == Opinion.BETTER or (says == Opinion.ALLOWED and not steps.only_better)
        if move.kind in FINAL:
            break
        # What the servers do is what the rollout takes for its position.
        if position(ledger, "2").begun:
            serves = traffic({"champion": "1", "challenger": "2"}, ledger, 0.0, False)
            assert serves.share == position(ledger, "2").share
