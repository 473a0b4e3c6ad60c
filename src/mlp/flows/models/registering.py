"""Making a model that a run has logged the next version of the project's model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlp.adapters.base import folder_digests
from mlp.adapters.tracking import registry
from mlp.core.digests import combined
from mlp.core.errors import ConfigurationError
from mlp.core.models.gates import VersionOrigin, signature_of
from mlp.core.models.ledger import CHAMPION, Action, LedgerEntry
from mlp.core.models.model_version import (
    MODEL_MADE,
    Lifecycle,
    LoggedModel,
    VersionTag,
    recorded_digest,
    registration,
    registration_entry,
)
from mlp.core.runs.recorded_run import FINISHED
from mlp.flows.models import origin
from mlp.flows.models.opened_model import Opened, actor, opened
from mlp.flows.models.origin import ModelOrigin
from mlp.flows.models.reconcile import settle, settle_locked
from mlp.flows.project import Project
from mlp.flows.runs import syncing

# Older stores keep no longer values of tags.
_TAG_LENGTH = 5000
_EXAMPLE = "saved_input_example_info"


@dataclass(frozen=True, slots=True)
class RegistrationPlan:
    """The model to be registered. `version` is set where it is registered already; `champion` is
    the version that serves now. `adds` are the metrics that the run has and the registration of
    that version lacks."""

    model: str
    run_id: str
    artifact: LoggedModel
    digest: str
    files: dict[str, str]
    tags: dict[str, str]
    evidence: dict[str, Any] = field(default_factory=dict)
    version: str | None = None
    champion: str | None = None
    adds: tuple[str, ...] = ()


def plan(project: Project, run: str, artifact: str | None = None) -> RegistrationPlan:
    """What there is to register of a run (an id, its beginning, a name, `last`).

    Raises UsageError where the run has no model, or several and `artifact` names none of them, and
    ConfigurationError where the model has no signature or no input example.
    """
    syncing.catch_up(project)
    found = origin.find(project, run)
    logged = origin.choose(found, artifact)
    with opened(project) as model, registry.files_at(model.uri, logged.location) as folder:
        settle(model)
        _check(folder, logged)
        files = folder_digests.files(folder)
        digest = combined(files)
        entries = model.entries()
        version = _registered(model, entries, logged, digest)
        lineage = origin.lineage(project, found, logged)
        evidence = _evidence(found, logged, lineage, files)
        return RegistrationPlan(
            model.name,
            found.run.run_id,
            logged,
            digest,
            files,
            _tags(found, lineage, digest),
            evidence,
            version,
            model.aliases().get(CHAMPION),
            _added(registration(entries, version), evidence) if version else (),
        )


def apply(project: Project, planned: RegistrationPlan) -> LedgerEntry:
    """Register it; returns the ledger's entry, an earlier one where it was registered before.

    A later run of the same model that measured more of it, or was the first to end well, is written
    down beside the earlier one, and counts from then on.
    """
    with opened(project) as model, model.state.locked(model.name):
        settle_locked(model)
        entries = model.entries()
        version = _registered(model, entries, planned.artifact, planned.digest)
        if version is None:
            made = registry.register(model.uri, model.name, planned.artifact, planned.tags)
            version = made.version
        known = registration_entry(entries, version)
        if known is not None and not _supersedes(planned.evidence, known.evidence):
            return known
        registered = registry.registered(model.uri, model.name)
        known_by = {MODEL_MADE: registered.made} if registered else {}
        return model.state.append_next(
            LedgerEntry(
                model=model.name,
                action=Action.REGISTERED,
                version=version,
                actor=actor(),
                reason=f"run {planned.run_id[:8]}",
                evidence=planned.evidence | known_by,
            )
        )


def _supersedes(evidence: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether a later registration of the same files says more than the one that is known."""
    if known.get("digest") != evidence["digest"]:
        return True
    ended = evidence["status"] == FINISHED
    return bool(_added(known, evidence)) or (ended and known.get("status", FINISHED) != FINISHED)


def _added(known: Mapping[str, Any], evidence: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics that `evidence` has and `known` lacks; of a run that failed none count."""
    if evidence["status"] != FINISHED:
        return ()
    return tuple(sorted(evidence["metrics"].keys() - known.get("metrics", {}).keys()))


def described(folder: Path) -> dict[str, Any]:
    """The model's own description, MLmodel. Raises ConfigurationError where there is none."""
    try:
        text = (folder / "MLmodel").read_text(encoding="utf-8")
        description = yaml.safe_load(text)
    except (OSError, yaml.YAMLError) as e:
        raise ConfigurationError(
            "it is not an MLflow model: MLmodel is missing", cause=str(e)
        ) from e
    return description if isinstance(description, dict) else {}


def _check(folder: Path, logged: LoggedModel) -> None:
    description = described(folder)
    lacks = []
    if signature_of(description) is None:
        lacks.append("signature")
    if not description.get(_EXAMPLE):
        lacks.append("input example")
    if lacks == ["signature"]:
        raise ConfigurationError(
            f"the model {logged.name!r} has no signature: MLflow could not infer one from its input"
            " example",
            fix="the log of the stage has MLflow's reason (missing values in a column of integers"
            " or booleans are a usual one: make it float64); change the example, then run again",
        )
    if lacks:
        raise ConfigurationError(
            f"the model {logged.name!r} has no {' and no '.join(lacks)}:"
            " nobody could tell what it takes, nor try it before it serves",
            fix="log it with an example of its input, then run again:"
            " mlp.log_model(model, example), or MLflow's log_model(…, input_example=…)",
        )


def _registered(
    model: Opened, entries: Sequence[LedgerEntry], logged: LoggedModel, digest: str
) -> str | None:
    for version in registry.versions(model.uri, model.name):
        recorded = recorded_digest(entries, version.version, version.tags)
        if version.source == logged.location and recorded == digest:
            return version.version
    return None


def _tags(found: ModelOrigin, made: VersionOrigin, digest: str) -> dict[str, str]:
    data = json.dumps(dict(made.data), sort_keys=True)
    tags = {
        VersionTag.DIGEST: digest,
        VersionTag.LIFECYCLE: str(Lifecycle.NONE),
        VersionTag.RUN_ID: found.run.run_id,
        VersionTag.COMMIT: made.commit or "",
        VersionTag.DIRTY: "true" if made.dirty else "",
        VersionTag.DATA: data if len(data) <= _TAG_LENGTH else "",
        VersionTag.LOCK: found.lock or "",
        VersionTag.PARAMS: origin.params_text(found.run.params, _TAG_LENGTH),
    }
    return {name: value for name, value in tags.items() if value}


def _evidence(
    found: ModelOrigin, logged: LoggedModel, made: VersionOrigin, files: dict[str, str]
) -> dict[str, Any]:
    return {
        "digest": combined(files),
        "files": files,
        "run_id": found.run.run_id,
        "made_by": made.run_id,
        "status": found.run.status,
        "mlflow_run_id": logged.run_id,
        "artifact": logged.name,
        "model_id": logged.model_id,
        "commit": made.commit,
        "dirty": made.dirty,
        "patch": made.patch,
        "data": dict(made.data),
        "dvc_lock": found.lock,
        "params": dict(found.run.params),
        "metrics": found.metrics,
    }
