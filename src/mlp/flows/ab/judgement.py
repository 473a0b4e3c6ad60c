"""The verdict over the challenger, from the log of predictions, the ledger and the registry."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlp.core.ab.exposure import Period, comparable, periods
from mlp.core.ab.traffic import Traffic, traffic
from mlp.core.ab.verdict import Verdict
from mlp.core.errors import ConfigurationError
from mlp.core.models.ledger import LedgerEntry
from mlp.core.models.standing import taken_out
from mlp.flows.models.opened_model import opened
from mlp.flows.models.reconcile import settle
from mlp.flows.project import Project
from mlp.flows.serving import logged_predictions

if TYPE_CHECKING:
    from mlp.core.ab.statistics.metrics import Metric

_LAST = 5
_COUNTS = """
SELECT version, route, count(DISTINCT request_id), count(DISTINCT coalesce(user_key, request_id)),
  count(label)
FROM predictions LEFT JOIN latest USING (request_id, row)
WHERE model = ? AND version IN ({}) AND time >= make_timestamp(?) AND NOT failed
GROUP BY ALL ORDER BY ALL
"""
_ROUTES = {False: ("champion", "challenger"), True: ("champion", "shadow")}


def reach(project: Project, *, since: float | None = None, metric: str | None = None) -> Verdict:
    """The verdict on what is in the log now, of `since` (seconds since the epoch) or later.

    May be called at any time and as often as wanted. Raises
    ConfigurationError where there is no challenger, or a metric or guard does not fit the log.
    """
    from mlp.adapters.predictions.samples import samples
    from mlp.core.ab.statistics import columns, judging

    chosen, maximize = measure(project, metric)
    # Later rows may be of a share that this look at the ledger does not know of.
    until = time.time()
    entries, now = _traffic(project)
    if now.champion is None or now.challenger is None:
        lacking = "challenger" if now.champion is not None else "champion"
        raise ConfigurationError(
            f"model {project.model.name!r} has no {lacking}: there is nothing to compare",
            fix=f"mlp models promote VERSION --to {lacking}",
        )
    serve = project.config.serve
    history = periods(entries, now, serve.challenger, serve.shadow)
    wanted = comparable(history, now)
    start = max(since or 0.0, min((period.start for period in wanted), default=0.0))
    with logged_predictions.opened(project, since=start) as log:
        found = samples(
            log,
            project.model.name,
            (now.champion, now.challenger),
            since=start,
            until=until,
            routes=_ROUTES[now.shadow],
            prediction=project.model.prediction,
            probability=project.model.probability,
        )
    question = judging.VerdictQuestion(
        model=project.model.name,
        metric=chosen,
        maximize=maximize,
        now=now,
        periods=wanted,
        settle=2 * serve.poll,
        taken_out=_why_out(entries, now.challenger),
    )
    return judging.judge(columns.log(found), question, project.config.ab)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a version answered on a route since it and the other one are champion and challenger."""

    version: str
    route: str
    requests: int
    users: int
    labelled: int


@dataclass(frozen=True, slots=True)
class ABStatus:
    """Who answers now, since when at which share, and what they have answered."""

    model: str
    traffic: Traffic
    taken_out: str | None
    history: Sequence[Period]
    counted: Sequence[Counted]
    entries: Sequence[LedgerEntry]  # the last ones


def status(project: Project) -> ABStatus:
    """The traffic, its history, and counts by version and route, of the log since it began."""
    from mlp.adapters.predictions import log_reading

    entries, now = _traffic(project)
    serve, model = project.config.serve, project.model.name
    history = periods(entries, now, serve.challenger, serve.shadow)
    mine = [
        period
        for period in history
        if (period.traffic.champion, period.traffic.challenger) == (now.champion, now.challenger)
    ]
    start = min((period.start for period in mine), default=0.0)
    versions = [version for version in (now.champion, now.challenger) if version is not None]
    counted: list[Counted] = []
    if serve.log is not None and versions:
        with logged_predictions.opened(project, since=start) as log, log_reading.translated():
            marks = ", ".join("?" for _ in versions)
            found = log.execute(_COUNTS.format(marks), [model, *versions, int(start * 1e6)])
            counted = [Counted(*row) for row in found.fetchall()]
    out = _why_out(entries, now.challenger) if now.challenger is not None else None
    return ABStatus(model, now, out, mine, counted, entries[-_LAST:])


def _traffic(project: Project) -> tuple[list[LedgerEntry], Traffic]:
    """The ledger, and the traffic that follows from it and from MLflow's aliases.

    What happened without the ledger is written into it first, as every command does.
    """
    serve = project.config.serve
    with opened(project) as model:
        settle(model)
        entries, aliases = model.entries(), model.aliases()
    return entries, traffic(aliases, entries, serve.challenger, serve.shadow)


def measure(project: Project, name: str | None) -> "tuple[Metric, bool]":
    """The metric to compare by, and whether more of it is better.

    `name`, or `ab.metric`, or `model.primary`, or accuracy for classes and rmse for numbers. The
    goal is that of `model.primary` where it states one for this metric, else the metric's own.
    """
    from mlp.core.ab.statistics import metrics

    model = project.model
    primary = model.primary
    fallback = "accuracy" if model.task == "classification" else "rmse"
    found = metrics.find(
        name or project.config.ab.metric or (primary.metric if primary else fallback)
    )
    goal = found.goal
    stated = primary is not None and "goal" in primary.model_fields_set
    if primary is not None and stated and metrics.canonical(primary.metric) == found.name:
        goal = primary.goal
    return found, goal == "maximize"


def _why_out(entries: Sequence[LedgerEntry], version: str) -> str | None:
    out = taken_out(entries, version)
    return None if out is None else out.reason or "no reason was given"
