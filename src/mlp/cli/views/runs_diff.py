"""`mlp runs diff` and `mlp runs why` as text."""

from collections.abc import Iterator, Sequence

from mlp.cli import render
from mlp.cli.views.changes import code_lines, data_lines, environment_lines, one_line, values
from mlp.core.compare.blame import Cause, Harmless, MetricExplanation
from mlp.core.compare.run_comparison import Change, Difference, MetricChange, RunSide

_SHOWN = 20


def diff_text(result: Difference) -> str:
    """What differs, section by section; what is the same is named at the end."""
    sections = {
        "Metrics": [*_metrics(result.metrics)],
        "Params": [*_params(result)],
        "Launch": [*_named(result.launches)],
        "Data": [*data_lines(result.data)],
        "Code": [*code_lines(result.code)],
        "Environment": [*environment_lines(result.environment)],
    }
    lines = [_heading("A", result.before), _heading("B", result.after)]
    for title, body in sections.items():
        if body:
            lines += ["", title, *(f"  {line}" for line in body)]
    unchanged = [name.lower() for name, body in sections.items() if not body and name != "Launch"]
    if unchanged:
        lines += ["", f"No difference in {_listed(unchanged)}."]
    lines += _notes((*result.notes, *result.code.notes))
    return "\n".join(lines)


def why_text(result: MetricExplanation) -> str:
    """What moved the metric, the likeliest first, and how to find out which."""
    lines = [_heading("A", result.before), _heading("B", result.after), "", _moved(result), ""]
    lines += _verdict(result)
    if result.verdict != "equal":
        for number, cause in enumerate(result.causes, 1):
            lines += _cause(number, cause)
        lines += _trials(result)
    if result.harmless:
        lines += ["", "Cannot matter"]
        lines += _few([*_harmless(result.harmless)])
    others = [m for m in result.metrics if m != result.metric]
    if others:
        lines += ["", "Other metrics that differ", *(f"  {line}" for line in _metrics(others))]
    lines += _notes(result.notes)
    return "\n".join(lines)


def _heading(letter: str, side: RunSide) -> str:
    started = render.minute(side.started)
    commit = f"commit {side.commit[:8]}" if side.commit else "no commit"
    dirty = " with uncommitted changes" if side.dirty else ""
    return f"{letter}  {side.run_id[:8]}  {started}  {side.status.lower()}  {commit}{dirty}"


def _metrics(metrics: Sequence[MetricChange]) -> Iterator[str]:
    changed = [m for m in metrics if not m.equal]
    width = max((len(m.name) for m in changed[:_SHOWN]), default=0)
    for metric in changed[:_SHOWN]:
        yield f"{metric.name.ljust(width)}  {values(metric.before, metric.after)}{_by(metric)}"
    if len(changed) > _SHOWN:
        yield f"and {len(changed) - _SHOWN} more that differ (--json has all)"
    equal = [m.name for m in metrics if m.equal]
    if equal and changed:
        yield f"the same: {_listed(equal, 8)}"


def _by(metric: MetricChange) -> str:
    """How much a metric moved: "  +0.012 (+1.7%)"."""
    if metric.difference is None:
        return ""
    share = "" if metric.relative is None else f" ({metric.relative:+.2g})"
    if metric.relative is not None and abs(metric.relative) < 10:
        share = f" ({metric.relative:+.1%})"
    return f"  {metric.difference:+.4g}{share}"


def _params(result: Difference) -> Iterator[str]:
    yield from _named(result.params)
    if result.seed and not any(p.name.endswith("seed") for p in result.params):
        yield f"seed  {values(result.seed.before, result.seed.after)}"


def _named(changes: Sequence[Change]) -> Iterator[str]:
    width = max((len(change.name) for change in changes), default=0)
    for change in changes:
        used = f"  ({', '.join(change.stages)})" if change.stages else ""
        yield f"{change.name.ljust(width)}  {values(change.before, change.after)}{used}"


def _moved(result: MetricExplanation) -> str:
    metric = result.metric
    if metric is None:
        return "The runs have no metric in common."
    made = f"  (made by {', '.join(result.made_by)})" if result.made_by else ""
    if metric.equal:
        return f"{metric.name} is {values(metric.before, metric.after)} in both{made}"
    return f"{metric.name}  {values(metric.before, metric.after)}{_by(metric)}{made}"


def _verdict(result: MetricExplanation) -> list[str]:
    count = len(result.causes)
    name = result.metric.name if result.metric else "a metric"
    if result.verdict == "equal":
        names = _listed([cause.name for cause in result.causes], 8)
        return (
            [f"Nothing to explain. It changed all the same, without moving it: {names}."]
            if (count)
            else ["Nothing to explain, and nothing that can reach it changed."]
        )
    if count == 1:
        return [f"One thing changed that can reach {name}:"]
    if count:
        return [f"{count} things changed at once that can reach {name}, the likeliest first:"]
    return _chance(result, name)


def _chance(result: MetricExplanation, name: str) -> list[str]:
    """Nothing changed and the metric did."""
    lines = [f"Nothing that was recorded and can reach {name} changed: it is chance."]
    if result.seed is None:
        lines.append("No seed was recorded. Make it a param called seed, use it, and run again.")
    else:
        lines.append(
            f"The seed is {result.seed} in both: look for what it does not cover (threads, GPU"
            " kernels, the order of files, the clock, a download)."
        )
    return lines


def _cause(number: int, cause: Cause) -> list[str]:
    details = [line for change in cause.changes[:5] for line in one_line(change)]
    if len(cause.changes) > 5:
        details.append(f"and {len(cause.changes) - 5} more")
    # A single change says its own name.
    own = cause.kind in ("data", "param", "seed", "launch")
    first = f"{cause.kind} {details.pop(0)}" if own else cause.name
    lines = ["", f"  {number}. {first}", *(f"       {line}" for line in details)]
    if len(cause.stages) > 1:
        lines.append(f"       by way of {' -> '.join(cause.stages)}")
    return lines


def _trials(result: MetricExplanation) -> list[str]:
    lines: list[str] = []
    if result.diverged and result.metric:
        stages = _listed(result.diverged)
        lines += ["", f"Look at {stages} first: it made other outputs of the same inputs."]
    trials = list(dict.fromkeys(c.trial for c in result.causes if c.trial))
    if len(result.causes) > 1 and trials:
        lines += ["", "To know which, put one of them back at a time, from the state of B:"]
        lines += [f"  {trial}" for trial in trials]
    elif not result.causes and result.metric:
        again = f"mlp runs reproduce {result.after.run_id[:8]}"
        lines += ["", "To see how far chance moves it, run B again as it was:", f"  {again}"]
    return lines


def _harmless(changes: Sequence[Harmless]) -> Iterator[str]:
    """What cannot matter, by reason."""
    names: dict[str, list[str]] = {}
    for change in changes:
        names.setdefault(change.reason, []).append(change.name)
    for reason, having in names.items():
        yield f"  {_listed(having, 8)}: {reason}"


def _few(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"  and {rest} more"] if rest > 0 else [])]


def _notes(notes: Sequence[str]) -> list[str]:
    return ["", *(f"note: {note}" for note in notes)] if notes else []


def _listed(names: Sequence[str], most: int = 20) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
