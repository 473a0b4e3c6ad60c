"""`mlp jobs`: the stages that run in clusters."""

import dataclasses
import sys
from typing import TYPE_CHECKING

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.project import Project


_TARGET = click.option("--target", metavar="NAME", help="Look on this target only.")


@click.group()
def command() -> None:
    """List, follow, explain, cancel and finish the jobs of this project's stages.

    JOB is a job's name or the beginning or end of it, or a run or a stage: the newest job of that.
    """


@command.command("list")
@_TARGET
@options.json_output
@options.project
def list_command(target: str | None, json_output: bool, project: "Project") -> int:
    """List the jobs, the newest first. Ends with 5 where a target could not be asked."""
    from mlp.cli import render
    from mlp.flows.launch import job_control

    found = job_control.listed(project, target)
    rows = [
        (
            job.name,
            job.target,
            job.stage,
            job.run_id[:8],
            job.phase,
            f"{job.ready}/{job.nodes}",
            job.created,
            job.user,
        )
        for job in found.jobs
    ]
    headers = ("job", "target", "stage", "run", "state", "nodes", "created", "by")
    text = render.table(headers, rows) if rows else "no jobs"
    for name, reason in found.unreachable:
        render.note(f"target {name} could not be asked: {reason}")
    render.document(dataclasses.asdict(found), text, as_json=json_output)
    return 5 if found.unreachable else 0


@command.command()
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--node", default=0, show_default=True, help="Of which node of the gang.")
@_TARGET
@options.project
def logs(
    job: str,
    follow: bool,
    node: int,
    target: str | None,
    project: "Project",
) -> None:
    """Print what the first node of a job has printed, or the one that --node names."""
    from mlp.cli import render
    from mlp.flows.launch import job_control

    printed = False

    def emit(line: bytes) -> None:
        nonlocal printed
        printed = True
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()

    name = job_control.logs(project, job, emit, target=target, node=node, follow=follow)
    if not printed:
        render.note(f"nothing is printed yet\nnext:  mlp jobs explain {name}")


@command.command()
@click.argument("job")
@_TARGET
@options.json_output
@options.project
def explain(job: str, target: str | None, json_output: bool, project: "Project") -> None:
    """Say why a job waits or how it ended, and what to do."""
    from mlp.cli import render
    from mlp.flows.launch import job_control

    name, why = job_control.explain(project, job, target)
    lines = [f"{name} ({why.state}): {why.reason}", *(f"  {line}" for line in why.log)]
    lines += [f"fix:   {why.fix}"] if why.fix else []
    shown = {"job": name, **dataclasses.asdict(why)}
    render.document(shown, "\n".join(lines), as_json=json_output)


@command.command()
@click.argument("job")
@_TARGET
@options.project
def cancel(job: str, target: str | None, project: "Project") -> None:
    """Delete a job and all that belongs to it."""
    from mlp.cli import render
    from mlp.flows.launch import job_control

    name = job_control.cancel(project, job, target)
    render.note(f"cancelled {name}")


@command.command()
@click.argument("job")
@_TARGET
@options.json_output
@options.project
def attach(job: str, target: str | None, json_output: bool, project: "Project") -> int:
    """Follow a job, and put its outputs in place when it is done.

    Finishes what `--detach` or Ctrl-C left: outputs, dvc.lock, the run. Works in any clone of the
    repository, at the commit that the job was submitted from.
    """
    from mlp.cli import render
    from mlp.cli.views import run as view
    from mlp.flows.launch import job_control

    done = job_control.received(project, job, target)
    if done is not None:
        text = f"the outputs of job {done.name} came with run {done.run_id[:8]}; nothing to do"
        render.document({"job": done.name, "run_id": done.run_id}, text, as_json=json_output)
        return 0
    return view.watched(
        lambda observer, line: job_control.attach(
            project, job, observer, target=target, command_line=line
        ),
        as_json=json_output,
    )
