"""Putting a version away: it serves no more, and its files and history stay."""

from dataclasses import dataclass

from mlp.core.errors import UsageError
from mlp.core.models.ledger import CHALLENGER, CHAMPION, Action, LedgerEntry
from mlp.core.models.model_version import Lifecycle
from mlp.flows.models.changing import change_locked
from mlp.flows.models.opened_model import Opened, actor, opened
from mlp.flows.models.reconcile import settle, settle_locked, tag
from mlp.flows.project import Project


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """Which version is put away; `alias` is the one that it loses. `done`: it is already."""

    model: str
    version: str
    alias: str | None
    reason: str
    done: bool = False


def plan(project: Project, version: str, reason: str = "") -> ArchivePlan:
    """Raises UsageError for the champion: something has to serve."""
    with opened(project) as model:
        settle(model)
        found = model.version(version)
        _refuse_champion(model, found.version)
        alias = CHALLENGER if CHALLENGER in found.aliases else None
        done = found.lifecycle == Lifecycle.ARCHIVED and alias is None
        return ArchivePlan(model.name, found.version, alias, reason, done)


def apply(project: Project, planned: ArchivePlan) -> LedgerEntry:
    """Do it; returns the ledger's entry."""
    with opened(project) as model, model.state.locked(model.name):
        settle_locked(model)
        _refuse_champion(model, planned.version)
        aliases = model.aliases()
        held = aliases.get(CHALLENGER) == planned.version
        entry = LedgerEntry(
            model=model.name,
            action=Action.ARCHIVED,
            version=planned.version,
            alias=CHALLENGER if held else None,
            previous=planned.version if held else None,
            actor=actor(),
            reason=planned.reason,
        )
        if held:
            return change_locked(model, entry)
        made = model.state.append_next(entry)
        tag(model, planned.version, aliases, model.entries())
        return made


def _refuse_champion(model: Opened, version: str) -> None:
    if model.aliases().get(CHAMPION) == version:
        raise UsageError(
            f"version {version} is the champion: it serves",
            fix="promote another one first, or go back: mlp models rollback",
        )
