"""A million metric points logged in one stage: do they all arrive, how fast, in how much memory.

A stage calls `mlp.log` with four metrics at each of 250,000 steps, as fast as it can. Counted is
what MLflow's SQLite file has at the end. The recorder's peak memory is told for a tenth of the
points too: it is bounded where the two hardly differ. Prints one JSON document.
"""

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import turns
from pipeline_overhead import MLP, delivered

_METRICS = 4
_STAGE = """\
import json, time
import mlp

start = time.perf_counter()
for step in range({steps}):
    mlp.log({{f"m{{i}}": step + i / 10 for i in range({metrics})}}, step=step)
with open("seconds.json", "w") as file:
    json.dump(time.perf_counter() - start, file)
"""


def project(directory: Path, steps: int) -> None:
    """A project of one stage that logs."""
    directory.mkdir()
    command = f"{sys.executable} log.py"
    pipeline = f"stages:\n  log:\n    cmd: {command}\n    outs: [seconds.json]\n"
    (directory / "dvc.yaml").write_text(pipeline, encoding="utf-8")
    (directory / "mlp.yaml").write_text("project: bench\n", encoding="utf-8")
    script = _STAGE.format(steps=steps, metrics=_METRICS)
    (directory / "log.py").write_text(script, encoding="utf-8")
    dvc = [sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"]
    subprocess.run(dvc, cwd=directory, env=turns.environment(), check=True)


class PeakMemory:
    """The most memory that the recorder of a project ever had, in MiB, as the kernel counts it."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory).encode()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.mib = 0.0

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                self._look(process)

    def _look(self, process: Path) -> None:
        try:
            command = (process / "cmdline").read_bytes()
            if b"mlp.runtime.runs.recorder" not in command or self._directory not in command:
                return
            status = (process / "status").read_text()
        except OSError:
            return  # it has just ended
        peak = status.partition("VmHWM:")[2].split()[0]
        self.mib = max(self.mib, int(peak) / 1024)


def measure(directory: Path, points: int) -> dict[str, Any]:
    """Run the stage, wait for the delivery, and count."""
    steps = points // _METRICS
    project(directory, steps)
    start = time.time()
    with PeakMemory(directory) as memory:
        run = turns.run(turns.Command([MLP, "run"], directory))
        delivered(directory, seconds=1800)
        arrived = time.time()
    events = sum(file.stat().st_size for file in directory.glob(".mlp/runs/*/events/*"))
    with sqlite3.connect(directory / "mlflow.db") as database:
        query = "SELECT COUNT(*), COUNT(DISTINCT key || ' ' || step), SUM(value) FROM metrics"
        rows, distinct, total = database.execute(query).fetchone()
    expected = sum(step * _METRICS + sum(range(_METRICS)) / 10 for step in range(steps))
    return {
        "points": points,
        "arrived": rows,
        "distinct": distinct,
        "values_right": abs(total - expected) <= 1e-9 * expected,
        "seconds_to_log": round(json.loads((directory / "seconds.json").read_text()), 2),
        "seconds_of_the_run": round(run.wall, 2),
        "seconds_until_delivered": round(arrived - start, 2),
        "event_file_mib": round(events / 2**20, 1),
        "recorder_peak_mib": round(memory.mib, 1),
    }


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        few = measure(Path(folder) / "few", options.points // 10)
        many = measure(Path(folder) / "many", options.points)
    complete = many["arrived"] == many["distinct"] == many["points"] and many["values_right"]
    missing = 0 if complete else max(1, options.points - many["distinct"])
    growth = round(many["recorder_peak_mib"] / few["recorder_peak_mib"], 3)
    figures = [
        turns.figure(
            f"of {options.points:,} metric points, missing in MLflow",
            missing,
            at_most=0,
            unit="points",
            note=f"logged in {many['seconds_to_log']:g} s, delivered after "
            f"{many['seconds_until_delivered']:g} s",
        ),
        turns.figure(
            "the recorder's peak memory, against that for a tenth of the points",
            growth,
            at_most=1.2,
            note=f"{many['recorder_peak_mib']:g} MiB",
        ),
    ]
    print(json.dumps({"figures": figures, "few": few, "many": many}, indent=2))


if __name__ == "__main__":
    main()
