"""What Lightning logs, handed on as plain data."""

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from mlp.adapters.trainer.process_place import Placement

Log = Callable[[Mapping[str, Any], int | None], None]
LogHparams = Callable[[Mapping[str, object]], None]


def run_logger(placement: Placement, log: Log, hparams: LogHparams | None) -> Any:
    """A Lightning logger that hands metrics to `log` and hyperparameters to `hparams`."""
    from pytorch_lightning.loggers import Logger
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    class RunLogger(Logger):  # type: ignore[misc]
        name = "mlp"
        version = placement.run_id or ""
        save_dir = str(placement.save_dir) if placement.save_dir else None

        def __init__(self) -> None:
            super().__init__()
            self._epoch = -1.0

        def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
            if rank_zero_only.rank != 0:
                return
            # Lightning adds the epoch to every step: without repeats the run is half the size.
            values, epoch = dict(metrics), metrics.get("epoch")
            if isinstance(epoch, int | float):
                if epoch == self._epoch:
                    del values["epoch"]
                self._epoch = epoch
            if values:
                log(values, step)

        def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
            if hparams is not None and rank_zero_only.rank == 0:
                hparams(dict(_flat(params)))

    return RunLogger()


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, object]]:
    """The leaves of nested hyperparameters as ("optimizer.lr", 0.1); no number becomes its text."""
    if isinstance(value, Namespace):
        value = vars(value)
    elif is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, str | int | float) else str(value)
