"""`mlp doctor`: whether everything here works."""

import click

from mlp.cli import options


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@options.json_output
@options.common
def command(json_output: bool, env: str | None, settings: tuple[str, ...]) -> int:
    """Check the project and this machine, and say what to do where something is wrong.

    Ends with 3 where there is a problem. Works without a project too.
    """
    import dataclasses
    from pathlib import Path

    from mlp.cli import render
    from mlp.core.health import Verdict
    from mlp.flows import doctor

    report = doctor.examine(Path.cwd(), env, settings)
    checks = [dataclasses.asdict(check) for check in report.checks]
    shown = {"healthy": report.healthy, "checks": checks}
    lines = []
    for check in report.checks:
        lines.append(f"{check.verdict:8} {check.name:12} {check.message}")
        more = [line for line in check.cause.splitlines() if line not in check.message]
        lines += [f"{'':21} {line}" for line in more]
        lines += [f"{'':21} fix: {check.fix}"] if check.fix else []
    problems = sum(check.verdict == Verdict.PROBLEM for check in report.checks)
    count = "1 problem" if problems == 1 else f"{problems} problems"
    lines += ["", "everything works" if report.healthy else count]
    render.document(shown, "\n".join(lines), as_json=json_output)
    return 0 if report.healthy else 3
