"""`mlp models`: register, promote, roll back and archive versions of the project's model."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.project import Project


_VERSION = "VERSION is a number, an alias (`champion`, `challenger`), or `latest`."
_reason = click.option("--reason", default="", help="Why; it is kept in the ledger.")


@click.group()
def command() -> None:
    """Register, promote and roll back versions of the model, and show their history."""


@command.command()
@click.argument("run", default="last")
@click.option("--artifact", metavar="NAME", help="Which of the run's models, by name or id.")
@options.dry_run
@options.json_output
@options.project
def register(
    run: str,
    artifact: str | None,
    dry_run: bool,
    json_output: bool,
    project: "Project",
) -> None:
    """Make the model that RUN has logged the next version.

    RUN is an id or its beginning, a run's name, or `last`. The digest of every file is kept, and
    what the model was made from. A model that is registered already keeps its version.
    """
    from mlp.cli.views import models as view
    from mlp.flows.models import registering

    planned = registering.plan(project, run, artifact)
    if dry_run:
        view.registering(planned, as_json=json_output)
        return
    entry = registering.apply(project, planned)
    view.registered(planned, entry, as_json=json_output)


@command.command("list")
@options.json_output
@options.project
def list_(json_output: bool, project: "Project") -> None:
    """The versions, the newest first, with where they stand."""
    from mlp.cli.views import models as view
    from mlp.flows.models import listing

    view.versions(listing.versions(project), as_json=json_output)


@command.command(epilog=_VERSION)
@click.argument("version", default="champion")
@options.json_output
@options.project
def show(version: str, json_output: bool, project: "Project") -> None:
    """One version: what it was made from, its digest, and the ledger's entries about it."""
    from mlp.cli.views import models as view
    from mlp.flows.models import listing

    view.version(listing.show(project, version), as_json=json_output)


@command.command(epilog=_VERSION)
@click.argument("version")
@click.option(
    "--to",
    type=click.Choice(["champion", "challenger"]),
    default="champion",
    show_default=True,
    help="What it becomes.",
)
@_reason
@click.option(
    "--accept",
    multiple=True,
    metavar="GATE",
    help="Let this gate be, though it does not pass; needs --reason. May be repeated.",
)
@click.option(
    "--expect",
    metavar="VERSION",
    help="Only if this version is it now; '' for none. Ends with 4 otherwise.",
)
@options.dry_run
@options.json_output
@options.project
def promote(
    version: str,
    to: str,
    reason: str,
    accept: tuple[str, ...],
    expect: str | None,
    dry_run: bool,
    json_output: bool,
    project: "Project",
) -> int:
    """Let VERSION be the champion, which answers, or the challenger, which is compared with it.

    Its gates come first: files, provenance, signature, prediction, metrics, champion. Ends with 4
    where one of them refuses, and where somebody else was faster.
    """
    from mlp.cli import render
    from mlp.cli.views import models as view
    from mlp.flows.models import promoting

    request = promoting.PromotionRequest(version, to, reason, accept, expect)
    planned = promoting.plan(project, request, render.note)
    if dry_run or planned.done:
        view.promotion(planned, None, as_json=json_output)
        return 4 if planned.refused else 0
    if planned.refused:
        if json_output:
            view.promotion(planned, None, as_json=True)
        raise promoting.refusal(planned)
    view.promotion(planned, promoting.apply(project, planned), as_json=json_output)
    return 0


@command.command(epilog=_VERSION)
@click.option("--to", metavar="VERSION", help="Not the last good version, but this one.")
@_reason
@options.dry_run
@options.json_output
@options.project
def rollback(
    to: str | None,
    reason: str,
    dry_run: bool,
    json_output: bool,
    project: "Project",
) -> None:
    """Let the last version that was good be the champion again.

    Passed over are versions that were rolled back from, taken out, archived or deleted, and those
    whose files are not what was registered. No other gate is asked.
    """
    from mlp.cli.views import models as view
    from mlp.flows.models import rolling_back

    planned = rolling_back.plan(project, to, reason)
    entry = None if dry_run else rolling_back.apply(project, planned)
    view.rollback(planned, entry, as_json=json_output)


@command.command(epilog=_VERSION)
@click.argument("version")
@_reason
@options.dry_run
@options.json_output
@options.project
def archive(
    version: str,
    reason: str,
    dry_run: bool,
    json_output: bool,
    project: "Project",
) -> None:
    """Put VERSION away: it serves no more, and no rollback goes to it. Nothing is deleted."""
    from mlp.cli.views import models as view
    from mlp.flows.models import archiving

    planned = archiving.plan(project, version, reason)
    entry = None if dry_run or planned.done else archiving.apply(project, planned)
    view.archived(planned, entry, as_json=json_output)


@command.command()
@click.option(
    "-n", "limit", type=click.IntRange(min=1), help="How many of the last; all unless given."
)
@click.option("--intents", is_flag=True, help="Show what was begun, too, not only what came of it.")
@options.json_output
@options.project
def history(
    limit: int | None,
    intents: bool,
    json_output: bool,
    project: "Project",
) -> None:
    """The ledger: who changed what, when, from what to what, and why."""
    from mlp.cli.views import models as view
    from mlp.flows.models import listing

    view.history(listing.history(project, limit, intents), as_json=json_output)


@command.command(epilog=_VERSION)
@click.argument("version")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder to be made.",
)
@click.option("--image", metavar="TAG", help="Build a container image of it, too.")
@click.option("--base", metavar="IMAGE", help="What the image is built on; python:X.Y-slim.")
@click.option(
    "--builder",
    type=click.Choice(["docker", "podman", "buildah"]),
    help="What builds it; the first that works here unless given.",
)
@click.argument("flags", nargs=-1, metavar="[-- BUILDER_FLAGS...]")
@options.dry_run
@options.json_output
@options.project
def package(
    version: str,
    folder: Path,
    image: str | None,
    base: str | None,
    builder: str | None,
    flags: tuple[str, ...],
    dry_run: bool,
    json_output: bool,
    project: "Project",
) -> None:
    """Make a folder of VERSION that runs by itself, and a container image of that.

    The folder has the model, its requirements, a digest of every file, and a program to serve it.
    """
    from mlp.cli import render
    from mlp.cli.views import models as view
    from mlp.flows.models import packaging

    planned = packaging.plan(
        project, version, folder.absolute(), image=image, base=base, builder=builder, flags=flags
    )
    if not dry_run:
        packaging.apply(project, planned, render.note)
    view.package(planned, made=not dry_run, as_json=json_output)
