"""What a ledger says of aliases, of crashes, and of where a rollback goes."""

import dataclasses
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mlp.core.models.ledger import Action, LedgerEntry
from mlp.core.models.standing import (
    INTENT,
    OUTCOME,
    holders,
    last_good,
    lifecycle,
    pending,
    taken_out,
    to_clear,
    unsettled,
)


def entry(action: Action, version: str | None, alias: str = "champion", **more: Any) -> LedgerEntry:
    return LedgerEntry("demo", action, version, alias, **more)


def numbered(*entries: LedgerEntry) -> list[LedgerEntry]:
    return [dataclasses.replace(each, number=i) for i, each in enumerate(entries, 1)]


def intent(version: str, alias: str = "champion") -> LedgerEntry:
    return entry(Action.INTENDED, version, alias, evidence={OUTCOME: str(Action.PROMOTED)})


def test_an_intent_whose_alias_was_set_was_carried_out() -> None:
    ledger = numbered(entry(Action.PROMOTED, "1"), intent("2"))
    [found] = unsettled(ledger, {"champion": "2"})
    assert (found.action, found.version, found.evidence[INTENT]) == (Action.PROMOTED, "2", 2)
    assert "crash" in found.evidence["note"]


def test_what_is_completed_after_a_crash_keeps_the_evidence_of_its_intent() -> None:
    evidence = {"gates": [{"name": "files"}], "digest": "sha256:1", "accepted": ["files"]}
    begun = entry(Action.INTENDED, "2", evidence={**evidence, OUTCOME: str(Action.PROMOTED)})
    [found] = unsettled(numbered(begun), {"champion": "2"})
    assert found.evidence.items() >= {**evidence, INTENT: 1}.items()
    assert OUTCOME not in found.evidence


def test_an_intent_whose_alias_was_not_set_was_abandoned() -> None:
    begun = dataclasses.replace(intent("2"), previous="1")
    ledger = numbered(entry(Action.PROMOTED, "1"), begun)
    [found] = unsettled(ledger, {"champion": "1"})
    assert (found.action, found.version) == (Action.ABANDONED, "2")
    assert "before the alias changed" in found.evidence["note"]
    later, by_hand = unsettled(ledger, {"champion": "3"})
    assert (later.action, by_hand.action) == (Action.ABANDONED, Action.FOUND)
    assert "unknown" in later.evidence["note"]


def test_an_alias_that_no_entry_explains_is_found() -> None:
    ledger = numbered(entry(Action.PROMOTED, "1"))
    [found] = unsettled(ledger, {"champion": "3"})
    assert (found.action, found.previous, found.version) == (Action.FOUND, "1", "3")
    [gone] = unsettled(ledger, {})
    assert (gone.action, gone.previous, gone.version) == (Action.FOUND, "1", None)


versions = st.sampled_from(["1", "2", "3"])
steps = st.lists(
    st.tuples(
        st.sampled_from([Action.INTENDED, Action.PROMOTED, Action.ROLLED_BACK, Action.ARCHIVED]),
        versions,
        st.sampled_from(["champion", "challenger"]),
    ),
    max_size=8,
)
aliases = st.dictionaries(st.sampled_from(["champion", "challenger"]), versions)


@given(steps, aliases)
@example(
    [(Action.PROMOTED, "2", "challenger"), (Action.INTENDED, "1", "champion")],
    {"champion": "1", "challenger": "1"},
)
def test_once_settled_a_ledger_says_what_the_aliases_are(
    made: list[tuple[Action, str, str]], now: dict[str, str]
) -> None:
    ledger = numbered(
        *(
            intent(version, alias) if action == Action.INTENDED else entry(action, version, alias)
            for action, version, alias in made
        )
    )
    settled = numbered(*ledger, *unsettled(ledger, now))
    assert pending(settled) == []
    if to_clear(settled, now):
        now = {"champion": now["champion"]}
    assert holders(settled) == now
    assert unsettled(settled, now) == []


def test_a_rollback_goes_past_what_was_bad_to_the_last_good_version() -> None:
    ledger = numbered(
        entry(Action.PROMOTED, "1"),
        entry(Action.PROMOTED, "2", previous="1"),
        entry(Action.PROMOTED, "3", previous="2"),
        entry(Action.ROLLED_BACK, "2", previous="3"),
        entry(Action.PROMOTED, "4", previous="2"),
    )
    good = last_good(ledger, "4")
    assert good.versions == ("2", "1")
    assert "rolled back" in good.passed_over["3"]


def test_a_version_that_is_promoted_again_is_good_again() -> None:
    ledger = numbered(
        entry(Action.PROMOTED, "1"),
        entry(Action.ARCHIVED, "1", previous="1"),
        entry(Action.PROMOTED, "1"),
        entry(Action.PROMOTED, "2", previous="1"),
    )
    assert last_good(ledger, "2").versions == ("1",)


def test_lifecycle_follows_the_aliases_before_the_ledger() -> None:
    ledger = numbered(entry(Action.ARCHIVED, "1"))
    assert lifecycle("1", {}, ledger) == "Archived"
    assert lifecycle("1", {"champion": "1"}, ledger) == "Production"
    assert lifecycle("2", {"challenger": "2"}, ledger) == "Staging"
    assert lifecycle("3", {}, ledger) == "None"


def test_a_version_is_taken_out_then_unless_it_got_a_share_again() -> None:
    out = entry(Action.TAKEN_OUT, "2", alias=None)
    entries = numbered(out, entry(Action.TAKEN_OUT, "3", alias=None))
    found = taken_out(entries, "2", 0)
    assert found is not None and found.number == 1
    assert taken_out(entries, "2", 1) is None
    assert taken_out(numbered(out, entry(Action.SHARED, "2", alias=None)), "2", 0) is None
    anew = entry(Action.PROMOTED, "2", alias="challenger")
    assert taken_out(numbered(out, anew), "2", 0) is None
