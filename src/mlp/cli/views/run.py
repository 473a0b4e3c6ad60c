"""How a run looks while it goes on, and at its end."""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from mlp.cli import render
from mlp.core.launch.manifests import as_yaml
from mlp.core.runs.pipeline import StageOutcome
from mlp.core.runs.run_request import RunRequest
from mlp.core.secrets import mask_urls
from mlp.flows.project import Project
from mlp.flows.runs import running
from mlp.flows.runs.running import RunPlan, RunProgress, RunResult

_WORDS = {
    StageOutcome.RAN: "done",
    StageOutcome.CACHED: "unchanged",
    StageOutcome.RESTORED: "restored from the run cache",
    StageOutcome.FAILED: "failed",
    StageOutcome.DETACHED: "goes on in the cluster",
}


def run(project: Project, request: RunRequest, *, dry_run: bool, as_json: bool) -> int:
    """Run or plan, and show it; returns the exit code."""
    if dry_run:
        _show_plan(running.plan(project, request), as_json)
        return 0

    def start(observer: running.Observer, line: Sequence[str]) -> RunResult:
        return running.execute(project, dataclasses.replace(request, command_line=line), observer)

    return watched(start, as_json=as_json, detach=request.detach)


def watched(
    start: Callable[[running.Observer, Sequence[str]], RunResult],
    *,
    as_json: bool,
    detach: bool = False,
) -> int:
    """Show a run that `start` makes, with its progress; returns the exit code.

    130 where Ctrl-C ended it, or left a job of it alone; 0 where `detach` asked for that; 5 where
    sight of a job was lost, which goes on.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    result = start(_show_progress, ["mlp", *sys.argv[1:]])
    if result.error is not None and result.status != "KILLED":
        render.error(result.error)
    render.document(_as_document(result), _as_text(result), as_json=as_json)
    if result.status == "KILLED":
        return 130
    if result.error is not None:
        return result.error.exit_code
    return 130 if result.status == "DETACHED" and not detach else 0


def _interrupt(*_: int | FrameType | None) -> None:
    raise KeyboardInterrupt


def _show_progress(progress: RunProgress) -> None:
    place = f"[{progress.number}/{progress.total}] {progress.stage}"
    if progress.outcome is None:
        if sys.stderr.isatty():
            render.note(f"{place} …")
        return
    seconds = f" in {render.duration(progress.seconds)}" if progress.seconds is not None else ""
    render.note(f"{place}: {_WORDS[progress.outcome]}{seconds}")


def _show_plan(plan: RunPlan, as_json: bool) -> None:
    rows = [
        (stage.name, "runs" if stage.runs else "unchanged", "; ".join(stage.reasons))
        for stage in plan.stages
    ]
    lines = [f"params.yaml: {override}" for override in plan.overrides]
    lines.append(render.table(("stage", "", "because"), rows))
    for job in plan.jobs:
        lines += ["", job.text or f"{job.stage} on {job.target}: not known yet: {job.unknown}"]
    made = [manifest for job in plan.jobs for manifest in job.manifests]
    if made and not as_json:  # for `kubectl apply --dry-run=server --filename=-`
        lines = [as_yaml(made, "\n".join(lines).splitlines()).rstrip()]
    render.document(dataclasses.asdict(plan), "\n".join(lines), as_json=as_json)


def _as_document(result: RunResult) -> dict[str, object]:
    data = dataclasses.asdict(dataclasses.replace(result, error=None))
    data["tracking_uri"] = mask_urls(result.tracking_uri)
    data["error"] = result.error.message if result.error else None
    return data


def _as_text(result: RunResult) -> str:
    rows = [
        (
            stage.name,
            _outcome(result, stage.outcome),
            render.duration(stage.seconds),
            "  ".join(f"{name} {value:.4g}" for name, value in [*stage.metrics.items()][:4]),
        )
        for stage in result.stages
    ]
    lines = ["", render.table(("stage", "outcome", "time", "metrics"), rows), ""]
    lines += [f"params.yaml: {override}" for override in result.overrides]
    verb = {
        "FINISHED": "finished",
        "FAILED": "failed",
        "KILLED": "was interrupted",
        "DETACHED": "goes on in the cluster",
    }[result.status]
    lines.append(f"run {result.run_id[:8]} {verb} after {render.duration(result.seconds)}")
    lines += _delivery_lines(result)
    outcomes = {stage.outcome for stage in result.stages}
    if outcomes == {StageOutcome.CACHED} and result.status == "FINISHED":
        lines.append("nothing has changed; --force runs it all the same")
    if result.status == "FINISHED":
        lines.append(f"next:  mlp runs show {result.run_id[:8]}   mlp runs list   mlp ui")
    return "\n".join(lines)


def _outcome(result: RunResult, outcome: StageOutcome) -> str:
    interrupted = result.status == "KILLED" and outcome == StageOutcome.FAILED
    return "interrupted" if interrupted else _WORDS[outcome]


def _delivery_lines(result: RunResult) -> list[str]:
    return [*_where_delivered(result), *render.refused(result.delivered.refused)]


def _where_delivered(result: RunResult) -> list[str]:
    where = mask_urls(result.tracking_uri)
    if where.startswith("sqlite:///"):
        where = os.path.relpath(where.removeprefix("sqlite:///"))
    if result.delivered.complete:
        return [f"recorded in MLflow: {where}, experiment {result.experiment}"]
    if result.delivered.reason:
        return [
            f"not in MLflow yet: {result.delivered.reason}",
            "nothing is lost: the record is under .mlp/; the next command delivers it, "
            "or `mlp runs sync` now",
        ]
    return [f"being delivered to MLflow in the background: {where}, experiment {result.experiment}"]
