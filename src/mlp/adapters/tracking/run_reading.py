"""Runs read back from the tracking server as plain data."""

import dataclasses
from collections.abc import Sequence

from mlp.adapters.tracking.mlflow_errors import Refused
from mlp.adapters.tracking.mlflow_store import MlflowStore, opened
from mlp.adapters.tracking.run_query import RunQuery
from mlp.core.errors import UsageError
from mlp.core.runs.recorded_run import RunRecord, Tag

# MLflow's default experiment, where `mlflow run` puts its runs.
_DEFAULT = "0"


class NoSuchRun(UsageError):  # noqa: N818 - what the store answers
    """The store has no run of that name, or none at all."""


def list_runs(uri: str, experiment: str, limit: int) -> list[RunRecord]:
    """The newest pipeline runs, the newest first, without their stages."""
    with opened(uri) as store:
        return store.runs(_experiments(store, experiment), _pipelines(experiment), limit)


def find_run(uri: str, experiment: str, reference: str) -> RunRecord:
    """The run that `reference` means, with its stages.

    A reference is a run id (mlp's or MLflow's), eight or more of its first characters, a run's
    name, or `last`. A whole id may be that of another experiment's run. Raises NoSuchRun where it
    means none, UsageError where it means several.
    """
    with opened(uri) as store:
        run = _find(store, experiment, reference)
        return dataclasses.replace(run, stages=tuple(store.nested(run.mlflow_id)))


def artifact_text(uri: str, record: RunRecord, path: str) -> str | None:
    """The text of an artifact of a run, None where the run has none of that name."""
    with opened(uri) as store:
        content = store.artifact(record.mlflow_id, path)
        return None if content is None else content.decode(errors="surrogateescape")


def producer_of(uri: str, experiment: str, fingerprint: str) -> RunRecord | None:
    """The pipeline run whose stage did the work with this fingerprint, the newest if several."""
    with opened(uri) as store:
        query = RunQuery(tags={Tag.FINGERPRINT: fingerprint, Tag.OUTCOME: "ran"})
        runs = store.runs(_experiments(store, experiment), query, 1)
        if not runs:
            return None
        parent = runs[0].tags.get(Tag.PARENT)
        return _there(store, parent) if parent else runs[0]


def pipeline_of(uri: str, run_id: str) -> RunRecord:
    """The pipeline run that a run, by MLflow's id, is nested in, or itself; without its stages.

    Raises Refused where one on the way up was deleted for good.
    """
    with opened(uri) as store:
        run = _there(store, run_id)
        while run.tags.get(Tag.KIND) != "pipeline":
            parent = run.tags.get(Tag.PARENT)
            if parent is None:
                break
            run = _there(store, parent)
        return run


def _there(store: MlflowStore, mlflow_id: str) -> RunRecord:
    run = store.run(mlflow_id)
    if run is None:
        raise Refused(f"MLflow no longer has the run {mlflow_id}")
    return run


def _pipelines(experiment: str) -> RunQuery:
    return RunQuery(tags={Tag.KIND: "pipeline", Tag.EXPERIMENT: experiment})


def _experiments(store: MlflowStore, name: str) -> list[str]:
    """The project's experiment, and MLflow's default one."""
    found = store.experiment(name)
    return [*([found] if found else []), _DEFAULT]


def _find(store: MlflowStore, experiment: str, reference: str) -> RunRecord:
    where = _experiments(store, experiment)
    if reference == "last":
        return _one(store.runs(where, _pipelines(experiment), 1), reference)
    whole_id = RunQuery(tags={Tag.RUN_ID: reference})
    for query in (
        whole_id,
        RunQuery(name=reference),
        RunQuery(tag_begins=(Tag.RUN_ID, reference)),
        RunQuery(id_begins=reference),
    ):
        runs = store.runs(where, query, 3)
        if runs:
            return _one(runs, reference)
    # As MLflow's id does, mlp's own whole id finds the run of another project, too.
    run = store.run(reference)
    elsewhere = [run] if run else store.runs(store.experiments(), whole_id, 3)
    if not elsewhere:
        raise NoSuchRun(f"no run is called {reference!r}", fix="`mlp runs list` shows them")
    return _one(elsewhere, reference)


def _one(runs: Sequence[RunRecord], reference: str) -> RunRecord:
    if not runs:
        raise NoSuchRun("there is no run yet", fix="mlp run")
    pipelines = [run for run in runs if run.tags.get(Tag.KIND) == "pipeline"] or list(runs)
    if len(pipelines) > 1:
        ids = ", ".join(run.run_id[:12] for run in pipelines)
        raise UsageError(f"{reference!r} means several runs: {ids}, …", fix="give a longer id")
    return pipelines[0]
