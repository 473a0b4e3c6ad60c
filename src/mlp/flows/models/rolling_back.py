"""Going back to the last good version: an emergency, so nothing is asked but the digest."""

from dataclasses import dataclass, field

from mlp.adapters.base import folder_digests
from mlp.adapters.tracking import registry
from mlp.core.errors import GateRefused, MlpError, UsageError
from mlp.core.models.ledger import CHALLENGER, CHAMPION, Action, LedgerEntry
from mlp.core.models.model_version import recorded_digest
from mlp.core.models.standing import last_good, who_made
from mlp.flows.models.changing import change
from mlp.flows.models.opened_model import Opened, actor, opened
from mlp.flows.models.reconcile import settle
from mlp.flows.project import Project


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """From which version to which; `passed_over` says of others why not."""

    model: str
    version: str
    previous: str | None
    reason: str
    digest: str | None
    passed_over: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def plan(project: Project, to: str | None = None, reason: str = "") -> RollbackPlan:
    """Where a rollback goes: `to`, or the last good version.

    Raises GateRefused where no version is good, or the files of `to` are not those registered, and
    UsageError where `to` has never been champion: no gate has been asked about it.
    """
    with opened(project) as model:
        settle(model)
        return _plan(model, to, reason)


def apply(project: Project, planned: RollbackPlan) -> LedgerEntry:
    """Do it; returns the entry. Raises Conflict where the champion has changed meanwhile."""
    with opened(project) as model:
        wanted = LedgerEntry(
            model=model.name,
            action=Action.ROLLED_BACK,
            version=planned.version,
            alias=CHAMPION,
            previous=planned.previous,
            actor=actor(),
            reason=planned.reason,
            evidence={"digest": planned.digest, "passed_over": planned.passed_over},
        )
        return change(model, wanted)


def withdraw(project: Project, reason: str) -> LedgerEntry:
    """Take the challenger's alias away: every request goes to the champion. Returns the entry.

    Raises UsageError where there is no challenger.
    """
    with opened(project) as model:
        settle(model)
        challenger = model.aliases().get(CHALLENGER)
        if challenger is None:
            raise UsageError(f"model {model.name!r} has no challenger")
        wanted = LedgerEntry(
            model=model.name,
            action=Action.ROLLED_BACK,
            version=None,
            alias=CHALLENGER,
            previous=challenger,
            actor=actor(),
            reason=reason,
        )
        return change(model, wanted)


def _plan(model: Opened, to: str | None, reason: str) -> RollbackPlan:
    entries = model.entries()
    champion = model.aliases().get(CHAMPION)
    if to is not None:
        return _to(model, model.version(to).version, champion, reason, entries)
    good = last_good(entries, champion)
    passed_over = dict(good.passed_over)
    for version in good.versions:
        recorded, problem = _checked(model, version, entries)
        if problem is None:
            return RollbackPlan(model.name, version, champion, reason, recorded, passed_over)
        passed_over[version] = problem
    if not passed_over:
        raise GateRefused(
            f"model {model.name!r} has had no other champion",
            fix="mlp models promote VERSION; `mlp models list` shows them",
        )
    raise GateRefused(
        f"no earlier champion of {model.name!r} is good",
        fix="mlp models rollback --to VERSION takes any of these that is intact,"
        " mlp models promote VERSION any other",
        cause="\n".join(f"version {v}: {why}" for v, why in passed_over.items()),
    )


def _to(
    model: Opened, version: str, champion: str | None, reason: str, entries: list[LedgerEntry]
) -> RollbackPlan:
    if version == champion:
        raise UsageError(f"version {version} is the champion already", fix="mlp models history")
    if who_made(entries, CHAMPION, version) is None:
        raise UsageError(
            f"version {version} has never been the champion: a rollback goes back",
            fix=f"mlp models promote {version}",
        )
    recorded, problem = _checked(model, version, entries)
    if recorded is None:
        note = f"nothing can tell whether the files of version {version} are intact: no digest"
        return RollbackPlan(model.name, version, champion, reason, None, notes=(note,))
    if problem:
        raise GateRefused(
            f"version {version} is not good: {problem}", fix="mlp models list shows others"
        )
    return RollbackPlan(model.name, version, champion, reason, recorded)


def _checked(
    model: Opened, version: str, entries: list[LedgerEntry]
) -> tuple[str | None, str | None]:
    """The recorded digest of a version, and what is wrong with its files."""
    try:
        tags = registry.version(model.uri, model.name, version).tags
    except UsageError:
        return None, "it was deleted from the registry"
    recorded = recorded_digest(entries, version, tags)
    if recorded is None:
        return None, "no digest of its files was recorded"
    try:
        with registry.files(model.uri, model.name, version) as folder:
            found = folder_digests.of(folder)
    except MlpError as e:
        return recorded, e.one_line()
    return recorded, None if found == recorded else "its files are not those that were registered"
