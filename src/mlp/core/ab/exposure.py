"""Exposure: the periods in which each version had the same share of the users, from the ledger."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlp.core.ab.traffic import Traffic, traffic
from mlp.core.models.ledger import Action, LedgerEntry
from mlp.core.models.standing import holders

_MATTER = (
    *(Action.PROMOTED, Action.ROLLED_BACK, Action.FOUND, Action.ARCHIVED),
    *(Action.SHARED, Action.TAKEN_OUT),
)


@dataclass(frozen=True, slots=True)
class Period:
    """`traffic` held from `start` to `end`, in seconds since the epoch; the last one has no end."""

    start: float
    end: float | None
    traffic: Traffic


def periods(
    entries: Iterable[LedgerEntry], now: Traffic, share: float, shadow: bool
) -> tuple[Period, ...]:
    """The periods in order, the last of which is what holds `now`.

    `share` and `shadow` are mlp.yaml's, for challengers of which the ledger says nothing. Where the
    aliases are not those that the ledger ends with, because something else moved them, the last
    period starts at the last entry.
    """
    before: list[LedgerEntry] = []
    found: list[tuple[float, Traffic]] = []
    last = 0.0
    for entry in entries:
        before.append(entry)
        last = entry.at
        if entry.action in _MATTER:
            _note(found, entry.at, traffic(holders(before), before, share, shadow))
    _note(found, last, now)
    ends: list[float | None] = [start for start, _ in found[1:]]
    return tuple(Period(s, e, t) for (s, t), e in zip(found, [*ends, None], strict=True))


def _note(found: list[tuple[float, Traffic]], at: float, holds: Traffic) -> None:
    if not found or found[-1][1] != holds:
        found.append((at, holds))


def comparable(all_periods: Sequence[Period], now: Traffic) -> tuple[Period, ...]:
    """The periods in which both versions of `now` predicted for a part of the keys.

    Under a split both have to get requests: at a share of 0 or 1 there is nothing beside it to
    compare with, and what happened at another time cannot be compared. In shadow any share will do.
    """
    return tuple(
        period
        for period in all_periods
        if (period.traffic.champion, period.traffic.challenger) == (now.champion, now.challenger)
        and period.traffic.shadow == now.shadow
        and (0 < period.traffic.share < 1 or (now.shadow and period.traffic.share > 0))
    )
