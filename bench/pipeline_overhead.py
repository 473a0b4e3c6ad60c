"""What it costs to run a pipeline through mlp: three trivial stages, and three of ten seconds.

The trivial ones as `mlp run`, as bare `dvc repro`, in Metaflow and in ZenML, all made to run anew
each time. `mlp run` returns before MLflow has everything; how long that takes is told as well, and
so is `mlp run` in CI, where it waits for it. Prints one JSON document; seconds are medians, ratios
the median of the ratios within one turn.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import peers
import turns
from turns import Command

from mlp.core.runs.run_header import RunHeader

HERE = Path(__file__).parent
MLP = str(Path(sys.executable).parent / "mlp")
_GIT = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost"]


def project(directory: Path, work: str) -> Path:
    """A git repository with a DVC pipeline of three stages, each of which does `work`."""
    directory.mkdir()
    stages, before = [], None
    for name in ("one", "two", "three"):
        read = f"cat {before}.txt" if before else "echo 1"
        stages.append(f"  {name}:\n    cmd: {work}{read} > {name}.txt\n    outs: [{name}.txt]")
        stages += [f"    deps: [{before}.txt]"] if before else []
        before = name
    (directory / "dvc.yaml").write_text("stages:\n" + "\n".join(stages) + "\n", encoding="utf-8")
    (directory / "mlp.yaml").write_text("project: bench\n", encoding="utf-8")
    for arguments in (
        ["git", "init", "--quiet"],
        [peers.program("dvc", "dvc"), "init", "--quiet"],
        ["git", "add", "--all"],
        [*_GIT, "commit", "--quiet", "--message", "bench"],
    ):
        subprocess.run(arguments, cwd=directory, env=turns.environment(), check=True)
    return directory


def delivered(directory: Path, seconds: float = 120.0) -> None:
    """Wait until MLflow has all of every run in the project."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        files = [run / "delivery.json" for run in (directory / ".mlp" / "runs").glob("*/")]
        if all(file.is_file() and json.loads(file.read_text())["done"] for file in files):
            return
        time.sleep(0.02)
    raise SystemExit(f"not delivered after {seconds} s: {directory}")


def mlp_run(directory: Path, late: list[float] | None = None) -> Command:
    """`mlp run` of all stages; how long the record arrives after its end is added to `late`."""

    def settled() -> None:
        start = time.monotonic()
        delivered(directory)
        if late is not None:
            late.append(time.monotonic() - start)

    return Command([MLP, "run", "--force"], directory, settled=settled)


def dvc_repro(directory: Path) -> Command:
    """The same by DVC alone, in an environment where there is nothing else."""
    return Command([peers.program("dvc", "dvc"), "repro", "--force"], directory)


def metaflow_run(directory: Path) -> Command:
    """Three steps of a local flow, without its check by pylint."""
    directory.mkdir()
    variables = {
        "METAFLOW_HOME": str(directory),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(directory),
        "METAFLOW_USER": "bench",
    }
    flow = [peers.program("metaflow"), str(HERE / "flow_metaflow.py"), "--no-pylint", "run"]
    return Command(flow, directory, variables)


def zenml_run(directory: Path) -> Command:
    """Three steps of a pipeline on the default local stack."""
    directory.mkdir()
    variables = {
        "ZENML_CONFIG_PATH": str(directory / "config"),
        "ZENML_LOCAL_STORES_PATH": str(directory / "stores"),
        "ZENML_ENABLE_REPO_INIT_WARNINGS": "false",
    }
    return Command([peers.program("zenml"), str(HERE / "flow_zenml.py")], directory, variables)


def trivial(scratch: Path, repeats: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Three trivial stages: figures, and what is behind them."""
    late: list[float] = []
    waiting = mlp_run(project(scratch / "mlp-ci", ""))
    commands = {
        "mlp": mlp_run(project(scratch / "mlp", ""), late),
        "dvc": dvc_repro(project(scratch / "dvc", "")),
        "metaflow": metaflow_run(scratch / "metaflow"),
        "zenml": zenml_run(scratch / "zenml"),
        "mlp_in_ci": Command(waiting.arguments, waiting.directory, {"CI": "true"}),
    }
    timings = turns.measure(commands, repeats)
    ratios = {name: turns.ratio(timings["mlp"], t) for name, t in timings.items()}
    figures = [
        turns.figure("`mlp run` against bare `dvc repro`", ratios["dvc"], at_most=2.0),
        turns.figure("`mlp run` against the same in Metaflow", ratios["metaflow"], at_most=1.0),
        turns.figure("`mlp run` against the same in ZenML", ratios["zenml"], at_most=1.0),
    ]
    details = {
        "seconds": {name: turns.seconds(t) for name, t in timings.items()},
        "seconds_from_the_end_until_mlflow_has_it": round(statistics.median(late), 3),
    }
    return figures, details


def long(scratch: Path, repeats: int, length: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Three stages that take a while."""
    work = f"sleep {length:g}; "
    commands = {
        "mlp": mlp_run(project(scratch / "mlp-long", work)),
        "dvc": dvc_repro(project(scratch / "dvc-long", work)),
    }
    # The three trivial stages have warmed everything up.
    timings = turns.measure(commands, repeats, warm=True)
    value = turns.ratio(timings["mlp"], timings["dvc"])
    what = f"`mlp run` against `dvc repro`, three stages of {length:g} s"
    figures = [turns.figure(what, value, at_most=1.03)]
    return figures, {name: turns.seconds(t) for name, t in timings.items()}


def stage_shell(scratch: Path, repeats: int) -> dict[str, dict[str, float]]:
    """A stage's command `true`, through mlp's stage shell and by `sh` alone."""
    run = scratch / "shell"
    run.mkdir()
    (run / "run.json").write_text(RunHeader("0" * 32, "bench", None).to_json(), encoding="utf-8")
    import mlp.runtime

    worker = str(Path(mlp.runtime.__path__[0]) / "runs" / "stage_shell.py")
    variables = {
        "DVC_STAGE": "one",
        "MLP_RUN_ID": "0" * 32,
        "MLP_RUN_DIR": str(run),
        "MLP_TRACKING_URI": "sqlite:///mlflow.db",
    }
    commands = {
        "stage_shell": Command([sys.executable, "-IS", worker, "-c", "true"], run, variables),
        "sh": Command(["/bin/sh", "-c", "true"], run),
    }
    return {name: turns.seconds(t) for name, t in turns.measure(commands, repeats).items()}


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9, help="of the trivial stages")
    parser.add_argument("--long-turns", type=int, default=3, help="of the long ones; 0: none")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a long stage")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        figures, details = trivial(scratch, options.turns)
        document: dict[str, Any] = {"figures": figures, "trivial": details}
        document["one_stage"] = stage_shell(scratch, 5 * options.turns)
        if options.long_turns:
            more, details = long(scratch, options.long_turns, options.seconds)
            figures += more
            document["long"] = details
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
