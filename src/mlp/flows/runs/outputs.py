"""What stages made, written into the record of their run."""

import csv
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlp.adapters import data
from mlp.core.runs.identity import stage_run_id
from mlp.core.runs.pipeline import DataItem, StageOutcome, StageState, metric_names, within
from mlp.core.runs.recorded_run import Tag
from mlp.flows.runs.recording import Recording

# A plot's file above this size, or with more rows, is data: DVC has it.
_MAX_PLOT_BYTES = 50 * 2**20
_MAX_PLOT_ROWS = 10_000


def record_stage(
    record: Recording, stage: str, state: StageState | None, outcome: StageOutcome
) -> None:
    """Record a stage that DVC is done with: its params, data, and how it came to its outputs."""
    run = stage_run_id(record.run_id, stage)
    if not record.run.log(run).exists():  # the stage shell was never called: its run begins here
        record.record("run_started", run, parent=record.run_id, name=stage, stage=stage)
    tags: dict[str, str] = {Tag.OUTCOME: outcome}
    if state is not None:
        tags[Tag.FINGERPRINT] = state.fingerprint
        if state.params:
            record.record("params", run, values={k: str(v) for k, v in state.params.items()})
        datasets = _datasets(state.deps, "input") + _datasets(state.outs, "output")
        if datasets:
            record.record("inputs", run, datasets=datasets)
    record.record("tags", run, values=tags)
    if outcome in (StageOutcome.CACHED, StageOutcome.RESTORED) and state is not None:
        record.record("cached", run, fingerprint=state.fingerprint)
        record.record("run_ended", run, status="FINISHED")
    if outcome == StageOutcome.FAILED:  # whatever its command said: DVC gave it up
        record.record("run_ended", run, status="FAILED")


def record_sources(record: Recording, states: Sequence[StageState]) -> None:
    """Record the pipeline's params, and the data that no stage of it makes."""
    made = {out.path for state in states for out in state.outs}
    params = {name: str(value) for state in states for name, value in state.params.items()}
    if params:
        record.record("params", values=params)
    sources = {dep.path: dep for state in states for dep in state.deps if dep.path not in made}
    datasets = _datasets(tuple(sources.values()), "source")
    if datasets:
        record.record("inputs", datasets=datasets)


def record_metrics(
    root: Path, record: Recording, states: Sequence[StageState]
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Record the metrics files of dvc.yaml, each in its stage's run, all in the pipeline's.

    A file of a stage that had no part in this run is left out: it tells of another one. Returns
    the metrics of each stage that has some, and those of the run.
    """
    took_part = {state.name for state in states}
    elsewhere = [
        out.path for stage in data.stages(root) for out in stage.outs if stage.name not in took_part
    ]
    values = {
        file: content
        for file, content in data.metrics(root).items()
        if not any(within(file, out) for out in elsewhere)
    }
    of_stages = {}
    for state in states:
        files = _made_by(state, values)
        if files:
            of_stages[state.name] = metric_names(files, values)
            record.record(
                "metrics",
                stage_run_id(record.run_id, state.name),
                values=of_stages[state.name],
                step=0,
            )
    of_run = metric_names(list(values), values)
    if of_run:
        record.record("metrics", values=of_run, step=0)
    return of_stages, of_run


def record_plots(
    root: Path, record: Recording, states: Sequence[StageState], ran: Collection[str]
) -> None:
    """Record the plots of dvc.yaml in the runs of the stages that made them in this run.

    Files become artifacts; the numeric columns of a table become metrics by row.
    """
    plots = data.plots(root)
    for state in states:
        run = stage_run_id(record.run_id, state.name)
        for path in (root / plot for plot in _made_by(state, plots) if state.name in ran):
            if not path.exists() or _size(path) > _MAX_PLOT_BYTES:
                continue
            record.record("file", run, path=str(path.absolute()), to="plots")
            for row, values in enumerate(_rows(path)):
                record.record("metrics", run, values=values, step=row)


def _made_by(state: StageState, files: Iterable[str]) -> list[str]:
    """Those of `files` that are an output of the stage, or lie in one."""
    return [file for file in files if any(within(file, out.path) for out in state.outs)]


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _rows(path: Path) -> list[dict[str, float]]:
    """The numbers of a plot's table, row by row; [] for an image, a directory or a long table."""
    try:
        if path.suffix in (".csv", ".tsv"):
            with path.open(encoding="utf-8", newline="") as file:
                rows: Any = list(
                    csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
                )
        elif path.suffix == ".json":
            rows = json.loads(path.read_text(encoding="utf-8"))
        else:
            return []
    except (ValueError, OSError, csv.Error):
        return []  # not a table after all; it is an artifact all the same
    if isinstance(rows, dict):
        lists = [value for value in rows.values() if isinstance(value, list)]
        rows = lists[0] if len(lists) == 1 else []
    if not isinstance(rows, list) or len(rows) > _MAX_PLOT_ROWS:
        return []
    return [_numbers(row, path.stem) for row in rows if isinstance(row, dict)]


def _numbers(row: Mapping[str, Any], plot: str) -> dict[str, float]:
    numbers = {}
    for name, value in row.items():
        try:
            numbers[f"{plot}/{name}"] = float(value)
        except (TypeError, ValueError):
            continue
    return numbers


def _datasets(items: Sequence[DataItem], context: str) -> list[dict[str, Any]]:
    return [
        {
            "name": item.path,
            "digest": item.digest,
            "profile": json.dumps({"size": item.size, "files": item.files}),
            "context": context,
        }
        for item in items
        if item.digest
    ]
