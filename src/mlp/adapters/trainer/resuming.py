"""A `Trainer` whose `fit` goes on where an earlier life of the run got to."""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from mlp.adapters.trainer import checkpoints
from mlp.core.errors import ConfigurationError, MlpError

# How many times `fit` was called in this process, by the place its checkpoints go under.
fits: Counter[str] = Counter()


def trainer_class(on_error: Callable[[MlpError], None] | None) -> Any:
    """Lightning's `Trainer` with a `fit` that resumes; `on_error` gets what ends it, if it is an
    error of ours."""
    import pytorch_lightning as pl

    # Lightning reads PL_TRAINER_* variables by the name of the class.
    class Trainer(pl.Trainer):  # type: ignore[misc]
        checkpoints: str | None = None
        fit_checkpoints: str | None = None

        def fit(
            self,
            model: Any,
            train_dataloaders: Any = None,
            val_dataloaders: Any = None,
            datamodule: Any = None,
            ckpt_path: Any = None,
            **more: Any,
        ) -> None:
            """Lightning's `fit`, continued from where an earlier life of this run got to."""
            try:
                if self.checkpoints is not None:
                    self.fit_checkpoints = _next_fit(self.checkpoints)
                    if ckpt_path in (None, "last"):
                        ckpt_path = _agreed(self, self.fit_checkpoints) or ckpt_path
                more["ckpt_path"] = ckpt_path
                super().fit(model, train_dataloaders, val_dataloaders, datamodule, **more)
            except MlpError as e:
                if on_error is not None:
                    on_error(e)
                raise

        def save_checkpoint(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
            """Lightning's own; a full disk is told as one."""
            with checkpoints.writing(filepath):
                super().save_checkpoint(filepath, *args, **kwargs)

    return Trainer


def _next_fit(place: str) -> str:
    """The folder of the next `fit` of this process; the same in every life of the run.

    A stage may fit several models (folds, a second script): none may continue from another's
    checkpoint, so the folder is named by the command line and the number of the call.
    """
    fits[place] += 1
    command = hashlib.sha256("\0".join(sys.argv).encode(errors="surrogateescape")).hexdigest()
    return f"{place}/fit-{fits[place]}-{command[:8]}"


def _agreed(trainer: Any, folder: str) -> str | None:
    """The checkpoint that all ranks go on from, None where training begins: rank 0's choice.

    Ranks that look by themselves may see different files, where one is being written or pruned.
    Raises ConfigurationError on every rank where one of them does not see the checkpoint.
    """
    if trainer.world_size == 1:
        return checkpoints.newest(folder)
    # Lightning's own next step, done a little earlier: the processes meet, and can tell each other.
    strategy = trainer.strategy
    strategy.setup_environment()
    path: str | None = strategy.broadcast(
        checkpoints.newest(folder) if trainer.is_global_zero else None
    )
    if path is None or strategy.reduce_boolean_decision(checkpoints.exists(path), all=True):
        return path
    raise ConfigurationError(
        f"the checkpoint {path} of rank 0 is not there for every rank: checkpoints are not on "
        "storage that all nodes see",
        fix="set targets.NAME.checkpoints in mlp.yaml to a volume claim that all nodes can mount, "
        "or to s3://BUCKET/PATH",
    )
