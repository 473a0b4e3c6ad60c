"""A version of a registered model, read from MLflow's registry as plain data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mlp.core.ledger import Action, Entry


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


def recorded_digest(
    entries: Iterable[Entry], version: str, tags: Mapping[str, str] | None = None
) -> str | None:
    """The digest that the files of a version have to have; None where none was recorded.

    It is the ledger's, which nobody can change; the tag counts where the ledger knows nothing.
    """
    for entry in entries:
        known = entry.action == Action.REGISTERED and entry.version == version
        if known and "digest" in entry.evidence:
            return str(entry.evidence["digest"])
    return (tags or {}).get(VersionTag.DIGEST)
