"""`mlp doctor`: whether everything here works."""

from typing import TYPE_CHECKING

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.checkup.diagnosis import Report


@click.command()
@click.option("--target", metavar="NAME", help="Check this target of mlp.yaml too.")
@options.json_output
@options.common
def command(
    target: str | None, json_output: bool, env: str | None, settings: tuple[str, ...]
) -> int:
    """Check the project and this machine, and say what to do where something is wrong.

    Ends with 3 where there is a problem. Works without a project too.
    """
    from pathlib import Path

    from mlp.flows.checkup import diagnosis

    report = diagnosis.examine(Path.cwd(), env, settings, target)
    show(report, as_json=json_output)
    return 0 if report.healthy else 3


def show(report: "Report", *, as_json: bool) -> None:
    """The checks, each with its fix, and whether there is a problem among them."""
    import dataclasses

    from mlp.cli import render
    from mlp.core.checkup.health import CheckVerdict

    checks = [dataclasses.asdict(check) for check in report.checks]
    shown = {"healthy": report.healthy, "checks": checks, "next": report.next}
    lines = []
    for check in report.checks:
        lines.append(f"{check.verdict:8} {check.name:12} {check.message}")
        more = [line for line in check.cause.splitlines() if line not in check.message]
        lines += [f"{'':21} {line}" for line in more]
        lines += [f"{'':21} fix: {check.fix}"] if check.fix else []
    problems = sum(check.verdict == CheckVerdict.PROBLEM for check in report.checks)
    count = "1 problem" if problems == 1 else f"{problems} problems"
    lines += ["", "everything works" if report.healthy else count, *render.steps(report.next)]
    render.document(shown, "\n".join(lines), as_json=as_json)
