"""Runs read back from the tracking server as plain data."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.tracking.client import Refused, client, translated
from mlp.core.errors import UsageError
from mlp.core.finite import from_mlflow
from mlp.core.runs.recorded_run import RunRecord, Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient


class NoSuchRun(UsageError):  # noqa: N818 - what the store answers
    """The store has no run of that name, or none at all."""


def list_runs(uri: str, experiment: str, limit: int) -> list[RunRecord]:
    """The newest pipeline runs, the newest first, without their stages."""
    with translated(uri):
        server = client(uri)
        query = _pipelines(experiment)
        runs = server.search_runs(_experiments(server, experiment), query, max_results=limit)
        return [_record(run) for run in runs]


def find_run(uri: str, experiment: str, reference: str) -> RunRecord:
    """The run that `reference` means, with its stages.

    A reference is a run id (mlp's or MLflow's), eight or more of its first characters, a run's
    name, or `last`. A whole id may be that of another experiment's run. Raises NoSuchRun where it
    means none, UsageError where it means several.
    """
    with translated(uri):
        server = client(uri)
        return _with_stages(server, _find(server, uri, experiment, reference))


def artifact_text(uri: str, record: RunRecord, path: str) -> str | None:
    """The text of an artifact of a run, None where the run has none of that name."""
    with translated(uri), tempfile.TemporaryDirectory() as scratch:
        server = client(uri)
        parent = path.rpartition("/")[0]
        names = {file.path for file in server.list_artifacts(record.mlflow_id, parent or None)}
        if path not in names:
            return None
        local = server.download_artifacts(record.mlflow_id, path, scratch)
        return Path(local).read_bytes().decode(errors="surrogateescape")


def producer_of(uri: str, experiment: str, fingerprint: str) -> RunRecord | None:
    """The pipeline run whose stage did the work with this fingerprint, the newest if several."""
    with translated(uri):
        server = client(uri)
        query = f"tags.`{Tag.FINGERPRINT}` = '{fingerprint}' and tags.`{Tag.OUTCOME}` = 'ran'"
        runs = server.search_runs(_experiments(server, experiment), query, max_results=1)
        if not runs:
            return None
        parent = runs[0].data.tags.get("mlflow.parentRunId")
        return _record(server.get_run(parent)) if parent else _record(runs[0])


def pipeline_of(uri: str, run_id: str) -> RunRecord:
    """The pipeline run that a run, by MLflow's id, is nested in, or itself; without its stages.

    Raises Refused where one on the way up was deleted for good.
    """
    with translated(uri):
        server = client(uri)
        run = server.get_run(run_id)
        while run.data.tags.get(Tag.KIND) != "pipeline":
            parent = run.data.tags.get("mlflow.parentRunId")
            if parent is None:
                break
            run = server.get_run(parent)
        return _record(run)


def _pipelines(experiment: str) -> str:
    name = experiment.replace("'", "")
    return f"tags.`{Tag.KIND}` = 'pipeline' and tags.`{Tag.EXPERIMENT}` = '{name}'"


def _experiments(server: "MlflowClient", name: str) -> list[str]:
    """The project's experiment, and MLflow's default one, where `mlflow run` puts its runs."""
    found = server.get_experiment_by_name(name)
    return [*([found.experiment_id] if found else []), "0"]


def _find(server: "MlflowClient", uri: str, experiment: str, reference: str) -> Any:
    where = _experiments(server, experiment)
    if reference == "last":
        return _one(server.search_runs(where, _pipelines(experiment), max_results=1), reference)
    quoted = reference.replace("'", "")
    for query in (
        f"tags.`{Tag.RUN_ID}` = '{quoted}'",
        f"attributes.run_name = '{quoted}'",
        f"tags.`{Tag.RUN_ID}` LIKE '{quoted}%'",
        f"attributes.run_id LIKE '{quoted}%'",
    ):
        runs = server.search_runs(where, query, max_results=3)
        if runs:
            return _one(runs, reference)
    try:
        with translated(uri):
            return server.get_run(reference)
    except Refused as e:
        # As MLflow's id does, mlp's own whole id finds the run of another project, too.
        everywhere = [each.experiment_id for each in server.search_experiments()]
        runs = server.search_runs(everywhere, f"tags.`{Tag.RUN_ID}` = '{quoted}'", max_results=3)
        if runs:
            return _one(runs, reference)
        raise NoSuchRun(f"no run is called {reference!r}", fix="`mlp runs list` shows them") from e


def _one(runs: Sequence[Any], reference: str) -> Any:
    if not runs:
        raise NoSuchRun("there is no run yet", fix="mlp run")
    pipelines = [run for run in runs if run.data.tags.get(Tag.KIND) == "pipeline"] or list(runs)
    if len(pipelines) > 1:
        ids = ", ".join(run.data.tags.get(Tag.RUN_ID, run.info.run_id)[:12] for run in pipelines)
        raise UsageError(f"{reference!r} means several runs: {ids}, …", fix="give a longer id")
    return pipelines[0]


def _with_stages(server: "MlflowClient", run: Any) -> RunRecord:
    query = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    children = server.search_runs(
        [run.info.experiment_id], query, order_by=["attributes.start_time ASC"], max_results=1000
    )
    return _record(run, [_record(child) for child in children])


def _record(run: Any, stages: Sequence[RunRecord] = ()) -> RunRecord:
    return RunRecord(
        run_id=run.data.tags.get(Tag.RUN_ID, run.info.run_id),
        mlflow_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        started=run.info.start_time / 1000,
        ended=run.info.end_time / 1000 if run.info.end_time else None,
        params=dict(run.data.params),
        metrics={name: from_mlflow(value) for name, value in run.data.metrics.items()},
        tags=dict(run.data.tags),
        stages=tuple(stages),
    )
