"""Checkpoints that carry the end of the run's record along."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_KEY = "mlp.record"


@dataclass(frozen=True, slots=True)
class Carried:
    """The end of what rank 0 records: `end` gives it, and `go_on_after` takes it back."""

    end: Callable[[], str]
    go_on_after: Callable[[str], None]


def carry(carried: Carried) -> Any:
    """A callback that puts the end into each checkpoint, and takes it out where `fit` goes on.

    Metrics that Lightning logs after it has saved, those of a whole epoch, are not in it.
    """
    from pytorch_lightning.callbacks import Callback

    class CarryRecord(Callback):  # type: ignore[misc]
        """Has no state: Lightning would ask whoever loads the checkpoint for this callback then."""

        def on_save_checkpoint(
            self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]
        ) -> None:
            if trainer.is_global_zero:
                checkpoint[_KEY] = carried.end()

        def on_load_checkpoint(
            self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]
        ) -> None:
            if trainer.is_global_zero and trainer.state.fn == "fit":
                carried.go_on_after(checkpoint.get(_KEY, ""))

    return CarryRecord()
