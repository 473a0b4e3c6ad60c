"""`mlp predictions`: the log of what was predicted, and what turned out to be true."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.project import Project


_limit = click.option("-n", "limit", type=click.IntRange(min=1), default=20, help="How many.")


@click.group()
def command() -> None:
    """Show predictions, label them, ask questions about them."""


@command.command()
@_limit
@click.option("--version", help="Of this version of the model only.")
@click.option("--route", help="On this route only: champion, challenger or shadow.")
@click.option("--request", "request_id", metavar="ID", help="All that is known of one request.")
@options.json_output
@options.project
def show(
    limit: int,
    version: str | None,
    route: str | None,
    request_id: str | None,
    json_output: bool,
    project: "Project",
) -> None:
    """The newest predictions, with their labels where there are some."""
    from mlp.cli.views import predictions as view
    from mlp.flows.serving import logged_predictions

    if request_id is not None:
        view.request(logged_predictions.request(project, request_id), as_json=json_output)
        return
    found = logged_predictions.newest(project, limit, version, route)
    view.overview(found, version, route, as_json=json_output)


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.json_output
@options.project
def label(file: Path, json_output: bool, project: "Project") -> None:
    """Tell what turned out to be true: FILE has the columns request_id, label and maybe row.

    FILE is CSV, JSON lines (.jsonl) or Parquet. The label told last counts.
    """
    from mlp.cli.views import predictions as view
    from mlp.flows.serving import logged_predictions

    done = logged_predictions.label(project, file)
    view.labelling(done, as_json=json_output)


@command.command()
@click.argument("sql")
@click.option("-n", "limit", type=click.IntRange(min=1), default=1000, help="How many rows.")
@options.json_output
@options.project
def query(sql: str, limit: int, json_output: bool, project: "Project") -> None:
    """Ask the log in DuckDB's SQL; the tables are predictions, labels, labelled and gaps."""
    from mlp.cli.views import predictions as view
    from mlp.flows.serving import logged_predictions

    found = logged_predictions.query(project, sql, limit)
    view.table(found, as_json=json_output)


@command.command()
@options.json_output
@options.project
def pack(json_output: bool, project: "Project") -> int:
    """Bring to the log what killed servers left in their journals. Servers do it by themselves.

    Ends with 5 where the log's address cannot take it now: it waits, and nothing is lost.
    """
    from mlp.cli.views import predictions as view
    from mlp.flows.serving import logged_predictions

    packed = logged_predictions.pack(project)
    view.packed(packed, as_json=json_output)
    return 5 if packed.waiting else 0
