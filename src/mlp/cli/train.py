"""`mlp train`: the training stage, on one process or several, here or on a cluster."""

from typing import TYPE_CHECKING

import click

from mlp.cli import options
from mlp.cli.completion import stage_names
from mlp.core.launch.launch import STRATEGIES, Strategy

if TYPE_CHECKING:
    from mlp.flows.project import Project


@click.command()
@click.argument("stage", required=False, shell_complete=stage_names)
@options.target
@click.option("--nodes", type=click.IntRange(min=1), help="Nodes to train on.")
@click.option("--gpus", type=click.IntRange(min=0), help="GPUs of each node, a process for each.")
@click.option("--processes", type=click.IntRange(min=1), help="Processes on each node.")
@click.option("--strategy", type=click.Choice(STRATEGIES), help="How they share the work.")
@options.detach
@options.all_ranks
@options.overrides
@options.force
@options.pull
@options.dry_run
@options.json_output
@options.project
def command(
    stage: str | None,
    target: str | None,
    nodes: int | None,
    gpus: int | None,
    processes: int | None,
    strategy: Strategy | None,
    detach: bool,
    all_ranks: bool,
    overrides: tuple[str, ...],
    force: bool,
    pull: bool,
    dry_run: bool,
    json_output: bool,
    project: "Project",
) -> int:
    """Run the training STAGE and what it needs, as a tracked run.

    STAGE is the stage called `train`, or the only one under `launch` in mlp.yaml, unless named.
    """
    from mlp.cli.views import run as view
    from mlp.core.launch.launch_section import LaunchSection
    from mlp.core.runs.run_request import RunRequest
    from mlp.flows.launch import training_stage

    chosen = training_stage.stage(project, stage)
    said = LaunchSection(
        target=target, nodes=nodes, gpus=gpus, processes_per_node=processes, strategy=strategy
    )
    request = RunRequest(
        targets=(chosen,),
        force=force,
        pull=pull,
        overrides=overrides,
        launches=training_stage.launches((chosen,), said),
        detach=detach,
        show_all_ranks=all_ranks,
    )
    return view.run(project, request, dry_run=dry_run, as_json=json_output)
