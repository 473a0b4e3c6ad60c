"""Measuring commands against each other: in turns, so that a slow minute hits all of them alike."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

# In CI `mlp run` waits for the delivery; without bytecode every start compiles all it imports.
_NOT_PASSED = ("CI", "PYTHONDONTWRITEBYTECODE", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID")


def _nothing() -> None:
    """Nothing has to settle."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is measured. `settled` returns when nothing that it started is at work any more."""

    arguments: Sequence[str]
    directory: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    settled: Callable[[], None] = _nothing


class Timing(NamedTuple):
    """Of one call, in seconds: from start to end, and processor time of it and its children."""

    wall: float
    cpu: float


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment in which everything is measured: all analytics off."""
    quiet = {
        "DVC_NO_ANALYTICS": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "ZENML_ANALYTICS_OPT_IN": "false",
    }
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED}
    return kept | quiet | dict(extra or {})


def run(command: Command) -> Timing:
    """Call it once. Raises SystemExit, with what it printed, where it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command.arguments,
        cwd=command.directory,
        env=environment(command.variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{command.arguments} failed:\n{done.stdout.decode(errors='replace')}")
    command.settled()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timing(wall, cpu)


def measure(
    commands: Mapping[str, Command], turns: int, *, warm: bool = False
) -> dict[str, list[Timing]]:
    """All commands `turns` times in an order that rotates; unless `warm`, once more before."""
    names = list(commands)
    for name in () if warm else names:
        run(commands[name])
    timings: dict[str, list[Timing]] = {name: [] for name in names}
    for turn in range(turns):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            timings[name].append(run(commands[name]))
        print(f"turn {turn + 1}/{turns}", file=sys.stderr)
    return timings


def seconds(timings: Sequence[Timing]) -> dict[str, float]:
    """The medians."""
    return {
        "wall": round(statistics.median(t.wall for t in timings), 4),
        "cpu": round(statistics.median(t.cpu for t in timings), 4),
    }


def ratio(timings: Sequence[Timing], base: Sequence[Timing]) -> float:
    """How many times as long as `base`, start to end: the median over the turns."""
    return round(statistics.median(t.wall / b.wall for t, b in zip(timings, base, strict=True)), 4)


def figure(
    what: str,
    value: float,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    unit: str = "x",
    note: str = "",
) -> dict[str, Any]:
    """One line of `docs/benchmarks.md`; one of the two bounds is its target."""
    met = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    bound = {"at_most": at_most} if at_least is None else {"at_least": at_least}
    return {
        "what": what,
        "value": value,
        **bound,
        "unit": unit,
        "met": met,
        "note": note,
    }
