"""`mlp deploy`: serve the model on a cluster, and bring a challenger to the users step by step."""

from typing import TYPE_CHECKING

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.project import Project


_READY_S = 900

_where = click.option(
    "--target", metavar="NAME", help="A key of `targets` in mlp.yaml; the only one unless given."
)
_release = click.option(
    "--release",
    metavar="NAME",
    help="Helm's name of it; deploy.release or the model's unless given.",
)


@click.group(invoke_without_command=True)
@_where
@_release
@click.option(
    "--canary",
    metavar="PERCENT",
    type=click.FloatRange(0, 100),
    help="The share of the challenger.",
)
@click.option("--wait", is_flag=True, help="Until all pods answer, and say why not if they do not.")
@options.dry_run
@options.json_output
@options.common
@click.pass_context
def command(
    context: click.Context,
    target: str | None,
    release: str | None,
    canary: float | None,
    wait: bool,
    dry_run: bool,
    json_output: bool,
    env: str | None,
    settings: tuple[str, ...],
) -> None:
    """Serve the model on a cluster: its champion, and its challenger for a share of the requests.

    Without a command: install the release on TARGET with Helm, or make it what mlp.yaml says now.
    No request is lost meanwhile.
    """
    if context.invoked_subcommand is not None:
        _nothing_before(context)
        return
    from mlp.cli import render
    from mlp.cli.views import deploy as view
    from mlp.flows import project
    from mlp.flows.serving import deploying

    loaded = project.load(env=env, settings=settings)
    share = None if canary is None else canary / 100
    planned = deploying.plan(loaded, target, canary=share, release=release)
    if dry_run:
        render.document(
            view.planned_document(planned), view.manifests(planned), as_json=json_output
        )
        return
    for line in view.plan_lines(planned):
        render.note(line)
    deploying.apply(loaded, planned)
    seen = None
    if wait:
        seen = deploying.await_ready(loaded, target, _READY_S, render.note, release)
    document = {
        **view.planned_document(planned),
        "ready": seen and seen.ready,
        "wanted": seen and seen.wanted,
    }
    document.pop("manifests")
    render.document(document, view.done_text(planned, seen), as_json=json_output)


@command.command()
@_where
@_release
@options.json_output
@options.project
def status(
    target: str | None,
    release: str | None,
    json_output: bool,
    project: "Project",
) -> None:
    """The release, its pods, which versions answer, and the last entries of the ledger."""
    from mlp.cli import render
    from mlp.cli.views import deploy as view
    from mlp.flows.serving import deploying

    found = deploying.status(project, target, release)
    render.document(view.status_document(found), view.status_text(found), as_json=json_output)


@command.command()
@click.option("--reason", default="", help="Why; kept in the ledger.")
@options.json_output
@options.project
def promote(reason: str, json_output: bool, project: "Project") -> None:
    """Make the challenger the champion, if it passes its gates. All servers follow."""
    import dataclasses

    from mlp.cli import render
    from mlp.flows.ab import rollout_steps

    found = rollout_steps.promote(project, render.note, reason)
    text = f"version {found.version} is champion"
    text += f", after version {found.previous}" if found.previous else ""
    render.document(dataclasses.asdict(found), text, as_json=json_output)


@command.command()
@click.option("--reason", default="", help="Why; kept in the ledger.")
@options.json_output
@options.project
def abort(reason: str, json_output: bool, project: "Project") -> None:
    """Take the challenger back: it gets no more requests, and is no longer the challenger."""
    import dataclasses

    from mlp.cli import render
    from mlp.flows.ab import rollout_steps

    found = rollout_steps.abort(project, reason)
    text = f"version {found.previous} is challenger no longer: the champion answers all requests"
    render.document(dataclasses.asdict(found), text, as_json=json_output)


@command.command()
@click.option(
    "--steps",
    default="10,25,50,100",
    show_default=True,
    metavar="PERCENT,…",
    help="The challenger's shares.",
)
@click.option("--step-time", default="10m", show_default=True, help="Of each step, at least.")
@click.option(
    "--only-better",
    is_flag=True,
    help="Let all requests go to it only where the verdict is better, not where it is not worse.",
)
@click.option("--patience", metavar="TIME", help="Give up a step that is held for longer.")
@click.option("--once", is_flag=True, help="Make the move that is due, if one is, and end.")
@options.json_output
@options.project
def rollout(
    steps: str,
    step_time: str,
    only_better: bool,
    patience: str | None,
    once: bool,
    json_output: bool,
    project: "Project",
) -> None:
    """Give the challenger more and more requests, and make it champion at the end.

    Goes on for as long as verdict and guards allow, and takes the challenger back where they do
    not, which ends with 4. It may be killed and started again at any time.
    """
    import dataclasses

    from mlp.cli import render
    from mlp.core.ab import rollout as machine
    from mlp.flows.ab import rollout_steps as flow

    plan = machine.Steps(
        machine.parse(steps),
        _seconds("--step-time", step_time),
        only_better,
        None if patience is None else _seconds("--patience", patience),
    )
    found = flow.run(project, plan, render.note, once=once)
    text = f"version {found.version}: {found.move.kind}, {found.move.reason}"
    render.document(dataclasses.asdict(found), text, as_json=json_output)


@command.command()
@_where
@_release
@options.json_output
@options.project
def remove(
    target: str | None,
    release: str | None,
    json_output: bool,
    project: "Project",
) -> None:
    """Remove the release from the cluster. Versions, ledger and predictions stay."""
    from mlp.cli import render
    from mlp.flows.serving import deploying

    removed = deploying.remove(project, target, release)
    text = "removed" if removed else "there was nothing to remove"
    render.document({"removed": removed}, text, as_json=json_output)


def _nothing_before(context: click.Context) -> None:
    """Options stand behind the command that they are for: in front of it nobody would heed them."""
    source = click.core.ParameterSource.COMMANDLINE
    for parameter in context.command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) == source:
            command = context.invoked_subcommand
            context.fail(
                f"{parameter.opts[-1]} stands before {command!r}: mlp deploy {command} "
                f"{parameter.opts[-1]} …"
            )


def _seconds(option: str, text: str) -> float:
    from mlp.core.quantities import seconds

    try:
        return float(seconds(text))
    except ValueError as e:
        raise click.UsageError(f"{option}: {e}") from e
