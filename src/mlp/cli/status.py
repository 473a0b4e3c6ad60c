"""`mlp status`: where the project stands."""

from typing import TYPE_CHECKING

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.checkup.project_status import CodeState, LocalRun, ProjectStatus
    from mlp.flows.project import Project


@click.command()
@options.json_output
@options.project
def command(json_output: bool, project: "Project") -> int:
    """Show what the next run would do and why, and how the last one ended."""
    from mlp.cli import render
    from mlp.flows.checkup import project_status

    found = project_status.status(project)
    render.document(_as_document(found), _as_text(found), as_json=json_output)
    if found.problem is not None:
        render.error(found.problem)
        return found.problem.exit_code
    return 0


def _as_document(found: "ProjectStatus") -> dict[str, object]:
    import dataclasses

    data = dataclasses.asdict(dataclasses.replace(found, problem=None))
    if found.code is not None:
        data["code"]["dirty"] = found.code.dirty
    if found.problem is not None:
        problem = found.problem
        data["problem"] = {
            "message": problem.message,
            "fix": problem.fix,
            "cause": problem.cause,
        }
    return data


def _as_text(found: "ProjectStatus") -> str:
    import os

    from mlp.cli import render

    env = f", environment {found.env}" if found.env else ""
    lines = [
        f"project   {found.project}{env} ({found.root})",
        f"code      {_code(found.code)}",
        f"tracking  {found.tracking_uri}, experiment {found.experiment}",
        f"last run  {_run(found.last_run)}",
    ]
    if found.last_run is not None and found.last_run.log:
        lines.append(f"          its output: {os.path.relpath(found.last_run.log)}")
    for left in found.undelivered:
        how = "is being delivered to MLflow" if left.delivering else "is not in MLflow yet"
        lines.append(f"          {left.run_id[:8]} {how}{_because(left.reason)}")
    if found.stages is not None:
        rows = [(s.name, "runs" if s.runs else "unchanged", _list(s.reasons)) for s in found.stages]
        lines += ["", render.table(("stage", "next run", "because"), rows)]
    lines += ["", f"next: {'   '.join(found.next)}"] if found.next else []
    return "\n".join(lines)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _list(reasons: tuple[str, ...]) -> str:
    return "; ".join(reasons)


def _code(code: "CodeState | None") -> str:
    if code is None:
        return "not in a git repository"
    where = f"{code.branch or 'detached HEAD'} {code.commit[:8] if code.commit else '(no commit)'}"
    counts = [(code.changed, "changed"), (code.untracked, "untracked")]
    rest = [f"{count} {what}" for count, what in counts if count]
    return f"{where}, {', '.join(rest) or 'clean'}"


def _run(run: "LocalRun | None") -> str:
    import time

    from mlp.cli import render

    if run is None:
        return "none here"
    started = render.minute(run.started)
    words = {
        "RUNNING": f"is going on for {render.duration(time.time() - run.started)}",
        "KILLED": "was ended before its end",
    }
    how = words.get(run.status, run.status.lower())
    took = f" after {render.duration(run.ended - run.started)}" if run.ended else ""
    stage = f", stage {run.stage}" if run.stage else ""
    return f"{run.run_id[:8]} of {started} {how}{took}{stage}"
