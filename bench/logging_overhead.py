"""What logging a metric at every step costs, against training without any logging.

Trains the same small model in turns: without a logger, with mlp's logger appending to an event
file, and with Lightning's MLFlowLogger on SQLite. A step is sized to `--step-ms` on this machine.
Prints one JSON document. `mean` is the whole training divided by its steps, `typical` its median
step, which other work on the machine disturbs less; both in ms. `ratio` is to training without
logging: the median of the ratios within one turn, so that a slow minute hits all three alike.
"""

import argparse
import itertools
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from turns import figure

from mlp.adapters import trainer as door
from mlp.adapters.base.event_file import EventFile
from mlp.core.launch.launch import Launch

_QUIET = {
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
    "devices": 1,
    "max_epochs": 1,
}


class Model(pl.LightningModule):
    """One weight that learns, and as many matrix products as make a step last long enough."""

    def __init__(self, products: int) -> None:
        super().__init__()
        self.products = products
        self.layer = torch.nn.Linear(128, 128)
        self.starts: list[float] = []

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        """One step; logs its loss."""
        self.starts.append(time.perf_counter())
        hidden = batch
        with torch.no_grad():
            for _ in range(self.products):
                hidden = torch.tanh(hidden @ self.layer.weight)
        loss = self.layer(hidden).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Timing(NamedTuple):
    """Of one training, from step to step, with everything that Lightning does between: in ms."""

    mean: float
    typical: float


def train(trainer: pl.Trainer, products: int, steps: int) -> Timing:
    """Train for `steps` steps on one epoch of random data."""
    torch.manual_seed(0)
    model = Model(products)
    trainer.fit(model, torch.utils.data.DataLoader(torch.randn(steps * 64, 128), batch_size=64))
    durations = [b - a for a, b in itertools.pairwise(model.starts)]
    return Timing(statistics.mean(durations) * 1000, statistics.median(durations) * 1000)


def without_logging(_: Path) -> pl.Trainer:
    """The same script with `logger=False`."""
    return pl.Trainer(logger=False, **_QUIET)


def with_mlp(directory: Path) -> pl.Trainer:
    """mlp's logger, with its defaults, on a real event file."""
    journal = EventFile(str(directory / "events"))
    placement = door.Placement(Launch(), run_id="bench")
    return door.trainer(
        placement, lambda values, step: journal.metrics("bench", values, step or 0), None, **_QUIET
    )


def with_mlflow_logger(directory: Path) -> pl.Trainer:
    """What people use today, at every step too."""
    from pytorch_lightning.loggers import MLFlowLogger

    logger = MLFlowLogger("bench", tracking_uri=f"sqlite:///{directory}/mlflow.db")
    _ = logger.run_id  # makes the schema and the run, which no step should pay for
    return pl.Trainer(logger=logger, log_every_n_steps=1, **_QUIET)


WAYS: dict[str, Callable[[Path], pl.Trainer]] = {
    "none": without_logging,
    "mlp": with_mlp,
    "mlflow_logger": with_mlflow_logger,
}


def products_for(step_ms: float) -> int:
    """How many matrix products make a step last `step_ms` on this machine."""
    few, many = 10, 110
    fast, slow = (train(without_logging(Path()), n, 300).typical for n in (few, many))
    return max(1, round(few + (step_ms - fast) / (slow - fast) * (many - few)))


def microseconds_per_call(calls: int = 20_000) -> dict[str, float]:
    """Of one logged step, what is ours: the logger and its event; and the latter by itself."""
    with tempfile.TemporaryDirectory() as scratch:
        journal = EventFile(scratch)
        trainer = with_mlp(Path(scratch))
        row = {"loss": 0.5, "epoch": 0.0}
        logger: Any = trainer.logger
        return {
            "logger": _microseconds(lambda i: logger.log_metrics(row, i), calls),
            "journal": _microseconds(lambda i: journal.metrics("bench", row, i), calls),
        }


def _microseconds(call: Callable[[int], None], calls: int) -> float:
    start = time.perf_counter()
    for i in range(calls):
        call(i)
    return (time.perf_counter() - start) / calls * 1e6


def measure(steps: int, repeats: int, step_ms: float) -> dict[str, Any]:
    """All ways in turns, `repeats` times, in an order that rotates."""
    products = products_for(step_ms)
    names = list(WAYS)
    turns: list[dict[str, Timing]] = []
    for turn in range(repeats):
        first = turn % len(names)
        timings = {}
        for name in names[first:] + names[:first]:
            with tempfile.TemporaryDirectory() as scratch:
                timings[name] = train(WAYS[name](Path(scratch)), products, steps)
        turns.append(timings)
        print(f"turn {turn + 1}/{repeats}", file=sys.stderr)
    return {
        "figures": figures(turns),
        "steps": steps,
        "repeats": repeats,
        "ways": {name: summary(name, turns) for name in names},
        "microseconds_per_call": microseconds_per_call(),
    }


def figures(turns: Sequence[Mapping[str, Timing]]) -> list[dict[str, Any]]:
    """What docs/benchmarks.md tells, of whole trainings."""
    ways = {name: summary(name, turns)["mean"] for name in WAYS}
    against = statistics.median(turn["mlp"].mean / turn["mlflow_logger"].mean for turn in turns)
    return [
        figure(
            "training with a metric at every step, against training without logging",
            ways["mlp"]["ratio"],
            at_most=1.02,
            note=f"steps of {ways['none']['ms']:.3g} ms; "
            f"Lightning's MLFlowLogger {ways['mlflow_logger']['ratio']:.3g} x",
        ),
        figure("the same against Lightning's MLFlowLogger", round(against, 4), at_most=1.0),
    ]


def summary(name: str, turns: Sequence[Mapping[str, Timing]]) -> dict[str, Any]:
    """One way's medians over all turns, and its ratios to the turn's training without logging."""
    return {
        kind: {
            "ms": round(statistics.median(getattr(turn[name], kind) for turn in turns), 3),
            "ratio": round(statistics.median(ratios), 4),
            "ratio_quartiles": [round(q, 4) for q in statistics.quantiles(ratios, n=4)[::2]],
        }
        for kind in Timing._fields
        if (ratios := [getattr(t[name], kind) / getattr(t["none"], kind) for t in turns])
    }


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="steps of one training")
    parser.add_argument("--repeats", type=int, default=15, help="turns, each with all three ways")
    parser.add_argument("--step-ms", type=float, default=4.5, help="length of a step")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    print(json.dumps(measure(options.steps, options.repeats, options.step_ms), indent=2))


if __name__ == "__main__":
    main()
