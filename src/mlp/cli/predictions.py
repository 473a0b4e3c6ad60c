"""`mlp predictions`: the log of what was predicted, and what turned out to be true."""

from pathlib import Path

import click

from mlp.cli import options

_HELP = {"help_option_names": ["-h", "--help"]}
_limit = click.option("-n", "limit", type=click.IntRange(min=1), default=20, help="How many.")


@click.group(context_settings=_HELP)
def command() -> None:
    """Show predictions, label them, ask questions about them."""


@command.command(context_settings=_HELP)
@_limit
@click.option("--version", help="Of this version of the model only.")
@click.option("--route", help="On this route only: champion, challenger or shadow.")
@click.option("--request", "request_id", metavar="ID", help="All that is known of one request.")
@options.json_output
@options.common
def show(
    limit: int,
    version: str | None,
    route: str | None,
    request_id: str | None,
    json_output: bool,
    env: str | None,
    settings: tuple[str, ...],
) -> None:
    """The newest predictions, with their labels where there are some."""
    from mlp.cli.views import predictions as view
    from mlp.flows import project
    from mlp.flows.serving import logged_predictions

    loaded = project.load(env=env, settings=settings)
    if request_id is not None:
        view.request(logged_predictions.request(loaded, request_id), as_json=json_output)
        return
    found = logged_predictions.newest(loaded, limit, version, route)
    view.overview(found, version, route, as_json=json_output)


@command.command(context_settings=_HELP)
@click.argument("file", type=click.Path(path_type=Path))
@options.json_output
@options.common
def label(file: Path, json_output: bool, env: str | None, settings: tuple[str, ...]) -> None:
    """Tell what turned out to be true: FILE has the columns request_id, label and maybe row.

    FILE is CSV, JSON lines (.jsonl) or Parquet. The label told last counts.
    """
    from mlp.cli.views import predictions as view
    from mlp.flows import project
    from mlp.flows.serving import logged_predictions

    done = logged_predictions.label(project.load(env=env, settings=settings), file)
    view.labelling(done, as_json=json_output)


@command.command(context_settings=_HELP)
@click.argument("sql")
@click.option("-n", "limit", type=click.IntRange(min=1), default=1000, help="How many rows.")
@options.json_output
@options.common
def query(
    sql: str, limit: int, json_output: bool, env: str | None, settings: tuple[str, ...]
) -> None:
    """Ask the log in DuckDB's SQL; the tables are predictions, labels, labelled and gaps."""
    from mlp.cli.views import predictions as view
    from mlp.flows import project
    from mlp.flows.serving import logged_predictions

    found = logged_predictions.query(project.load(env=env, settings=settings), sql, limit)
    view.table(found, as_json=json_output)


@command.command(context_settings=_HELP)
@options.json_output
@options.common
def pack(json_output: bool, env: str | None, settings: tuple[str, ...]) -> int:
    """Bring to the log what killed servers left in their journals. Servers do it by themselves.

    Ends with 5 where the log's address cannot take it now: it waits, and nothing is lost.
    """
    from mlp.cli.views import predictions as view
    from mlp.flows import project
    from mlp.flows.serving import logged_predictions

    packed = logged_predictions.pack(project.load(env=env, settings=settings))
    view.packed(packed, as_json=json_output)
    return 5 if packed.waiting else 0
