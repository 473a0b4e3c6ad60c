"""Runs the benchmarks, all or those named, and writes `docs/benchmarks.md`.

`python bench/report.py [--cluster] [NAME...]`. Those that need a cluster, the one that KUBECONFIG
names, run with `--cluster` or by name; that of a large gang wants a thousand simulated nodes there.
What is not run this time is told from its last run, with that run's date. Ends with 0 also where a
figure falls short: the page says so.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import peers
import turns

HERE_ONLY = (
    "startup",
    "pipeline_overhead",
    "logging_overhead",
    "million_points",
    "bundle",
    "serving",
    "rollback",
    "reading",
)
IN_A_CLUSTER = ("launching", "ddp_overhead", "gang")
BENCHMARKS = (*HERE_ONLY, *IN_A_CLUSTER)
HERE = Path(__file__).parent
RESULTS = peers.ROOT / ".bench" / "results"
PAGE = peers.ROOT / "docs" / "benchmarks.md"
_OURS = ("mlp-loop", "dvc", "mlflow", "pytorch-lightning", "torch")
_INTRODUCTION = """\
# Benchmarks

Written by `make bench` (`bench/report.py`). A figure in x is a ratio to a peer that did the same
work on the same machine in the same minutes: the commands alternate, and what is told is the median
of several turns. Each peer has a virtual environment of its own, with pinned versions
(`bench/requirements-*.txt`). What is launched in a cluster is measured against the same by hand, on
one that shares this machine: `docs/scale.md` says what that leaves open.
"""


def main() -> None:
    """Run what is asked for, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--cluster", action="store_true", help="also those that need a cluster")
    options = parser.parse_args()
    names = options.names or (BENCHMARKS if options.cluster else HERE_ONLY)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r} (have: {', '.join(BENCHMARKS)})")
    for peer in peers.NAMES:
        peers.program(peer)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"{name}:", file=sys.stderr)
        result = json.dumps(measured(name), indent=2)
        (RESULTS / f"{name}.json").write_text(result, encoding="utf-8")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(results()), encoding="utf-8")
    print(PAGE.relative_to(peers.ROOT), file=sys.stderr)


def measured(name: str) -> dict[str, Any]:
    """The document that a benchmark prints, and where and when it did."""
    load = os.getloadavg()[0]
    done = subprocess.run(
        [sys.executable, str(HERE / f"{name}.py")],
        env=turns.environment(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "load_before": round(load, 1),
        "document": json.loads(done.stdout),
    }


def results() -> dict[str, dict[str, Any]]:
    """The last result of each benchmark that ever ran here."""
    files = {name: RESULTS / f"{name}.json" for name in BENCHMARKS}
    return {n: json.loads(f.read_text(encoding="utf-8")) for n, f in files.items() if f.is_file()}


def machine() -> str:
    """This machine in words."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    cpu = models[0] if models else platform.machine()
    return f"{cpu}, {cores} cores, {memory:.0f} GiB, {platform.system()}"


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    figures = [figure for result in found.values() for figure in result["document"]["figures"]]
    parts = [_INTRODUCTION, verdict(figures), "\n".join(table(found)), "\n".join(details(found))]
    ours = ", ".join(f"{name} {version(name)}" for name in _OURS)
    theirs = ", ".join(f"{name} {peers.version(name)}" for name in peers.NAMES)
    where = "; ".join(sorted({result["machine"] for result in found.values()}))
    parts.append(
        f"Machine: {where}. Python {platform.python_version()}.\n"
        f"Ours: {ours}. Peers: {theirs}.\n"
        "What a run printed, with all its numbers, is in `.bench/results/`."
    )
    return "\n\n".join(part.strip() for part in parts) + "\n"


def verdict(figures: Sequence[Mapping[str, Any]]) -> str:
    """In one sentence, what falls short."""
    short = [f"{f['what']} ({number(f)}, target {target(f)})" for f in figures if not f["met"]]
    if not short:
        return f"All {len(figures)} targets are met."
    return f"Of {len(figures)} targets {len(short)} fall short: {'; '.join(short)}."


def table(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A row for each figure."""
    yield "| figure | measured | target | met | remarks | date |"
    yield "|---|---|---|---|---|---|"
    for result in found.values():
        for figure in result["document"]["figures"]:
            met = "yes" if figure["met"] else "**no**"
            yield (
                f"| {figure['what']} | {number(figure)} | {target(figure)} | {met} "
                f"| {figure['note']} | {result['date']} |"
            )


def number(figure: Mapping[str, Any]) -> str:
    """The measured value with its unit; three digits for a ratio near to its target."""
    value, unit = figure["value"], figure["unit"]
    return f"{value:.3f} {unit}" if unit == "x" else f"{value:,} {unit}"


def target(figure: Mapping[str, Any]) -> str:
    """What the value is to be."""
    bound = "at_least" if "at_least" in figure else "at_most"
    return f"{bound.replace('_', ' ')} {figure[bound]:g} {figure['unit']}"


def details(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The seconds behind the ratios."""
    yield "## In seconds\n"
    yield "| what | wall | processor |"
    yield "|---|---|---|"
    for title, timings in timed(found):
        yield f"| {title} | {timings['wall']:.3f} | {timings['cpu']:.3f} |"
    overhead = found.get("pipeline_overhead")
    if overhead is not None:
        late = overhead["document"]["trivial"]["seconds_from_the_end_until_mlflow_has_it"]
        yield ""
        yield (
            f"`mlp run` of three trivial stages returns before MLflow has everything, which took "
            f"{late:.1f} s more here; with `CI` set it waits for it."
        )
    loads = ", ".join(f"{name} {result['load_before']}" for name, result in found.items())
    yield f"\nLoad of the machine when each began: {loads}."


def timed(found: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Names and medians of what was timed as a command."""
    startup = found.get("startup", {}).get("document", {}).get("seconds", {})
    for name in ("dvc --help", "mlp --help"):
        if name in startup:
            yield f"`{name}`", startup[name]
    overhead = found.get("pipeline_overhead", {}).get("document", {})
    for name, timings in overhead.get("trivial", {}).get("seconds", {}).items():
        yield f"three trivial stages: {name.replace('_', ' ')}", timings
    for name, timings in overhead.get("long", {}).items():
        yield f"three long stages: {name}", timings
    for name, timings in overhead.get("one_stage", {}).items():
        yield f"a stage's command `true`: {name.replace('_', ' ')}", timings


if __name__ == "__main__":
    main()
