"""What a training script calls: `mlp.trainer`, `mlp.log`, `mlp.log_model`.

Each works inside a stage that `mlp run` started, and outside of one too, where it does what the
tool below does by itself: the script stays an ordinary script.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters import tracking
from mlp.adapters import trainer as lightning
from mlp.adapters.base import statefile
from mlp.adapters.base.event_file import EventFile
from mlp.core.errors import MlpError, words
from mlp.core.launch.launch import Launch
from mlp.core.layout import RunLayout
from mlp.core.runs import environment
from mlp.core.secrets import Masker
from mlp.runtime.launch import carried_record

if TYPE_CHECKING:
    import pytorch_lightning as pl

_log = logging.getLogger("mlp")
_journals: dict[str, EventFile] = {}
_next_steps: dict[str, int] = {}  # metric -> its step where none is given
_not_recorded: set[str] = set()  # metrics that were warned of


def trainer(**kwargs: Any) -> "pl.Trainer":
    """A `pytorch_lightning.Trainer` for the place where this process runs.

    Devices, nodes, strategy, logger, checkpoints and resuming are set from the launch; every
    keyword is Lightning's own, and wins. Raises ConfigurationError where a keyword contradicts the
    launch, MissingExtraError without Lightning.
    """
    stage = environment.stage()
    if stage is None:
        placement = lightning.Placement(Launch())
        return lightning.trainer(placement, None, None, **kwargs)
    layout = RunLayout(Path(stage.run_dir))
    elsewhere = os.environ.get(environment.CHECKPOINTS)
    placement = lightning.Placement(
        stage.launch,
        checkpoints=elsewhere or layout.checkpoints(stage.stage_run_id),
        run_id=stage.stage_run_id,
        stage=stage.name,
        save_dir=layout.stage(stage.stage_run_id),
    )
    carried = lightning.Carried(
        end=lambda: carried_record.end_of(layout, stage.stage_run_id),
        go_on_after=lambda end: carried_record.go_on_after(end, layout, _journal(stage)),
    )
    failure = layout.failure(stage.stage_run_id)
    failure.unlink(missing_ok=True)  # of these ranks before torchrun started them again
    return lightning.trainer(
        placement,
        log,
        _log_hyperparameters,
        carried if elsewhere else None,
        lambda error: _leave(error, failure),
        **kwargs,
    )


def _leave(error: MlpError, failure: Path) -> None:
    """Write down for whoever started the stage that this was not the code's failure."""
    try:
        statefile.write(failure, words(error))
    except OSError as e:  # that disk is full, too: the traceback says the same
        _log.warning("what ended the training is not written down: %s", e)


def log(metrics: Mapping[str, Any], step: int | None = None) -> None:
    """Record metric values of one step in this stage's run. Never raises, never blocks.

    A value is whatever `float` takes: a number, a tensor or array of one. Without a step it is the
    one after the metric's last in this process; the first is 0. Outside of a run it does nothing.
    Of several ranks, only rank 0 records, unless the launch has `log_all_ranks`: the names of the
    others begin with `rank_R/` then.
    """
    stage = environment.stage()
    if stage is None:
        return
    prefix = environment.rank_prefix(stage)
    if prefix is None:
        return
    steps: dict[int, dict[str, float]] = {}
    for name, value in metrics.items():
        try:
            number = float(value)
            at = _next_steps.get(name, 0) if step is None else int(step)
        except (TypeError, ValueError, RuntimeError, OverflowError) as e:  # a tensor of several, …
            if name not in _not_recorded:
                _not_recorded.add(name)
                _log.warning("metric %s is not recorded: %s", name, e)
            continue
        _next_steps[name] = at + 1
        steps.setdefault(at, {})[f"{prefix}{name}"] = number
    for at, values in steps.items():
        _journal(stage).metrics(stage.stage_run_id, values, at)


def log_model(model: Any, example: Any = None, name: str = "model", **kwargs: Any) -> None:
    """Log a trained model with its signature and an input example, as MLflow stores models.

    `model` is a LightningModule, a torch module, a scikit-learn estimator or an
    `mlflow.pyfunc.PythonModel`; `example` a few input rows (numpy array, tensor or DataFrame), from
    which the signature is inferred. `kwargs` go to MLflow's `log_model`. Of several ranks, rank 0
    logs. Raises UsageError for a model of another kind.
    """
    stage = environment.stage()
    if stage is not None and environment.rank() != 0:
        return
    tracking.log_model(model, example, name, **kwargs)


def _log_hyperparameters(values: Mapping[str, object]) -> None:
    stage = environment.stage()
    if stage is not None and values:
        texts = {name: str(value) for name, value in values.items()}
        _journal(stage).record("params", stage.stage_run_id, values=texts)


def _journal(stage: environment.Stage) -> EventFile:
    """The event file of this process, opened at the first use."""
    if stage.run_dir not in _journals:
        directory = str(RunLayout(Path(stage.run_dir)).events)
        _journals[stage.run_dir] = EventFile(directory, Masker(os.environ).text)
    return _journals[stage.run_dir]
