"""`mlp run`: the pipeline, or some of its stages, as a tracked run."""

from typing import TYPE_CHECKING

import click

from mlp.cli import options
from mlp.cli.completion import stage_names

if TYPE_CHECKING:
    from mlp.flows.project import Project


@click.command()
@click.argument("stages", nargs=-1, metavar="[STAGE]...", shell_complete=stage_names)
@options.target
@options.detach
@options.all_ranks
@options.overrides
@options.force
@options.pull
@options.dry_run
@options.json_output
@options.project
def command(
    stages: tuple[str, ...],
    target: str | None,
    detach: bool,
    all_ranks: bool,
    overrides: tuple[str, ...],
    force: bool,
    pull: bool,
    dry_run: bool,
    json_output: bool,
    project: "Project",
) -> int:
    """Run the pipeline of dvc.yaml, or the STAGEs named and what they need.

    DVC decides what must run; one MLflow run records the pipeline, and one below it each stage.
    With --target, the STAGEs (or all) run there; without, each where mlp.yaml says.
    """
    from mlp.cli.views import run as view
    from mlp.core.runs.run_request import RunRequest
    from mlp.flows.launch import training_stage

    request = RunRequest(
        targets=stages,
        force=force,
        pull=pull,
        overrides=overrides,
        launches=training_stage.on_target(project, stages, target),
        detach=detach,
        show_all_ranks=all_ranks,
    )
    return view.run(project, request, dry_run=dry_run, as_json=json_output)
