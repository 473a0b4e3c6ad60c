"""The verdict over a challenger from the log of predictions."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlp.core.ab.ab_section import Ab
from mlp.core.ab.exposure import Period
from mlp.core.ab.statistics import arms as assembling
from mlp.core.ab.statistics import assignment, guards, metric_comparison, sequential, sums
from mlp.core.ab.statistics.arms import Arms, Log
from mlp.core.ab.statistics.estimates import CHALLENGER, CHAMPION
from mlp.core.ab.statistics.labelled_rows import LabelledRows
from mlp.core.ab.statistics.metric_comparison import AnalysisPlan, Compared
from mlp.core.ab.statistics.metrics import METRICS, Metric, canonical
from mlp.core.ab.statistics.outcomes import MOST_CLASSES
from mlp.core.ab.statistics.sums import Sums
from mlp.core.ab.traffic import Traffic
from mlp.core.ab.verdict import Arm, Because, Inference, Needs, Verdict, decide
from mlp.core.errors import ConfigurationError

_UNEQUAL = 0.001


@dataclass(frozen=True, slots=True)
class VerdictQuestion:
    """What is asked: by which metric, for which traffic, with which rows."""

    model: str
    metric: Metric
    maximize: bool
    now: Traffic
    periods: Sequence[Period]  # comparable ones
    settle: float  # seconds
    taken_out: str | None


def judge(log: Log, question: VerdictQuestion, ab: Ab) -> Verdict:
    """The verdict. Raises ConfigurationError where a metric or guard does not fit the log."""
    metric, now = question.metric, question.now
    if now.shadow and metric.served:
        raise ConfigurationError(
            f"{metric.name} is about what followed from an answer, and in shadow only the "
            f"champion answers",
            fix="choose another ab.metric, or give the challenger a share: mlp ab share 0.1",
        )
    arms = assembling.assemble(log, question.periods, now, question.settle)
    rows = arms.labelled(metric)
    plan = AnalysisPlan(ab.alpha, ab.power, ab.effect, ab.min_samples)
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = metric.of(rows, ab.positive)
        compared = metric_comparison.compare(statistic, plan)
        checks = guards.check(ab.guards, arms.requests, arms.labelled, ab.alpha, ab.positive)
    sides = [_arm(arms, rows, which, metric, compared, now) for which in (CHAMPION, CHALLENGER)]
    unit = "request" if _keyless(arms) == len(arms.arm) else "user"
    tests = _tests(compared, unit)
    time = arms.log.time
    found = Verdict(
        model=question.model,
        metric=metric.name,
        goal="maximize" if question.maximize else "minimize",
        alpha=ab.alpha,
        effect=ab.effect,
        min_samples=ab.min_samples,
        mode="shadow" if now.shadow else "split",
        since=float(time.min()) if len(time) else None,
        until=float(time.max()) if len(time) else None,
        share=now.share,
        champion=sides[CHAMPION],
        challenger=sides[CHALLENGER],
        sample_ratio=None if now.shadow else assignment.check(arms.splits, arms.strayed),
        sequential=tests[0],
        fixed=tests[1],
        guards=checks,
        taken_out=question.taken_out,
    )
    outcome, because, reason = decide(found)
    return dataclasses.replace(
        found,
        outcome=outcome,
        because=because,
        reason=reason,
        needs=_needs(found, compared, because),
        notes=_notes(log, arms, question, ab),
    )


def _arm(
    arms: Arms, rows: LabelledRows, which: int, metric: Metric, compared: Compared, now: Traffic
) -> Arm:
    side = arms.side(which)
    value, low, high = (
        _known(float(np.clip(x, metric.least, metric.most))) for x in compared.arms[which]
    )
    mine = rows.arm == which
    users = np.count_nonzero(np.bincount(rows.user[mine], minlength=1))
    version = now.challenger if which == CHALLENGER else now.champion
    labelled = int(np.count_nonzero(mine))
    return Arm(
        str(version), side.requests, side.rows, side.users, labelled, int(users), value, low, high
    )


def _tests(compared: Compared, unit: str) -> tuple[Inference, Inference]:
    """The always-valid test and the plain one."""
    found = []
    for (low, high, p), method in (
        (compared.sequential, f"confidence sequence (normal mixture), clustered by {unit}"),
        (compared.fixed, f"Student's t, clustered by {unit}"),
    ):
        found.append(Inference(_known(compared.difference), _known(low), _known(high), p, method))
    return found[0], found[1]


def _needs(found: Verdict, compared: Compared, because: Because) -> Needs | None:
    """How many labelled rows are still to come, where more of them can decide."""
    if because not in (Because.SAMPLES, Because.UNDEFINED, Because.NO_DIFFERENCE):
        return None
    stated = found.effect is not None
    effect = found.effect if stated else _known(abs(compared.difference))
    more: list[int | None] = []
    for arm in (found.champion, found.challenger):
        fewest = max(found.min_samples - arm.labelled, 0)
        if compared.growth is not None:
            more.append(max(fewest, math.ceil(arm.labelled * (compared.growth - 1))))
        else:
            more.append(fewest or None)
    basis = "the stated effect" if stated else "the difference seen"
    return Needs(more[0], more[1], effect, basis)


def _notes(log: Log, arms: Arms, question: VerdictQuestion, ab: Ab) -> tuple[str, ...]:
    notes = []
    left_out = len(log.time) - len(arms.arm)
    if left_out:
        notes.append(
            f"{left_out} rows of other versions and times, or without a counterpart, were left out"
        )
    shares = {period.traffic.share for period in question.periods}
    if len(shares) > 1 and not question.now.shadow:
        notes.append(
            "the share changed: rows are weighted so that both arms stand for the same times"
        )
    keyless = _keyless(arms)
    if keyless:
        notes.append(
            f"{keyless} of {len(arms.arm)} rows have no user's key: each such request counts as a "
            f"user of its own"
        )
    guarded = (METRICS.get(canonical(name)) for name in ab.guards)
    counted = any(metric and metric.counted for metric in (question.metric, *guarded))
    if counted and (strange := _strange_labels(log)):
        notes.append(strange)
    unequal = _unequal_labels(arms)
    if unequal:
        notes.append(unequal)
    return tuple(notes)


def _strange_labels(log: Log) -> str:
    """A warning where labels are of classes that no version has predicted."""
    predicted = {value for value in log.prediction if value is not None}
    if not predicted or len(predicted) > MOST_CLASSES:
        return ""
    strange = [value for value in log.label if value is not None and value not in predicted]
    if not strange:
        return ""
    labels = "1 label is" if len(strange) == 1 else f"{len(strange)} labels are"
    return (
        f"{labels} of a class that no version has predicted, such as {strange[0]!r}: they count"
        f" as wrong; `mlp predictions query` shows how they are written"
    )


def _keyless(arms: Arms) -> int:
    return sum(1 for key in arms.log.key if key is None)


def _unequal_labels(arms: Arms) -> str:
    """A warning where one arm's rows get labels more often: what is compared may be selected."""
    if not len(arms.arm):
        return ""
    label = arms.has_label()
    rows = LabelledRows(arms.arm, arms.user, arms.users, arms.weight, label, label)
    pair = Sums.of(rows, [label, np.ones(len(label))], sums.ratio, (1,)).pair()
    with np.errstate(invalid="ignore"):
        d, v = pair.contrast()
        mixture = sequential.mixing(pair.variance_at(1000), _UNEQUAL)
        p = float(sequential.p_value(d, v, mixture))
    if p >= _UNEQUAL:
        return ""
    champion, challenger = (float(value) for value in pair.value)
    return (
        f"labels come unequally: for {champion:.1%} of the champion's rows and {challenger:.1%} of "
        f"the challenger's; if what decides that has to do with the answer, the metric misleads"
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
