"""`mlp ui`: MLflow's pages on this project's runs."""

from typing import TYPE_CHECKING

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.project import Project


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="[the first free one from 5000 on]")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0: the whole network.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@options.json_output
@options.project
def command(
    port: int | None,
    host: str,
    no_browser: bool,
    json_output: bool,
    project: "Project",
) -> None:
    """Serve MLflow's pages on this project's runs, until Ctrl-C.

    Where the runs are on a tracking server, it serves them already: its address is shown.
    """
    import signal
    import sys

    from mlp.cli import render
    from mlp.flows.runs import mlflow_pages

    browser = not no_browser and sys.stdout.isatty()
    there = mlflow_pages.served_already(project)
    if there is not None:
        _show(there, "a tracking server has this project's runs", json_output, browser)
        return
    signal.signal(signal.SIGTERM, _interrupt)
    render.note("starting MLflow's pages …")
    try:
        with mlflow_pages.served(project, host, port) as found:
            _show(found.address, "Ctrl-C ends it", json_output, browser)
            if found.delivering:
                render.note(f"runs that MLflow did not have yet come in: {found.delivering}")
            found.wait()
    except KeyboardInterrupt:
        render.note("ended")


def _show(address: str, remark: str, as_json: bool, browser: bool) -> None:
    import webbrowser

    from mlp.cli import render
    from mlp.core.secrets import mask_urls

    render.document({"address": mask_urls(address)}, f"{address}   ({remark})", as_json=as_json)
    if browser:
        webbrowser.open(address)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
