"""Traffic: which model version serves which share of the users, from aliases and ledger."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

from mlp.core.models.ledger import CHALLENGER, CHAMPION, Action, LedgerEntry


@dataclass(frozen=True, slots=True)
class Traffic:
    """Versions by role. `share` of the keys goes to the challenger; with `shadow` none does, and
    the challenger predicts on that share beside the champion."""

    champion: str | None
    challenger: str | None = None
    share: float = 0.0
    shadow: bool = False


def traffic(
    aliases: Mapping[str, str], entries: Iterable[LedgerEntry], share: float, shadow: bool
) -> Traffic:
    """What holds now; `share` and `shadow` are mlp.yaml's, for a challenger nothing is said of.

    What was said of a version counts until it becomes the challenger anew.
    """
    champion, challenger = aliases.get(CHAMPION), aliases.get(CHALLENGER)
    if challenger is None or challenger == champion:
        return Traffic(champion)
    now = Traffic(champion, challenger, share, shadow)
    for entry in entries:  # the oldest first: the last word counts
        if entry.version != challenger:
            continue
        if becomes_challenger(entry):
            now = Traffic(champion, challenger, share, shadow)
        elif entry.action == Action.SHARED:
            said = entry.evidence
            now = Traffic(champion, challenger, float(said["share"]), bool(said["shadow"]))
        elif entry.action == Action.TAKEN_OUT:
            now = replace(now, share=0.0)
    return now


def becomes_challenger(entry: LedgerEntry) -> bool:
    """Whether the entry tells that its version is the challenger from then on."""
    return entry.alias == CHALLENGER and entry.action in (Action.PROMOTED, Action.FOUND)


def position(salt: str, key: str) -> float:
    """Where a key lies in [0, 1): uniform, the same in every process and on every machine.

    A key goes to the challenger where this is below its share, so that a larger share only moves
    keys to the challenger and a smaller one only moves keys back. Another salt shuffles them.
    """
    digest = blake2b(key.encode(), digest_size=8, key=salt.encode()[:64]).digest()
    return (int.from_bytes(digest) >> 11) * 2.0**-53


def percent(share: float) -> str:
    """A share of the users, as people read it."""
    return f"{100 * share:.4g} %"
