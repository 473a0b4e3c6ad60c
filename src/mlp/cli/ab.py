"""`mlp ab`: the verdict on the challenger, and its share of the users."""

import dataclasses
from typing import TYPE_CHECKING

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.project import Project


_UNTIL = "A time (2026-11-25, 2026-11-25T08:00) or how long ago (7d, 12h)."


@click.group()
def command() -> None:
    """Compare the challenger with the champion, and set how many users it answers."""


@command.command()
@click.option("--since", metavar="WHEN", help=f"Leave out what was before. {_UNTIL}")
@click.option("--metric", metavar="NAME", help="Instead of `ab.metric` or `model.primary`.")
@click.option("--allow-inconclusive", is_flag=True, help="End with 0 where nothing is shown yet.")
@options.json_output
@options.project
def verdict(
    since: str | None,
    metric: str | None,
    allow_inconclusive: bool,
    json_output: bool,
    project: "Project",
) -> int:
    """Whether the challenger is better, from the log of predictions and its labels.

    May be asked at any time and as often as wanted: the p-value and the interval stay valid. Ends
    with 0 when the challenger is better, and with 4 when it is worse, a guard is broken, users are
    not split as configured, or nothing is shown yet (0 with --allow-inconclusive).
    """
    from mlp.cli import render
    from mlp.cli.views import ab as view
    from mlp.core.ab.verdict import Because, Outcome
    from mlp.flows.ab import judgement as verdicts

    start = view.moment(since) if since else None
    found = verdicts.reach(project, since=start, metric=metric)
    render.document(dataclasses.asdict(found), view.verdict(found), as_json=json_output)
    undecided = found.outcome == Outcome.INCONCLUSIVE and found.because != Because.SAMPLE_RATIO
    accepted = found.outcome == Outcome.BETTER or (undecided and allow_inconclusive)
    return 0 if accepted else 4


@command.command()
@options.json_output
@options.project
def status(json_output: bool, project: "Project") -> None:
    """Who answers now, the challenger's shares until now, and how much there is to compare."""
    from mlp.cli import render
    from mlp.cli.views import ab as view
    from mlp.flows.ab import judgement as verdicts

    found = verdicts.status(project)
    render.document(dataclasses.asdict(found), view.status(found), as_json=json_output)


@command.command()
@click.argument("share", type=click.FloatRange(0, 1))
@click.option("--shadow", is_flag=True, help="It predicts beside the champion, who answers.")
@click.option("--reason", default="", metavar="TEXT", help="Kept in the ledger.")
@options.json_output
@options.project
def share(
    share: float,
    shadow: bool,
    reason: str,
    json_output: bool,
    project: "Project",
) -> None:
    """Give the challenger SHARE (0 to 1) of the users, from now on, without a restart.

    A larger share only moves users to the challenger, a smaller one only back. A challenger that
    was taken out gets requests again.
    """
    from mlp.cli import render
    from mlp.cli.views import ab as view
    from mlp.flows.ab import traffic_shares

    entry = traffic_shares.set_share(project, share, shadow=shadow, reason=reason)
    render.document(dataclasses.asdict(entry), view.shared(entry), as_json=json_output)
