"""Runs as they were recorded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlp.adapters import tracking
from mlp.core.runs import recorded_run
from mlp.core.runs.recorded_run import RunRecord
from mlp.flows.project import Project
from mlp.flows.runs import recording, syncing, tracking_stores
from mlp.flows.runs.syncing import Left
from mlp.flows.runs.tracking_stores import OtherStore


@dataclass(frozen=True, slots=True)
class RunHistory:
    """The newest runs first, the runs of this machine that MLflow has not yet, and where else the
    project has runs."""

    runs: Sequence[RunRecord]
    left: Sequence[Left]
    elsewhere: Sequence[OtherStore]


@dataclass(frozen=True, slots=True)
class Detail:
    """One run with its stages, its provenance record ({} where it has none), and what this machine
    knows that MLflow refused of it."""

    run: RunRecord
    provenance: Mapping[str, Any]
    left: Sequence[Left]
    refused: Sequence[str] = ()


def newest(project: Project, limit: int) -> RunHistory:
    """The newest runs of the project, once those that have just ended have arrived."""
    left = syncing.catch_up(project)
    found = tracking.list_runs(project.tracking_uri, project.config.experiment, limit)
    return RunHistory(tuple(found), left, tracking_stores.others(project))


def detail(project: Project, reference: str) -> Detail:
    """The run that `reference` means (an id, its beginning, a name, `last`)."""
    left = syncing.catch_up(project)
    uri = project.tracking_uri
    run = tracking_stores.find_run(project, reference, f"mlp runs show {reference}")
    text = tracking.artifact_text(uri, run, recorded_run.PROVENANCE)
    refused = recording.delivery(project.layout.run(run.run_id)).refused
    return Detail(run, json.loads(text) if text else {}, left, refused)
