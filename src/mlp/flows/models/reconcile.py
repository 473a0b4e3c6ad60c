"""Writing into the ledger what happened without it: crashes, and aliases changed by hand."""

import dataclasses

from mlp.adapters.tracking import registry
from mlp.core.ledger import CHALLENGER, Entry
from mlp.core.promotion import lifecycle, to_clear, unsettled
from mlp.core.registry import VersionTag
from mlp.flows.models.opened import Opened, opened
from mlp.flows.project import Project


def reconcile(project: Project) -> list[Entry]:
    """Bring the ledger up to MLflow's aliases, which are the truth; returns what was appended.

    An intent that nobody is at work on is settled by what the alias is; an alias that differs from
    the ledger is FOUND. Waits for whoever is changing an alias, only where there is a difference.
    """
    with opened(project) as model:
        return settle(model)


def settle(model: Opened) -> list[Entry]:
    """The same for a model that is opened."""
    entries, aliases = model.entries(), model.aliases()
    if not unsettled(entries, aliases) and not to_clear(entries, aliases):
        return []
    with model.state.locked(model.name):
        return settle_locked(model)


def settle_locked(model: Opened) -> list[Entry]:
    """The same for whoever holds the model's lock."""
    entries, aliases = model.entries(), model.aliases()
    lacking = unsettled(entries, aliases)
    found = [
        model.state.append_next(dataclasses.replace(entry, model=model.name)) for entry in lacking
    ]
    entries = model.entries() if found else entries
    if to_clear(entries, aliases):
        registry.delete_alias(model.uri, model.name, CHALLENGER)
        aliases.pop(CHALLENGER)
    for entry in found:
        for version in {entry.version, entry.previous} - {None}:
            tag(model, str(version), aliases, entries)
    return found


def tag(model: Opened, version: str, aliases: dict[str, str], entries: list[Entry]) -> None:
    """Let the version's tag say where it stands; a version that is gone needs none."""
    stands = lifecycle(version, aliases, entries)
    registry.set_tags(model.uri, model.name, version, {VersionTag.LIFECYCLE: str(stands)})
