"""`mlp train`: the training stage, on one process or several."""

import click

from mlp.cli import options
from mlp.cli.completion import stage_names


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("stage", required=False, shell_complete=stage_names)
@click.option("--processes", type=click.IntRange(min=1), help="Processes that train together.")
@click.option("--strategy", type=click.Choice(["single", "ddp"]), help="How they share the work.")
@options.overrides
@options.force
@options.dry_run
@options.json_output
@options.common
def command(
    stage: str | None,
    processes: int | None,
    strategy: str | None,
    overrides: tuple[str, ...],
    force: bool,
    dry_run: bool,
    json_output: bool,
    env: str | None,
    settings: tuple[str, ...],
) -> int:
    """Run the training STAGE and what it needs, as a tracked run.

    STAGE is the stage called `train`, or the only one under `launch` in mlp.yaml, unless named.
    """
    from mlp.cli import runner
    from mlp.flows import project, training
    from mlp.flows.running import Request

    loaded = project.load(env=env, settings=settings)
    chosen = training.stage(loaded, stage)
    launches = training.launches(chosen, processes=processes, strategy=strategy)
    request = Request(targets=(chosen,), force=force, overrides=overrides, launches=launches)
    return runner.run(loaded, request, dry_run=dry_run, as_json=json_output)
