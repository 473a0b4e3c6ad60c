"""`mlp serve`: serve the project's model on this machine."""

import dataclasses
from typing import TYPE_CHECKING

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.project import Project
    from mlp.flows.serving.local_server import ServingPlan


@click.command()
@click.option("--host", help="An address of this machine; 0.0.0.0: the whole network.")
@click.option("--port", type=click.IntRange(0, 65535), help="0: a free one.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that answer.")
@click.option(
    "--challenger",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Of the users, until `mlp ab share` sets one.",
)
@options.dry_run
@options.json_output
@options.project
def command(
    host: str | None,
    port: int | None,
    workers: int | None,
    challenger: float | None,
    dry_run: bool,
    json_output: bool,
    project: "Project",
) -> None:
    """Serve the champion by MLflow's scoring protocol, until Ctrl-C or SIGTERM.

    Options go before what `serve` in mlp.yaml says. Promotions, rollbacks and shares are followed
    without a restart.
    """
    from mlp.cli import render
    from mlp.flows.serving import local_server

    options_ = {"host": host, "port": port, "workers": workers, "challenger": challenger}
    given = {name: value for name, value in options_.items() if value is not None}
    planned = local_server.plan(project, given)
    if dry_run:
        document = {
            "spec": planned.spec.model_dump(mode="json"),
            "traffic": dataclasses.asdict(planned.traffic),
        }
        render.document(document, _text(planned), as_json=json_output)
        return
    render.note(f"loading version {planned.traffic.champion} of {planned.spec.model} …")
    local_server.execute(project, planned, as_json=json_output)


def _text(planned: "ServingPlan") -> str:
    """What would be served, for people."""
    spec, now = planned.spec, planned.traffic
    serve = spec.serve
    lines = [
        f"would serve {spec.model} at http://{serve.host}:{serve.port}, {serve.workers} worker(s)",
        f"champion:   version {now.champion}",
    ]
    if now.challenger is not None:
        how = "in shadow, on" if now.shadow else "for"
        lines.append(f"challenger: version {now.challenger}, {how} {now.share:.0%} of the keys")
    lines.append(f"log:        {serve.log or 'none'}")
    return "\n".join(lines)
