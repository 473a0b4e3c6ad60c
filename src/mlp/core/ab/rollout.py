"""A challenger's way to champion in steps: what comes next, from the ledger and the verdict.

Nothing is remembered but the ledger: whoever looks at it decides the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mlp.core.ab.verdict import Because, Outcome
from mlp.core.errors import UsageError
from mlp.core.models.ledger import CHALLENGER, Action, LedgerEntry

_MOVED = (Action.PROMOTED, Action.ROLLED_BACK, Action.FOUND)


@dataclass(frozen=True, slots=True)
class Steps:
    """Shares in rising order, each held for `step_time` seconds at least.

    `only_better`: the last share, and the promotion, want a verdict "better"; else one that is not
    "worse" will do. `patience`: seconds beyond `step_time` after which a step that may not be left
    is given up; None: it is held for as long as it takes.
    """

    shares: tuple[float, ...] = (0.10, 0.25, 0.50, 1.0)
    step_time: float = 600.0
    only_better: bool = False
    patience: float | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where the challenger is: its share, and since when, in seconds since the epoch.

    `begun`: it has had a share before. `ended`: why it gets no requests any more, "" if it may.
    """

    share: float = 0.0
    since: float = 0.0
    begun: bool = False
    ended: str = ""


class Opinion(StrEnum):
    """What the verdict lets a rollout do."""

    BETTER = "better"
    ALLOWED = "allowed"  # not worse, on enough data
    OPEN = "open"  # not enough data to say
    REFUSED = "refused"


class StepKind(StrEnum):
    """What a rollout does next."""

    SHARE = "share"
    WAIT = "wait"  # until a time
    HOLD = "hold"  # until the verdict says more
    PROMOTE = "promote"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Move:
    """What to do, and why. `share` for SHARE; `until`, in seconds since the epoch, for WAIT."""

    kind: StepKind
    reason: str
    share: float = 0.0
    until: float = 0.0


def parse(text: str) -> tuple[float, ...]:
    """The shares of "10,25,50,100", in percent. Raises UsageError where they do not rise."""
    fix = "--steps 10,25,50,100"
    try:
        shares = tuple(float(part) / 100 for part in text.split(","))
    except ValueError as e:
        raise UsageError(f"--steps {text!r} is not a list of percentages", fix=fix) from e
    rising = all(a < b for a, b in zip((0.0, *shares), shares, strict=False))
    if not rising or not all(0 < share <= 1 for share in shares):
        raise UsageError(f"--steps {text!r} has to rise, from above 0 to at most 100", fix=fix)
    return shares


def opinion(outcome: Outcome, because: Because) -> Opinion:
    """What a verdict lets a rollout do.

    A split that cannot be trusted is refused: nothing that is seen under it says anything.
    """
    if outcome == Outcome.WORSE or because == Because.SAMPLE_RATIO:
        return Opinion.REFUSED
    if outcome == Outcome.BETTER:
        return Opinion.BETTER
    if because in (Because.SAMPLES, Because.UNDEFINED):
        return Opinion.OPEN
    return Opinion.ALLOWED


def position(entries: Iterable[LedgerEntry], challenger: str) -> Position:
    """Where version `challenger` is, from the ledger, the oldest entry first.

    Becoming challenger (again) begins anew; the same share told twice is held since the first time.
    """
    at = Position()
    for entry in entries:
        if entry.version != challenger:
            continue
        if entry.action in _MOVED and entry.alias == CHALLENGER:
            at = Position(since=entry.at)
        elif entry.action == Action.TAKEN_OUT:
            at = Position(0.0, entry.at, at.begun, entry.reason or "it was taken out")
        elif entry.action == Action.SHARED:
            share = 0.0 if entry.evidence["shadow"] else float(entry.evidence["share"])
            same = at.begun and share == at.share and not at.ended
            since = at.since if same else entry.at
            at = Position(share, since, at.begun or share > 0)
    return at


def next_move(steps: Steps, at: Position, says: Opinion, reason: str, now: float) -> Move:
    """What comes next. `says` and `reason` are the verdict's; it may refuse at any time."""
    if at.ended:
        return Move(StepKind.ABORT, at.ended)
    if not at.begun:
        return Move(StepKind.SHARE, "the rollout begins", share=steps.shares[0])
    if says == Opinion.REFUSED:
        return Move(StepKind.ABORT, reason)
    if at.share == 0:
        return Move(StepKind.HOLD, "its share was set to 0: set another one, or abort")
    following = _following(steps.shares, at.share)
    due = at.since + steps.step_time
    if now < due:
        return Move(
            StepKind.WAIT, f"the share of {at.share:.0%} is held until its time is over", 0, due
        )
    if _may_go_on(steps, following, says):
        if following is None:
            return Move(StepKind.PROMOTE, reason)
        return Move(StepKind.SHARE, reason, share=following)
    if steps.patience is not None and now >= due + steps.patience:
        return Move(StepKind.ABORT, f"the share of {at.share:.0%} was held long enough: {reason}")
    return Move(StepKind.HOLD, reason)


def _following(shares: Sequence[float], share: float) -> float | None:
    return next((each for each in shares if each > share), None)


def _may_go_on(steps: Steps, following: float | None, says: Opinion) -> bool:
    """At a share of 1 there is nobody left to compare with: what is asked for is asked before."""
    last = following is None or following == steps.shares[-1]
    return says == Opinion.BETTER if steps.only_better and last else says != Opinion.OPEN
