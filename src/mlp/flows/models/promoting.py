"""Promoting a version: its gates, and then the alias, if nobody was faster."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlp.core.errors import GateRefused, UsageError
from mlp.core.models import gates as judged
from mlp.core.models.gates import Gate
from mlp.core.models.ledger import CHALLENGER, CHAMPION, Action, LedgerEntry
from mlp.core.models.model_version import ModelVersion, recorded_digest
from mlp.core.models.standing import AGAINST, SEEN
from mlp.flows.models import gate_answers
from mlp.flows.models.changing import change, lost
from mlp.flows.models.opened_model import Opened, actor, opened
from mlp.flows.models.reconcile import settle
from mlp.flows.project import Project

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PromotionRequest:
    """What is asked for. `expect`: the version that the alias has to mean until now, "" for none;
    None: whichever it means when the plan is made. `accept`: gates that need not pass. `seen`: the
    number of the ledger's last entry when this was decided, None: when the plan is made."""

    version: str
    to: str = CHAMPION
    reason: str = ""
    accept: Sequence[str] = ()
    expect: str | None = None
    seen: int | None = None


@dataclass(frozen=True, slots=True)
class PromotionPlan:
    """What a promotion would do, and whether it may."""

    model: str
    version: str
    alias: str
    previous: str | None
    champion: str | None
    reason: str
    gates: tuple[Gate, ...]
    digest: str | None
    seen: int
    done: bool = False  # the alias means this version already

    @property
    def refused(self) -> tuple[Gate, ...]:
        """The gates that keep it from going on."""
        return tuple(gate for gate in self.gates if gate.asked and not gate.opens)


def plan(
    project: Project, request: PromotionRequest, progress: Progress = lambda _: None
) -> PromotionPlan:
    """The verdict of every gate. Changes nothing but what the ledger lacks.

    `progress` gets a line when a gate begins: one that starts processes takes seconds, or minutes.

    Raises UsageError for a version or gate that is not there, or a gate accepted without a reason,
    and Conflict where the alias does not mean what `request.expect` says.
    """
    if request.to not in (CHAMPION, CHALLENGER):
        raise UsageError(f"a version becomes {CHAMPION} or {CHALLENGER}, not {request.to!r}")
    judged.check_names(request.accept)
    if request.accept and not request.reason.strip():
        raise UsageError(
            "a gate is accepted only with a reason",
            fix=f"mlp models promote {request.version} --accept GATE --reason WHY",
        )
    with opened(project) as model:
        settle(model)
        aliases = model.aliases()
        previous = aliases.get(request.to)
        if request.expect is not None:
            expected = model.version(request.expect).version if request.expect else None
            if previous != expected:
                raise lost(model, request.to, expected)
        candidate = model.version(request.version)
        champion = aliases.get(CHAMPION)
        if request.to == CHALLENGER and candidate.version == champion:
            raise UsageError(
                f"version {candidate.version} is the champion, and cannot challenge itself",
                fix="mlp models promote ANOTHER --to challenger; `mlp models list` shows them",
            )
        return _plan(model, request, candidate, previous, champion, progress)


def apply(project: Project, planned: PromotionPlan) -> LedgerEntry:
    """Move the alias; returns the ledger's entry.

    Raises GateRefused with every verdict where a gate did not open, or where servers took the
    version out since this was decided, and Conflict, which tells by whom, where the alias changed
    since the plan was made.
    """
    if planned.refused:
        raise refusal(planned)
    with opened(project) as model:
        wanted = LedgerEntry(
            model=model.name,
            action=Action.PROMOTED,
            version=planned.version,
            alias=planned.alias,
            previous=planned.previous,
            actor=actor(),
            reason=planned.reason,
            evidence=_evidence(planned),
        )
        return change(model, wanted)


def refusal(planned: PromotionPlan) -> GateRefused:
    """The error that names every gate with its verdict and its fix."""
    names = ", ".join(gate.name for gate in planned.refused)
    lines = []
    for gate in planned.gates:
        if not gate.asked:
            lines.append(f"{gate.name}: {gate.detail}")
            continue
        mark = "accepted" if gate.accepted else "passed" if gate.passed else "refused"
        lines.append(f"{gate.name}: {mark}: {gate.detail}")
        if not gate.opens and gate.fix:
            lines.append(f"  fix: {gate.fix}")
    return GateRefused(
        f"version {planned.version} may not become {planned.alias}: {names}",
        fix="fix what is named above; or let a gate be: "
        f"mlp models promote {planned.version} --to {planned.alias} --accept GATE --reason WHY",
        cause="\n".join(lines),
    )


def _plan(
    model: Opened,
    request: PromotionRequest,
    candidate: ModelVersion,
    previous: str | None,
    champion: str | None,
    progress: Progress,
) -> PromotionPlan:
    entries = model.entries()
    last = entries[-1].number if entries else 0
    done = previous == candidate.version
    verdicts: tuple[Gate, ...] = ()
    if not done:
        names = model.project.model.gates.before(request.to)
        against = model.version(champion) if champion else None
        accepted = request.accept
        verdicts = gate_answers.examine(
            model, candidate, against, entries, names, accepted, progress
        )
    return PromotionPlan(
        model.name,
        candidate.version,
        request.to,
        previous,
        champion,
        request.reason,
        judged.accept(verdicts, request.accept),
        recorded_digest(entries, candidate.version, candidate.tags),
        request.seen if request.seen is not None else last,
        done,
    )


def _evidence(planned: PromotionPlan) -> dict[str, Any]:
    return {
        "digest": planned.digest,
        "gates": [dataclasses.asdict(gate) for gate in planned.gates],
        AGAINST: planned.champion,
        SEEN: planned.seen,
        "accepted": [gate.name for gate in planned.gates if gate.accepted],
    }
