"""The door to Lightning: an ordinary `Trainer`, set up for the place where this process runs.

What it adds is a logger that appends to the run, checkpoints in the run's directory or where the
target has them, and a `fit` that continues there after a restart. Everything else is Lightning's,
and stays the user's to set. Lightning takes seconds to import, so nothing here does it before a
trainer is asked for.
"""

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlp.adapters.trainer.carrying import Carried, carry
from mlp.adapters.trainer.checkpoints import canonical, is_under, keep_checkpoints
from mlp.adapters.trainer.logger import Log, LogHparams, run_logger
from mlp.adapters.trainer.process_place import Placement, placed
from mlp.adapters.trainer.resuming import trainer_class
from mlp.core.errors import MissingExtraError, MlpError

if TYPE_CHECKING:
    import pytorch_lightning as pl

__all__ = ["Carried", "Log", "LogHparams", "Placement", "trainer"]


def trainer(
    placement: Placement,
    log: Log | None,
    hparams: LogHparams | None,
    carried: Carried | None = None,
    on_error: Callable[[MlpError], None] | None = None,
    **kwargs: Any,
) -> "pl.Trainer":
    """A `pytorch_lightning.Trainer` for `placement`; `kwargs` are Lightning's own, and win.

    - Metrics go to `log(values, step)` and hyperparameters to `hparams(flat)`, on rank 0, beside
      the loggers in `kwargs`; `logger=False` means neither. Where ours is the only logger,
      `log_every_n_steps` is 1 instead of Lightning's 50: a logged step costs some tens of
      microseconds. Beside loggers of the user's, which may cost more, it stays Lightning's.
    - Without a ModelCheckpoint in `kwargs` the newest epoch is kept, twice (`last.ckpt` is a copy
      of its own), among the run's checkpoints. One without `dirpath` writes there too.
    - `fit` continues from the newest complete checkpoint that the same `fit` left in an earlier
      life of the run, all ranks from the same one. An explicit `ckpt_path` wins.
    - `on_error` gets the error of ours that ends `fit`: a full disk, say, which is not the code's.
    - With `carried` the checkpoints hold the end of the record, for where they outlive it.
    - SIGTERM to any rank ends `fit` at the next optimizer step, with a checkpoint of it beside the
      others and exit code 143.
    - If PL_GLOBAL_SEED is set and nobody called `seed_everything`, it is called here, once.

    Raises ConfigurationError where `kwargs` contradict the launch or the checkpoints' place cannot
    be reached with what is installed, MissingExtraError without Lightning. `fit` raises RemoteError
    where an object store refuses or a volume is full, ConfigurationError where another disk is.
    """
    _require_lightning()
    _drop_advertisements()
    _seed_once()
    bare = bool(kwargs.get("barebones"))
    log = None if bare or kwargs.get("logger") is False else log
    keeps = not bare and kwargs.get("enable_checkpointing") is not False

    arguments = placed(placement, kwargs)
    if log is not None and kwargs.get("logger") is None:
        arguments["logger"] = False
        arguments.setdefault("log_every_n_steps", 1)
    if keeps and placement.checkpoints is not None:
        callbacks = _with_checkpoints(kwargs.get("callbacks"))
        arguments["callbacks"] = [*callbacks, *([carry(carried)] if carried else ())]

    made = trainer_class(on_error)(**arguments)
    if keeps and placement.checkpoints is not None:
        keep_checkpoints(made, canonical(placement.checkpoints))
    if log is not None and not made.fast_dev_run:
        made.loggers = [*made.loggers, run_logger(placement, log, hparams)]
    return made


def _require_lightning() -> None:
    try:
        import pytorch_lightning  # noqa: F401
    except ModuleNotFoundError as e:
        raise MissingExtraError("mlp.trainer", "train", cause=str(e)) from e


def _drop_advertisements() -> None:
    # Adding a filter twice is adding it once, so long as it is the same object.
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_no_advertisement)


def _no_advertisement(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("💡 Tip")


def _seed_once() -> None:
    """Seed from PL_GLOBAL_SEED, unless `seed_everything` ran: it leaves PL_SEED_WORKERS behind."""
    from pytorch_lightning import seed_everything

    if "PL_GLOBAL_SEED" in os.environ and "PL_SEED_WORKERS" not in os.environ:
        seed_everything(workers=True, verbose=False)


def _with_checkpoints(callbacks: Any) -> list[Any]:
    """The user's callbacks, and what they lack so that a restart finds a checkpoint of ours."""
    from pytorch_lightning.callbacks import Callback, ModelCheckpoint

    from mlp.adapters.trainer.interruption import SaveOnSigterm

    class Resume(ModelCheckpoint):  # type: ignore[misc]
        """A type of its own: Lightning takes no second ModelCheckpoint with equal settings."""

    class PlaceCheckpoints(Callback):  # type: ignore[misc]
        """Runs before the checkpoint callbacks, when those of the model are known too."""

        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            if stage == "fit":
                _place(trainer)

    given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
    own = [c for c in given if isinstance(c, ModelCheckpoint)]
    if not own:
        added = [ModelCheckpoint(save_last=True, save_top_k=1)]
    else:
        added = [Resume()] if all(c.dirpath for c in own) else []
    return [*given, PlaceCheckpoints(), *added, SaveOnSigterm()]


def _place(trainer: Any) -> None:
    """Point the checkpoint callbacks without a place of their own at this fit's folder."""
    from pytorch_lightning.callbacks import ModelCheckpoint

    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and (
            not callback.dirpath or is_under(callback.dirpath, trainer.checkpoints)
        ):
            callback.dirpath = trainer.fit_checkpoints
