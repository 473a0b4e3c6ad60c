"""Versions and the ledger, as they are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlp.adapters.tracking import registry
from mlp.core.models.ledger import Action, LedgerEntry
from mlp.core.models.model_version import ModelVersion, VersionTag, registration
from mlp.core.models.standing import lifecycle
from mlp.flows.models.opened_model import opened
from mlp.flows.models.reconcile import settle
from mlp.flows.project import Project


@dataclass(frozen=True, slots=True)
class ModelListing:
    """The versions, the newest first, and what was found to have happened without the ledger."""

    model: str
    versions: Sequence[ModelVersion]
    found: Sequence[LedgerEntry]


@dataclass(frozen=True, slots=True)
class Shown:
    """One version: its record from when it was registered, and the ledger's entries about it."""

    version: ModelVersion
    record: Mapping[str, Any]
    entries: Sequence[LedgerEntry]
    found: Sequence[LedgerEntry]


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """The ledger, the oldest entry first, and which of it was found just now."""

    model: str
    entries: Sequence[LedgerEntry]
    found: Sequence[LedgerEntry]


def versions(project: Project) -> ModelListing:
    """All versions with where they stand now."""
    with opened(project) as model:
        found = settle(model)
        entries, aliases = model.entries(), model.aliases()
        return ModelListing(
            model.name,
            [
                _standing(version, aliases, entries)
                for version in registry.versions(model.uri, model.name)
            ],
            found,
        )


def show(project: Project, version: str) -> Shown:
    """One version. Raises UsageError where there is none."""
    with opened(project) as model:
        found = settle(model)
        entries, aliases = model.entries(), model.aliases()
        shown = _standing(model.version(version), aliases, entries)
        about = [e for e in entries if shown.version in (e.version, e.previous)]
        return Shown(shown, registration(entries, shown.version), about, found)


def history(project: Project, limit: int | None = None, intents: bool = False) -> ModelHistory:
    """The last `limit` entries; intents that were settled are left out unless asked for."""
    with opened(project) as model:
        found = settle(model)
        entries = [entry for entry in model.entries() if intents or entry.action != Action.INTENDED]
        return ModelHistory(model.name, entries[-limit:] if limit else entries, found)


def _standing(
    version: ModelVersion, aliases: Mapping[str, str], entries: Sequence[LedgerEntry]
) -> ModelVersion:
    """The version by aliases and ledger, whatever its tags say: anybody may set those."""
    evidence = registration(entries, version.version)
    known = {
        VersionTag.DIGEST: evidence.get("digest"),
        VersionTag.RUN_ID: evidence.get("run_id"),
        VersionTag.COMMIT: evidence.get("commit"),
        VersionTag.DIRTY: "true" if evidence.get("dirty") else None,
        VersionTag.LIFECYCLE: str(lifecycle(version.version, aliases, entries)),
    }
    others = {name: v for name, v in version.tags.items() if not evidence or name not in known}
    return replace(version, tags=others | {name: v for name, v in known.items() if v})
