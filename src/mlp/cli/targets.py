"""`mlp targets`: the clusters that stages can run on."""

from typing import TYPE_CHECKING, Any

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.launch.target_entries import TargetPlan
    from mlp.flows.launch.target_proposals import Proposal
    from mlp.flows.project import Project


@click.group()
def command() -> None:
    """Show, add and check the clusters that stages can run on."""


@command.command("list")
@options.json_output
@options.project
def list_(json_output: bool, project: "Project") -> None:
    """The targets of mlp.yaml. No cluster is asked."""
    import dataclasses

    from mlp.cli import render
    from mlp.flows.launch import target_entries

    found = target_entries.listed(project)
    rows = [
        (t.name, t.context or "(current)", t.namespace, t.image, t.gpu, t.queue, " ".join(t.stages))
        for t in found
    ]
    headers = ("target", "context", "namespace", "image", "GPUs", "queue", "stages")
    text = render.table(headers, rows) if rows else "none yet: mlp targets add gpu"
    document = {"targets": [dataclasses.asdict(target) for target in found]}
    render.document(document, text, as_json=json_output)


@command.command()
@click.argument("name")
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    help="For a job of so many nodes; the most that mlp.yaml launches there unless given.",
)
@options.json_output
@options.project
def check(name: str, nodes: int | None, json_output: bool, project: "Project") -> int:
    """Look at all that a job needs on target NAME, from here and from inside of a pod.

    A small Job is run there and removed again. Ends with 3 where there is a problem.
    """
    from mlp.cli import doctor
    from mlp.flows.checkup import target_checks
    from mlp.flows.checkup.diagnosis import Report

    most = nodes or target_checks.most_nodes(project, name)
    report = Report(tuple(target_checks.check(project, name, most, deep=True)), name)
    doctor.show(report, as_json=json_output)
    return 0 if report.healthy else 3


@command.command()
@click.argument("name")
@click.option("--context", metavar="NAME", help="Of the kubeconfig; the current one unless given.")
@click.option("--namespace", metavar="NAME", help="Where the jobs go.")
@click.option("--image", metavar="REGISTRY/NAME", help="What the pods run; mlp build makes it.")
@click.option("--base", metavar="IMAGE", help="What mlp build builds it on.")
@click.option(
    "--build-flag",
    "build_flags",
    multiple=True,
    metavar="FLAG",
    help="Handed to the builder's build; may be repeated.",
)
@click.option(
    "--push-flag",
    "push_flags",
    multiple=True,
    metavar="FLAG",
    help="Handed to the builder's push; may be repeated.",
)
@click.option("--gpus", type=click.IntRange(min=0), help="GPUs of one pod.")
@click.option("--queue", metavar="NAME", help="A LocalQueue of Kueue.")
@click.option("--claim", metavar="NAME", help="A volume claim, for checkpoints.")
@click.option(
    "--remote",
    metavar="URL",
    help="The DVC remote that pods share with this machine; DVC's default one unless given.",
)
@click.option("--endpoint", metavar="URL", help="The S3 server of the remote, if not Amazon's.")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME",
    help="A Secret that the pods get as environment variables; may be repeated.",
)
@click.option(
    "--make-secret",
    metavar="NAME",
    help="Make a Secret of this machine's AWS_... or AZURE_STORAGE_... variables for the pods.",
)
@click.option(
    "--tracking-uri",
    metavar="URL",
    help="The MLflow server as the pods see it; the project's too where this machine reaches it.",
)
@click.option(
    "--project-tracking-uri",
    metavar="URL",
    help="The same server as this machine reaches it, where the address is another one.",
)
@click.option("--force", is_flag=True, help="Replace a target of that name.")
@click.option("--yes", is_flag=True, help="Take what is found, and ask nothing.")
@options.dry_run
@options.json_output
@options.project
def add(
    name: str,
    secrets: tuple[str, ...],
    force: bool,
    yes: bool,
    dry_run: bool,
    json_output: bool,
    project: "Project",
    **given: Any,
) -> None:
    """Look at the cluster, propose target NAME, and write it into mlp.yaml.

    What pods share with this machine is set up with it: the DVC remote, a Secret with credentials
    for it, the MLflow server. On a terminal each value is asked for; Enter takes what was found.
    """
    import dataclasses
    import sys

    from mlp.cli import render
    from mlp.flows.launch import target_entries
    from mlp.flows.launch.target_proposals import WantedTarget

    wanted = WantedTarget(secrets=secrets or None, **given)
    asks = not (yes or dry_run or json_output) and sys.stdin.isatty()
    planned = target_entries.plan(
        project,
        name,
        wanted,
        _ask if asks else _take,
        force=force,
        makes_secret=asks or wanted.make_secret is not None,
    )
    if not dry_run:
        target_entries.write(project, planned)
    remote, secret = planned.remote, planned.secret
    document = {
        "target": name,
        "written": not dry_run,
        "section": planned.section,
        "tracking_uri": planned.tracking_uri,
        "remote": dataclasses.asdict(remote) if remote else None,
        "secret": {"name": secret.name, "variables": secret.variables} if secret else None,
        "notes": planned.notes,
        "found": [
            {"key": p.key, "value": p.value, "alternatives": p.alternatives, "reason": p.reason}
            for p in planned.proposals
        ],
        "next": planned.next,
    }
    render.document(document, _as_text(planned, dry_run), as_json=json_output)


