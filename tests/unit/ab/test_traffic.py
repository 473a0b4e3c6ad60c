"""Who answers follows from the aliases, the ledger and the user's key."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlp.core.ab.traffic import Traffic, position, traffic
from mlp.core.models.ledger import Action, LedgerEntry

ALIASES = {"champion": "1", "challenger": "2"}


def entry(action: Action, version: str = "2", **more: Any) -> LedgerEntry:
    return LedgerEntry("demo", action, version, **more)


def shared(share: float, shadow: bool = False) -> LedgerEntry:
    return entry(Action.SHARED, evidence={"share": share, "shadow": shadow})


def now(*entries: LedgerEntry) -> Traffic:
    return traffic(ALIASES, entries, 0.1, False)


def test_the_last_word_on_the_challenger_counts() -> None:
    assert now() == Traffic("1", "2", 0.1)
    assert now(shared(0.5), shared(0.2, shadow=True)) == Traffic("1", "2", 0.2, True)
    assert now(shared(0.5), entry(Action.TAKEN_OUT)).share == 0
    assert now(entry(Action.TAKEN_OUT), shared(0.3)).share == 0.3
    assert now(entry(Action.TAKEN_OUT, version="3")).share == 0.1


def test_a_version_that_becomes_the_challenger_anew_starts_with_the_configured_share() -> None:
    again = entry(Action.PROMOTED, alias="challenger")
    assert now(shared(0.5, shadow=True), again) == Traffic("1", "2", 0.1)
    assert now(entry(Action.TAKEN_OUT), again).share == 0.1
    by_hand = entry(Action.FOUND, alias="challenger")
    assert now(shared(0.5), by_hand, shared(0.7)).share == 0.7


def test_without_a_challenger_the_champion_answers() -> None:
    assert traffic({"champion": "1"}, [shared(0.5)], 0.1, False) == Traffic("1")
    assert traffic({"champion": "2", "challenger": "2"}, [], 0.1, False) == Traffic("2")


@given(st.text(), st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_moves_keys_to_the_challenger(
    salt: str, key: str, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    place = position(salt, key)
    assert 0 <= place < 1
    assert place < large or not place < small


def test_keys_are_spread_evenly_and_anew_for_each_salt() -> None:
    places = [position("a", str(i)) for i in range(20_000)]
    for share in (0.01, 0.1, 0.5):
        hits = sum(place < share for place in places)
        assert abs(hits - 20_000 * share) < 5 * (20_000 * share * (1 - share)) ** 0.5
    both = sum(position("a", str(i)) < 0.5 and position("b", str(i)) < 0.5 for i in range(20_000))
    assert abs(both - 5_000) < 5 * (20_000 * 0.25 * 0.75) ** 0.5
