"""A challenger's way to champion: steps that go on by themselves, promotion, and the way back.

What a rollout knows is the ledger: killed at any moment and started again, it goes on from there.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlp.core.ab.rollout import Move, StepKind, Steps, next_move, opinion, position
from mlp.core.errors import ConfigurationError, GateRefused, RemoteError
from mlp.core.models.ledger import CHALLENGER, CHAMPION, Action, LedgerEntry
from mlp.flows.ab import judgement, traffic_shares
from mlp.flows.models import promoting, rolling_back
from mlp.flows.models.opened_model import opened
from mlp.flows.project import Project

Progress = Callable[[str], None]
Sleep = Callable[[float], None]

# Between two looks, at most: a verdict that turns bad is acted on within this.
_LOOK_S = 30.0


@dataclass(frozen=True, slots=True)
class RolloutOutcome:
    """Where a rollout is. `move` is the last one; `over`: nothing more comes of it."""

    model: str
    version: str
    share: float
    move: Move
    over: bool


def run(
    project: Project,
    steps: Steps,
    progress: Progress,
    *,
    once: bool = False,
    sleep: Sleep = time.sleep,
) -> RolloutOutcome:
    """Bring the challenger to the users step by step, and make it champion at the end.

    With `once` one move is made, if one is due. Raises GateRefused where the challenger was taken
    back: by the verdict, by the servers, by a gate of the promotion or by hand. Raises
    ConfigurationError where there is no challenger or no verdict can be reached.
    """
    told = ""
    while True:
        try:
            outcome = _advance(project, steps, progress)
        except RemoteError as e:
            if once:
                raise
            if told != e.message:
                progress(f"nothing changes while this lasts: {e.one_line()}")
            told = e.message
            sleep(_LOOK_S)
            continue
        words = f"version {outcome.version}: {_words(outcome)}"
        if words != told:
            progress(words)
            told = words
        if outcome.over or once:
            return outcome
        sleep(_pause(outcome.move, time.time()))


def promote(
    project: Project, progress: Progress, reason: str = "", seen: int | None = None
) -> LedgerEntry:
    """Make the challenger champion, through its gates; returns the ledger's entry.

    `progress` gets a line when a gate begins, `seen` is as in `promoting.Request`. Raises
    GateRefused, with the list, where it does not pass them or was taken out meanwhile, and
    ConfigurationError where there is no challenger.
    """
    version = _challenger(project)
    request = promoting.PromotionRequest(
        version, CHAMPION, reason or "mlp deploy promote", seen=seen
    )
    return promoting.apply(project, promoting.plan(project, request, progress))


def abort(project: Project, reason: str = "") -> LedgerEntry:
    """Take the challenger's alias away, so that the champion answers everything. Returns the entry.

    Raises ConfigurationError where there is no challenger.
    """
    _challenger(project)
    return rolling_back.withdraw(project, reason or "mlp deploy abort")


def _advance(project: Project, steps: Steps, progress: Progress) -> RolloutOutcome:
    """Look, decide, and do it."""
    model, version = project.model.name, traffic_shares.current(project).challenger
    with opened(project) as ledger:
        entries = ledger.entries()
    if version is None:
        return _ended(model, entries)
    at = position(entries, version)
    found = judgement.reach(project)
    move = next_move(steps, at, opinion(found.outcome, found.because), found.reason, time.time())
    share = at.share
    if move.kind == StepKind.SHARE:
        share = move.share
        traffic_shares.set_share(project, share, reason=f"rollout: {move.reason}")
    elif move.kind == StepKind.PROMOTE:
        share = 1.0
        _promote(project, progress, version, move.reason, entries[-1].number)
    elif move.kind == StepKind.ABORT:
        _take_back(project, version, move.reason)
    return RolloutOutcome(model, version, share, move, move.kind == StepKind.PROMOTE)


def _promote(project: Project, progress: Progress, version: str, reason: str, seen: int) -> None:
    try:
        promote(project, progress, f"rollout: {reason}", seen)
    except GateRefused as e:
        _take_back(project, version, e.message, e.cause)


def _take_back(project: Project, version: str, reason: str, cause: str = "") -> None:
    abort(project, f"rollout: {reason}")
    raise GateRefused(
        f"version {version} was taken back: {reason}",
        fix="mlp ab verdict shows the comparison; mlp models history has what happened",
        cause=cause,
    )


def _challenger(project: Project) -> str:
    version = traffic_shares.current(project).challenger
    if version is None:
        raise ConfigurationError(
            f"model {project.model.name!r} has no challenger",
            fix="mlp models promote VERSION --to challenger",
        )
    return version


def _ended(model: str, entries: Sequence[LedgerEntry]) -> RolloutOutcome:
    """Of a rollout without a challenger: what the ledger says became of it."""
    moves = [entry for entry in entries if entry.alias in (CHAMPION, CHALLENGER)]
    last = moves[-1] if moves else None
    if last is not None and last.version is None and last.action == Action.ROLLED_BACK:
        raise GateRefused(
            f"version {last.previous} was taken back: {last.reason}", fix="mlp models history"
        )
    shared = {entry.version for entry in entries if entry.action == Action.SHARED}
    promoted = last is not None and last.alias == CHAMPION and last.action == Action.PROMOTED
    if last is not None and promoted and last.version in shared:
        move = Move(StepKind.PROMOTE, f"it is champion since entry {last.number} of the ledger")
        return RolloutOutcome(model, str(last.version), 1.0, move, over=True)
    raise ConfigurationError(
        f"model {model!r} has no challenger", fix="mlp models promote VERSION --to challenger"
    )


def _words(outcome: RolloutOutcome) -> str:
    move = outcome.move
    if move.kind == StepKind.SHARE:
        return f"gets {move.share:.0%} of the keys ({move.reason})"
    if move.kind == StepKind.PROMOTE:
        return f"is champion ({move.reason})"
    if move.kind == StepKind.WAIT:
        until = time.strftime("%H:%M:%S", time.localtime(move.until))
        return f"has {outcome.share:.0%} of the keys until {until} at least"
    return f"stays at {outcome.share:.0%} of the keys: {move.reason}"


def _pause(move: Move, now: float) -> float:
    if move.kind == StepKind.SHARE:
        return 0.0
    if move.kind == StepKind.WAIT:
        return min(_LOOK_S, max(0.05, move.until - now))
    return _LOOK_S
