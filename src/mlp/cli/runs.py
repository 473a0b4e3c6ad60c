"""`mlp runs`: list, show, compare, reproduce and deliver runs."""

from typing import TYPE_CHECKING

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.project import Project


_REFERENCE = "RUN is an id or its beginning, a run's name, or `last`."


@click.group()
def command() -> None:
    """List, show, compare, reproduce and deliver runs."""


@command.command("list")
@click.option("-n", "limit", type=click.IntRange(min=1), default=20, help="How many.")
@options.json_output
@options.project
def list_(limit: int, json_output: bool, project: "Project") -> None:
    """The newest runs first."""
    from mlp.cli.views import runs as shown
    from mlp.flows.runs import run_history

    found = run_history.newest(project, limit)
    shown.runs(found, as_json=json_output)


@command.command(epilog=_REFERENCE)
@click.argument("run", default="last")
@options.json_output
@options.project
def show(run: str, json_output: bool, project: "Project") -> None:
    """One run: its stages, metrics, params, and what it was made from."""
    from mlp.cli.views import runs as shown
    from mlp.flows.runs import run_history

    found = run_history.detail(project, run)
    shown.detail(found, as_json=json_output)


@command.command(epilog=_REFERENCE)
@click.argument("before", metavar="RUN")
@click.argument("after", metavar="RUN", default="last")
@options.json_output
@options.project
def diff(before: str, after: str, json_output: bool, project: "Project") -> None:
    """What changed from one run to another: params, code, data, environment, metrics."""
    import dataclasses

    from mlp.cli import render
    from mlp.cli.views import runs_diff
    from mlp.flows.compare import comparing
    from mlp.flows.runs import syncing

    syncing.catch_up(project)
    found = comparing.diff(project, before, after)
    render.document(dataclasses.asdict(found), runs_diff.diff_text(found), as_json=json_output)


@command.command(epilog=_REFERENCE)
@click.argument("before", metavar="RUN")
@click.argument("after", metavar="RUN", default="last")
@click.option("--metric", help="The metric to explain; the first in common unless given.")
@options.json_output
@options.project
def why(
    before: str,
    after: str,
    metric: str | None,
    json_output: bool,
    project: "Project",
) -> None:
    """Why one run's metrics differ from another's: the likely causes, the likeliest first."""
    import dataclasses

    from mlp.cli import render
    from mlp.cli.views import runs_diff
    from mlp.flows.compare import comparing
    from mlp.flows.runs import syncing

    syncing.catch_up(project)
    found = comparing.why(project, before, after, metric)
    render.document(dataclasses.asdict(found), runs_diff.why_text(found), as_json=json_output)


@command.command(epilog=_REFERENCE)
@click.argument("run", default="last")
@click.option(
    "--env",
    "manager",
    type=click.Choice(["check", "create"]),
    default="check",
    show_default=True,
    help="Use this Python environment, or make one of the run's packages.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Metrics may differ by this share, and outputs by bits.",
)
@click.option("--keep", is_flag=True, help="Keep the work tree that it ran in.")
@options.json_output
@options.config
@options.traceback
def reproduce(
    run: str,
    manager: str,
    tolerance: float | None,
    keep: bool,
    json_output: bool,
    settings: tuple[str, ...],
) -> int:
    """Make a run again in a clean work tree, and compare what comes out, item by item.

    Ends with 0 when all that counts matches, with 4 when not. An environment of mlp.yaml is
    chosen by the variable MLP_ENV here.
    """
    import os

    from mlp.cli import render
    from mlp.cli.views import runs as shown
    from mlp.flows import project
    from mlp.flows.compare import reproducing
    from mlp.flows.runs import syncing

    loaded = project.load(env=os.environ.get("MLP_ENV"), settings=settings)
    syncing.catch_up(loaded)
    request = reproducing.ReproductionRequest(run, manager, tolerance, keep)
    found = reproducing.reproduce(loaded, request, render.note)
    shown.reproduction(found, as_json=json_output)
    return 0 if found.reproduced else 4


@command.command()
@options.json_output
@options.project
def sync(json_output: bool, project: "Project") -> int:
    """Deliver to MLflow what runs have recorded while it was away. May be called again."""
    from mlp.cli.views import runs as shown
    from mlp.flows.runs import syncing

    synced = syncing.sync(project)
    shown.synced(synced, as_json=json_output)
    return 5 if synced.left else 0
