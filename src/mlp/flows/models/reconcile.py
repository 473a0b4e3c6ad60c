"""Writing into the ledger what happened without it: crashes, and aliases changed by hand."""

import dataclasses
from collections.abc import Sequence

from mlp.adapters.tracking import registry
from mlp.core.errors import ConfigurationError
from mlp.core.models.ledger import CHALLENGER, Action, LedgerEntry
from mlp.core.models.model_version import MODEL_MADE, RegisteredModel, VersionTag, model_made
from mlp.core.models.standing import holders, lifecycle, to_clear, unsettled
from mlp.flows.models.opened_model import Opened


def settle(model: Opened) -> list[LedgerEntry]:
    """Bring the ledger up to MLflow's aliases, which are the truth; returns what was appended.

    An intent that nobody is at work on is settled by what the alias is; an alias that differs from
    the ledger is FOUND. Waits for whoever is changing an alias, only where there is a difference.
    Raises ConfigurationError where the registry's file is gone, or the ledger is of another
    registered model of this name.
    """
    entries = model.entries()
    aliases = _aliases(_registered(model, entries))
    if not unsettled(entries, aliases) and not to_clear(entries, aliases):
        return []
    with model.state.locked(model.name):
        return settle_locked(model)


def settle_locked(model: Opened) -> list[LedgerEntry]:
    """The same for whoever holds the model's lock."""
    entries = model.entries()
    registered = _registered(model, entries)
    aliases = _aliases(registered)
    found = []
    for entry in unsettled(entries, aliases):
        evidence = dict(entry.evidence)
        if entry.action == Action.FOUND and registered is not None:
            evidence[MODEL_MADE] = registered.made
        told = dataclasses.replace(entry, model=model.name, evidence=evidence)
        found.append(model.state.append_next(told))
    entries = model.entries() if found else entries
    if to_clear(entries, aliases):
        registry.delete_alias(model.uri, model.name, CHALLENGER)
        aliases.pop(CHALLENGER)
    for entry in found:
        for version in {entry.version, entry.previous} - {None}:
            tag(model, str(version), aliases, entries)
    return found


def _registered(model: Opened, entries: Sequence[LedgerEntry]) -> RegisteredModel | None:
    """The model as the registry has it, which is the one that the ledger is of.

    Where it is not, or the registry's file was moved away, the registry says nothing about what the
    ledger tells: ConfigurationError.
    """
    known = model_made(entries)
    if (known or holders(entries)) and not registry.there(model.uri):
        raise ConfigurationError(
            f"there is no registry at {model.uri}, and the ledger knows versions of {model.name!r}",
            fix="put the file back, or correct tracking.uri in mlp.yaml",
        )
    found = registry.registered(model.uri, model.name)
    if known and (found is None or found.made != known):
        raise ConfigurationError(
            f"the ledger in `state` is of another registered model {model.name!r}:"
            " of another registry, or of one that was deleted and perhaps made again",
            fix="give this registry a ledger of its own: `state` beside `tracking.uri` in mlp.yaml"
            " (of an environment: envs.NAME.state)",
        )
    return found


def _aliases(registered: RegisteredModel | None) -> dict[str, str]:
    return dict(registered.aliases) if registered else {}


def tag(model: Opened, version: str, aliases: dict[str, str], entries: list[LedgerEntry]) -> None:
    """Let the version's tag say where it stands; a version that is gone needs none."""
    stands = lifecycle(version, aliases, entries)
    registry.set_tags(model.uri, model.name, version, {VersionTag.LIFECYCLE: str(stands)})
