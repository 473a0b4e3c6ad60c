"""How long a user waits for an answer about what was recorded, against `dvc status`.

A project of the template `tabular` with two runs, and two versions of its model, of which one is
champion and one challenger. Prints one JSON document; ratios are of processor time, the median of
those within one turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import turns
from turns import Command, Timing

_BIN = Path(sys.executable).parent


def project(folder: Path) -> tuple[str, str]:
    """Make it; the ids of its runs, the first one first."""
    os.environ["PATH"] = f"{_BIN}{os.pathsep}{os.environ['PATH']}"
    root = folder / "bench"
    _call(folder, "mlp", "init", "bench", "--template", "tabular")
    for setting in ((), ("--set", "train.l2=0.01")):
        _call(root, "mlp", "run", *setting, CI="true")
        _call(root, "git", "add", "--all")
        _call(root, "git", "commit", "--quiet", "--message", "a run")
        _call(root, "mlp", "models", "register", "last")
    _call(root, "mlp", "models", "promote", "1")
    _call(root, "mlp", "models", "promote", "2", "--to", "challenger")
    runs = json.loads(_call(root, "mlp", "runs", "list", "--json"))["runs"]
    return runs[1]["run_id"], runs[0]["run_id"]


def _call(directory: Path, *command: str, **variables: str) -> str:
    """What the command prints; it is to succeed."""
    environ = turns.environment() | variables
    done = subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def commands(root: Path, first: str, second: str) -> dict[str, Command]:
    """The commands that only read, by what is typed."""
    typed = {
        "mlp runs list": (),
        "mlp runs show": ("last",),
        "mlp runs diff": (first, second),
        "mlp runs why": (first, second),
        "mlp models list": (),
        "mlp models history": (),
        "mlp ab status": (),
        "mlp lineage": (_output(root),),
        "mlp status": (),
    }
    ours = {
        name: Command([str(_BIN / "mlp"), *name.split()[1:], *more], root)
        for name, more in typed.items()
    }
    return {"dvc status": Command([str(_BIN / "dvc"), "status"], root), **ours}


def _output(root: Path) -> str:
    """A file that the last stage made."""
    listed = json.loads(_call(root, "dvc", "ls", ".", "--recursive", "--dvc-only", "--json"))
    return str(listed[-1]["path"])


def ratio(timings: list[Timing], base: list[Timing]) -> float:
    """How much processor time as a multiple of `base`: the median over the turns."""
    return round(statistics.median(t.cpu / b.cpu for t, b in zip(timings, base, strict=True)), 4)


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as folder:
        first, second = project(Path(folder))
        timings = turns.measure(commands(Path(folder, "bench"), first, second), options.turns)
    base = timings["dvc status"]
    figures = [
        turns.figure(
            f"`{name}` against `dvc status`, processor time", ratio(each, base), at_most=1.0
        )
        for name, each in timings.items()
        if name != "dvc status"
    ]
    seconds = {name: turns.seconds(each) for name, each in timings.items()}
    print(json.dumps({"figures": figures, "seconds": seconds}, indent=2))


if __name__ == "__main__":
    main()