def _take(proposal: "Proposal") -> Any:
    return proposal.value


def _ask(proposal: "Proposal") -> Any:
    """What the user says to a proposal; several values with commas between them."""
    several = isinstance(proposal.value, list | tuple)
    shown = ",".join(proposal.value) if several else proposal.value
    click.echo(f"{proposal.key}: {proposal.reason}", err=True)
    if proposal.hint:
        click.echo("  " + proposal.hint.replace("\n", "\n  "), err=True)
    if proposal.alternatives:
        click.echo(f"  there are: {', '.join(proposal.alternatives)}", err=True)
    hint = " (-: none)" if shown else " (Enter: none)"
    said: Any = click.prompt(
        f"  {proposal.key}{'' if proposal.required else hint}",
        default=None if proposal.required and not shown else shown or "",
        type=click.IntRange(min=0) if proposal.key == "gpus" else str,
        show_default=bool(shown),
        err=True,
    )
    if said == "-" and not proposal.required:
        said = ""
    if several:
        return [part.strip() for part in said.split(",") if part.strip()]
    return said if said != "" else None


def _as_text(planned: "TargetPlan", dry_run: bool) -> str:
    import yaml

    from mlp.cli import render

    rows = [
        (p.key, _cell(p.value), p.reason, ", ".join(a for a in p.alternatives if not _is(a, p)))
        for p in planned.proposals
    ]
    section: dict[str, Any] = {"targets": {planned.name: dict(planned.section)}}
    if planned.tracking_uri is not None:
        section = {"tracking": {"uri": planned.tracking_uri}, **section}
    would = "would be " if dry_run else ""
    lines = [render.table(("key", "value", "because", "also there"), rows), ""]
    if planned.secret is not None:
        made_of = " and ".join(planned.secret.variables)
        lines += [f"{would}made: Secret {planned.secret.name}, of {made_of}", ""]
    if planned.remote is not None:
        lines += [f"{would}written into .dvc/config, as by:"]
        lines += [*(f"  {command}" for command in planned.remote.commands), ""]
    lines += [
        f"{would}written into mlp.yaml:",
        yaml.safe_dump(section, sort_keys=False, allow_unicode=True).rstrip(),
    ]
    lines += ["", *(f"note: {note}" for note in planned.notes)] if planned.notes else []
    return "\n".join([*lines, *render.steps(planned.next)])


def _is(name: str, proposal: "Proposal") -> bool:
    value = proposal.value
    return name in value if isinstance(value, list | tuple) else name == str(value)


def _cell(value: Any) -> str:
    if value in (None, "", [], ()):
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
