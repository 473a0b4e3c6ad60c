"""A version of a registered model, read from MLflow's registry as plain data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mlp.core.models.ledger import Action, LedgerEntry

MODEL_MADE = "model_made"  # evidence: RegisteredModel.made of whom the entry tells


class VersionTag:
    """The tags that mlp sets on model versions in MLflow."""

    DIGEST = "mlp.digest"  # over every file of the version: core/digests.py
    LIFECYCLE = "mlp.lifecycle"
    RUN_ID = "mlp.run_id"  # the pipeline run, as `mlp runs show` takes it
    COMMIT = "mlp.commit"
    DIRTY = "mlp.dirty"  # "true" where the patch of the run belongs to the code
    DATA = "mlp.data"  # JSON: path -> DVC's hash of what the stage read
    LOCK = "mlp.dvc_lock"  # SHA-256 of the run's dvc.lock
    PARAMS = "mlp.params"  # JSON


class Lifecycle(StrEnum):
    """Where a version stands, as MLflow's former stages named it."""

    NONE = "None"
    STAGING = "Staging"  # the challenger
    PRODUCTION = "Production"  # the champion
    ARCHIVED = "Archived"


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """What has the versions. `made`, in milliseconds since the epoch, tells it from others of its
    name: in another registry, or deleted before."""

    made: int
    aliases: Mapping[str, str] = field(default_factory=dict)

    def aliases_of(self, version: str) -> tuple[str, ...]:
        """The aliases that mean the version."""
        return tuple(sorted(alias for alias, means in self.aliases.items() if means == version))


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version. `created` is in seconds since the epoch; `run_id` is MLflow's id of a run."""

    model: str
    version: str
    created: float
    run_id: str | None
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Sequence[str] = ()

    @property
    def lifecycle(self) -> str:
        """Its stage of life, "None" where nobody has said."""
        return self.tags.get(VersionTag.LIFECYCLE, Lifecycle.NONE)


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that a run has logged. `run_id` is MLflow's id of the run."""

    model_id: str
    name: str
    run_id: str
    location: str
    created: float


def model_made(entries: Iterable[LedgerEntry]) -> int | None:
    """Which registered model a ledger is of: its `made`; None where the ledger does not say."""
    found = None
    for entry in entries:
        found = entry.evidence.get(MODEL_MADE, found)
    return found


def registration(entries: Iterable[LedgerEntry], version: str) -> Mapping[str, Any]:
    """What was written down when the version was registered by mlp; {} where it was not."""
    found = registration_entry(entries, version)
    return found.evidence if found else {}


def registration_entry(entries: Iterable[LedgerEntry], version: str) -> LedgerEntry | None:
    """The last entry that registers the version; None where mlp did not register it."""
    found = None
    for entry in entries:
        if entry.action == Action.REGISTERED and entry.version == version:
            found = entry
    return found


def recorded_digest(
    entries: Iterable[LedgerEntry], version: str, tags: Mapping[str, str] | None = None
) -> str | None:
    """The digest that the files of a version have to have; None where none was recorded.

    It is the ledger's, which nobody can change; the tag counts where the ledger knows nothing.
    """
    known = registration(entries, version).get("digest")
    return str(known) if known else (tags or {}).get(VersionTag.DIGEST)
