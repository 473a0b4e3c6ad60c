"""What a ledger says: which version an alias means, what is unsettled, which versions are good."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlp.core.ab.traffic import becomes_challenger
from mlp.core.models.ledger import CHALLENGER, CHAMPION, Action, LedgerEntry
from mlp.core.models.model_version import Lifecycle

ALIASES = (CHAMPION, CHALLENGER)
INTENT = "intent"  # evidence of an outcome: the number of the INTENDED entry that it settles
OUTCOME = "outcome"  # evidence of INTENDED: the action that it becomes
AGAINST = "against"  # evidence of a promotion: the champion that its gates compared with
SEEN = "seen"  # evidence of a promotion: the ledger's last entry when it was decided
AFTER_CRASH = "completed after a crash"
BY_HAND = "changed outside of mlp"
UNKNOWN = "unknown"

_MADE = (Action.PROMOTED, Action.ROLLED_BACK, Action.FOUND)


@dataclass(frozen=True, slots=True)
class Good:
    """Versions that a rollback may go to, the best first, and why it may not go to the others."""

    versions: Sequence[str]
    passed_over: Mapping[str, str] = field(default_factory=dict)


def holders(entries: Iterable[LedgerEntry]) -> dict[str, str]:
    """The version that each alias means, by the ledger alone."""
    held: dict[str, str] = {}
    for entry in entries:
        if entry.alias is None or entry.action not in (*_MADE, Action.ARCHIVED):
            continue
        if entry.version is None or entry.action == Action.ARCHIVED:
            held.pop(entry.alias, None)
            continue
        held[entry.alias] = entry.version
        # Who becomes champion is not a challenger any more.
        if _takes_over(entry) and held.get(CHALLENGER) == entry.version:
            del held[CHALLENGER]
    return held


def pending(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """The INTENDED entries of which the ledger does not say what became."""
    found: dict[int, LedgerEntry] = {}
    for entry in entries:
        if entry.action == Action.INTENDED:
            found[entry.number] = entry
        elif INTENT in entry.evidence:
            found.pop(int(entry.evidence[INTENT]), None)
    return list(found.values())


def unsettled(entries: Sequence[LedgerEntry], aliases: Mapping[str, str]) -> list[LedgerEntry]:
    """The entries that the ledger lacks: what became of intents, and changes by others.

    `aliases` are MLflow's, which are the truth. Without anybody at work: under the model's lock.
    """
    lacking = [_settled(intent, aliases) for intent in pending(entries)]
    held = holders([*entries, *lacking])
    for alias in ALIASES:
        if held.get(alias) == aliases.get(alias):
            continue
        if alias not in held and _left_over(alias, lacking, aliases):
            continue  # it is cleared instead
        lacking.append(
            LedgerEntry(
                model="",
                action=Action.FOUND,
                version=aliases.get(alias),
                alias=alias,
                previous=held.get(alias),
                actor=UNKNOWN,
                reason=BY_HAND,
            )
        )
    return lacking


def to_clear(entries: Iterable[LedgerEntry], aliases: Mapping[str, str]) -> bool:
    """Whether the challenger's alias is left over from its promotion to champion."""
    same = CHALLENGER in aliases and aliases.get(CHALLENGER) == aliases.get(CHAMPION)
    return same and CHALLENGER not in holders(entries)


def last_good(entries: Iterable[LedgerEntry], champion: str | None) -> Good:
    """Where a rollback from `champion` goes: earlier champions, the last one first.

    Passed over is what was rolled back from, taken out or archived and not promoted since.
    """
    served: list[str] = []
    bad: dict[str, str] = {}
    for entry in entries:
        version, number = entry.version, f"entry {entry.number}"
        if entry.alias == CHAMPION and entry.action in _MADE and version is not None:
            served = [*(v for v in served if v != version), version]
            bad.pop(version, None)
        if entry.action == Action.ROLLED_BACK and entry.alias == CHAMPION and entry.previous:
            bad[entry.previous] = f"it was rolled back from ({number})"
        elif entry.action == Action.TAKEN_OUT and version is not None:
            bad[version] = f"it was taken out ({number})"
        elif entry.action == Action.ARCHIVED and version is not None:
            bad[version] = f"it is archived ({number})"
    earlier = [version for version in reversed(served) if version != champion]
    return Good(
        tuple(version for version in earlier if version not in bad),
        {version: bad[version] for version in earlier if version in bad},
    )


def lifecycle(
    version: str, aliases: Mapping[str, str], entries: Iterable[LedgerEntry] = ()
) -> Lifecycle:
    """Where a version stands."""
    if aliases.get(CHAMPION) == version:
        return Lifecycle.PRODUCTION
    if aliases.get(CHALLENGER) == version:
        return Lifecycle.STAGING
    archived = False
    for entry in entries:
        if entry.version == version and entry.action in (*_MADE, Action.ARCHIVED):
            archived = entry.action == Action.ARCHIVED
    return Lifecycle.ARCHIVED if archived else Lifecycle.NONE


def taken_out(
    entries: Iterable[LedgerEntry], version: str | None, seen: int = 0
) -> LedgerEntry | None:
    """By which entry after number `seen` servers took the challenger out, and nobody back in.

    Who gives it a share, or makes it challenger anew, takes it back in.
    """
    found = None
    for entry in entries:
        if entry.version != version or entry.number <= seen:
            continue
        if entry.action == Action.TAKEN_OUT:
            found = entry
        elif entry.action == Action.SHARED or becomes_challenger(entry):
            found = None
    return found


def who_made(entries: Iterable[LedgerEntry], alias: str, version: str | None) -> LedgerEntry | None:
    """The entry by which `alias` came to mean `version`, the last one."""
    found = None
    for entry in entries:
        if entry.alias == alias and entry.version == version and entry.action in _MADE:
            found = entry
    return found


def _settled(intent: LedgerEntry, aliases: Mapping[str, str]) -> LedgerEntry:
    alias = intent.alias or CHAMPION
    wanted = None if intent.evidence.get(OUTCOME) == Action.ARCHIVED else intent.version
    reached = aliases.get(alias) == wanted
    action = Action(intent.evidence.get(OUTCOME, Action.PROMOTED)) if reached else Action.ABANDONED
    kept = {k: v for k, v in intent.evidence.items() if k != OUTCOME} if reached else {}
    return LedgerEntry(
        model=intent.model,
        action=action,
        version=intent.version,
        alias=intent.alias,
        previous=intent.previous,
        actor=intent.actor,
        reason=intent.reason,
        evidence={
            **kept,
            INTENT: intent.number,
            "note": _note(intent, aliases.get(alias), reached),
        },
    )


def _note(intent: LedgerEntry, now: str | None, reached: bool) -> str:
    if reached:
        return AFTER_CRASH
    if now == intent.previous:
        return "it was interrupted before the alias changed"
    return (
        "it was interrupted, and the alias was changed by hand since: whether it served is unknown"
    )


def _takes_over(entry: LedgerEntry) -> bool:
    return entry.alias == CHAMPION and entry.action in (Action.PROMOTED, Action.ROLLED_BACK)


def _left_over(alias: str, lacking: Iterable[LedgerEntry], aliases: Mapping[str, str]) -> bool:
    """Whether the champion's promotion ended before the challenger's alias was taken from it."""
    version = aliases.get(alias)
    return alias == CHALLENGER and any(
        _takes_over(entry) and entry.version == version == aliases.get(CHAMPION)
        for entry in lacking
    )
