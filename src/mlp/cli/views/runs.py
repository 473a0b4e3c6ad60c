"""How recorded runs look."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mlp.cli import render
from mlp.core.compare.reproduction import Match, Reproduction
from mlp.core.runs.recorded_run import RunRecord, Tag
from mlp.flows.runs.run_history import Detail, RunHistory
from mlp.flows.runs.syncing import Left, Synced

_SHOWN_METRICS = 4


def runs(found: RunHistory, *, as_json: bool) -> None:
    """The list of runs."""
    names = _common_metrics(found.runs)
    rows = [
        (
            run.run_id[:8],
            render.minute(run.started),
            run.status.lower(),
            render.duration(run.duration),
            _commit(run.tags),
            *(run.metrics.get(name) for name in names),
        )
        for run in found.runs
    ]
    headers = ("run", "started", "status", "time", "commit", *names)
    text = render.table(headers, rows) if rows else "no runs yet: mlp run"
    for store in found.elsewhere if not rows else ():
        text += f"\n{store}: {store.command('mlp runs list')}"
    _left(found.left)
    render.document({"runs": [_document(run) for run in found.runs]}, text, as_json=as_json)


def detail(found: Detail, *, as_json: bool) -> None:
    """One run."""
    run, made_from = found.run, found.provenance
    started = render.minute(run.started)
    lines = [
        f"run      {run.run_id}  ({run.name})",
        f"status   {run.status.lower()}, {started}, {render.duration(run.duration)}",
        f"command  {run.tags.get(Tag.COMMAND_LINE, '')}",
        f"MLflow   {run.mlflow_id}",
        *_made_from(run, made_from),
        "",
        render.table(("stage", "outcome", "time", "metrics"), [_stage(s) for s in run.stages]),
    ]
    lines += _section("metrics", run.metrics) + _section("params", run.params)
    if found.refused:
        lines += ["", *render.refused(found.refused)]
    _left(found.left)
    document = {"run": _document(run), "provenance": made_from, "refused": found.refused}
    render.document(document, "\n".join(lines), as_json=as_json)


def reproduction(found: Reproduction, *, as_json: bool) -> None:
    """What matched and what did not, item by item, and the verdict."""
    marks = {Match.DIFFERS: "!", Match.UNCHECKED: "?"}
    rows = [
        (marks.get(item.match, " "), item.kind, item.name, item.match, item.detail)
        for item in found.items
    ]
    verdict = "reproduced" if found.reproduced else "NOT reproduced"
    counted = [item for item in found.items if item.match == Match.DIFFERS and item.counts]
    apart = f": {len(counted)} items differ" if counted else ""
    lines = [
        render.table(("", "what", "item", "result", "detail"), rows),
        "",
        f"run {found.run_id[:8]} is {verdict} by run {found.again_id[:8]}{apart}",
    ]
    if any(item.match == Match.DIFFERS and not item.counts for item in found.items):
        lines.append("differences in environment, machine and logged values do not count")
    if found.directory:
        lines.append(f"its work tree: {found.directory}")
    document = {"reproduced": found.reproduced, **dataclasses.asdict(found)}
    render.document(document, "\n".join(lines), as_json=as_json)


def synced(result: Synced, *, as_json: bool) -> None:
    """What was delivered, and what is left."""
    lines = [f"delivered run {run_id[:8]}" for run_id in result.delivered]
    lines += [f"not delivered: run {left.run_id[:8]}: {left.reason}" for left in result.left]
    for run_id, refused in result.refused.items():
        lines += [f"run {run_id[:8]}:", *render.refused(refused)]
    text = "\n".join(lines) or "MLflow has everything"
    render.document(dataclasses.asdict(result), text, as_json=as_json)


def _document(run: RunRecord) -> dict[str, Any]:
    return dataclasses.asdict(run)


def _commit(tags: Mapping[str, str]) -> str:
    commit = tags.get(Tag.COMMIT, "")[:8]
    return f"{commit} +changes" if commit and tags.get(Tag.DIRTY) == "true" else commit


def _common_metrics(found: Sequence[RunRecord]) -> list[str]:
    """The metrics that most runs have and that differ between them; few enough to read."""
    values: dict[str, list[float]] = {}
    for run in found:
        for name, value in run.metrics.items():
            values.setdefault(name, []).append(value)
    order = sorted(values, key=lambda n: (-len(values[n]), len(set(values[n])) == 1, n))
    return order[:_SHOWN_METRICS]


def _made_from(run: RunRecord, record: Mapping[str, Any]) -> list[str]:
    if not record:
        return []
    code, machine = record["code"], record["machine"]
    commit = code["commit"] or "not in git"
    changes = ", uncommitted changes kept as a patch" if code["dirty"] else ""
    packages = len(record["environment"]["packages"])
    gpus = f", {', '.join(machine['gpus'])}" if machine["gpus"] else ""
    return [
        f"code     {commit[:12]} ({code['branch'] or 'detached'}){changes}",
        f"Python   {record['environment']['python']}, {packages} packages",
        f"machine  {machine['host']}: {machine['cpu']}, {machine['cores']} cores{gpus}",
        *([f"seed     {record['seed']}"] if record["seed"] is not None else []),
    ]


def _stage(run: RunRecord) -> tuple[str, str, str, str]:
    outcome = run.tags.get(Tag.OUTCOME, run.status.lower())
    made_by = run.tags.get(Tag.CACHED_FROM)
    shown = f"{outcome} (run {made_by[:8]})" if made_by else outcome
    if Tag.NODE in run.tags:
        shown += f" on {run.tags.get(Tag.TARGET, 'a cluster')}, {run.tags[Tag.NODE]}"
    metrics = "  ".join(f"{k} {v:.4g}" for k, v in sorted(run.metrics.items())[:_SHOWN_METRICS])
    return run.stage or run.name, shown, render.duration(run.duration), metrics


def _section(title: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return []
    return ["", render.table((title, ""), sorted(values.items()))]


def _left(left: Sequence[Left]) -> None:
    if left:
        runs_are = "1 run is" if len(left) == 1 else f"{len(left)} runs are"
        render.note(f"{runs_are} not in MLflow yet: {left[0].reason}   (mlp runs sync)")
