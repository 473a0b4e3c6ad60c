"""The door to Lightning: an ordinary `Trainer`, set up for the place where this process runs.

What it adds is a logger that appends to the run, checkpoints in the run's directory, and a `fit`
that continues there after a restart. Everything else is Lightning's, and stays the user's to set.
Lightning takes seconds to import, so nothing here does it before a trainer is asked for.
"""

import hashlib
import logging
import os
import re
import sys
import warnings
import zipfile
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.core.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    import pytorch_lightning as pl

Log = Callable[[Mapping[str, float], int | None], None]
LogHparams = Callable[[Mapping[str, object]], None]

# How many times `fit` was called in this process, by the directory its checkpoints go under.
_fits: Counter[Path] = Counter()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where this process runs: one of `nodes * processes_per_node` that train one model."""

    strategy: str
    """"single" or "ddp"."""
    nodes: int
    processes_per_node: int
    checkpoints: Path | None
    """The directory of this stage's checkpoints, on storage that all nodes share; None outside of
    a run."""
    run_id: str | None
    stage: str | None = None
    """The stage's name in mlp.yaml, for messages."""


def trainer(
    placement: Placement, log: Log | None, hparams: LogHparams | None, **kwargs: Any
) -> "pl.Trainer":
    """A `pytorch_lightning.Trainer` for `placement`; `kwargs` are Lightning's own, and win.

    - Metrics go to `log(values, step)` and hyperparameters to `hparams(flat)`, on rank 0, beside
      the loggers in `kwargs`; `logger=False` means neither. Where ours is the only logger,
      `log_every_n_steps` is 1 instead of Lightning's 50: a logged step costs some tens of
      microseconds. Beside loggers of the user's, which may cost more, it stays Lightning's.
    - Without a ModelCheckpoint in `kwargs` the newest epoch is kept, twice (`last.ckpt` is a copy
      of its own), in the run's directory. One without `dirpath` writes there too.
    - `fit` continues from the newest complete checkpoint that the same `fit` left in an earlier
      life of the run. An explicit `ckpt_path` wins.
    - If PL_GLOBAL_SEED is set and nobody called `seed_everything`, it is called here, once.

    Raises ConfigurationError where `kwargs` contradict the launch, MissingExtraError without
    Lightning.
    """
    _require_lightning()
    _drop_advertisements()
    _seed_once()
    bare = bool(kwargs.get("barebones"))
    log = None if bare or kwargs.get("logger") is False else log
    keeps = not bare and kwargs.get("enable_checkpointing") is not False

    arguments = _placed(placement, kwargs)
    if log is not None and kwargs.get("logger") is None:
        arguments["logger"] = False
        arguments.setdefault("log_every_n_steps", 1)
    if keeps and placement.checkpoints is not None:
        arguments["callbacks"] = _with_checkpoints(kwargs.get("callbacks"))

    made = _trainer_class()(**arguments)
    if keeps and placement.checkpoints is not None:
        _keep_checkpoints(made, placement.checkpoints)
    if log is not None and not made.fast_dev_run:
        made.loggers = [*made.loggers, _logger(placement, log, hparams)]
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


# --- launch ------------------------------------------------------------------------------------


def _placed(placement: Placement, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """`kwargs` with devices, nodes and strategy of the placement where the user leaves them open.

    Outside of a run mlp launched nothing that they could contradict.
    """
    strategy = "ddp" if placement.strategy == "ddp" else "auto"
    launched = {"devices": placement.processes_per_node, "num_nodes": placement.nodes}
    if placement.run_id is None:
        return {**launched, "strategy": strategy, **kwargs}
    _refuse_contradictions(placement, kwargs)
    chosen = {**launched, "strategy": strategy, **kwargs}
    if chosen["devices"] in _ANY_DEVICES:
        chosen["devices"] = placement.processes_per_node
    if chosen["strategy"] == "auto":
        chosen["strategy"] = strategy
    return chosen


_ANY_DEVICES = ("auto", -1, "-1")


def _refuse_contradictions(placement: Placement, kwargs: Mapping[str, Any]) -> None:
    """ConfigurationError where Lightning would wait for, or start, processes that mlp did not."""
    section = f"launch.{placement.stage or 'STAGE'}"
    devices, nodes = kwargs.get("devices", "auto"), kwargs.get("num_nodes", placement.nodes)
    if devices not in _ANY_DEVICES and _count(devices) != placement.processes_per_node:
        raise ConfigurationError(
            f"mlp.trainer(devices={devices!r}), but {placement.processes_per_node} process(es) "
            "per node were launched",
            fix=f"leave devices out, and set {section}.processes_per_node in mlp.yaml",
        )
    if nodes != placement.nodes:
        raise ConfigurationError(
            f"mlp.trainer(num_nodes={nodes!r}), but {placement.nodes} node(s) were launched",
            fix=f"leave num_nodes out, and set {section}.nodes in mlp.yaml",
        )
    if placement.strategy == "ddp" and not _is_ddp(kwargs.get("strategy", "auto")):
        raise ConfigurationError(
            f"mlp.trainer(strategy={kwargs['strategy']!r}), but the launch is for ddp",
            fix=f"leave strategy out, and set {section}.strategy in mlp.yaml",
        )


def _count(devices: Any) -> int:
    """How many devices Lightning understands by `devices`: "2", 2, [0, 1] and "0,1" are two."""
    if isinstance(devices, str):
        numbers = [n for n in devices.split(",") if n.strip()]
        return len(numbers) if "," in devices else int(devices)
    return devices if isinstance(devices, int) else len(devices)


def _is_ddp(strategy: Any) -> bool:
    """Whether `strategy` is DDP among processes that someone else starts."""
    from pytorch_lightning.strategies import DDPStrategy

    if isinstance(strategy, str):
        return bool(re.fullmatch(r"auto|ddp(_find_unused_parameters_\w+)?", strategy))
    return isinstance(strategy, DDPStrategy)


# --- logging -----------------------------------------------------------------------------------


def _logger(placement: Placement, log: Log, hparams: LogHparams | None) -> Any:
    """A Lightning logger that hands everything on as plain data."""
    from pytorch_lightning.loggers import Logger
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    class RunLogger(Logger):  # type: ignore[misc]
        name = "mlp"
        version = placement.run_id or ""
        save_dir = str(placement.checkpoints.parent) if placement.checkpoints else None

        def __init__(self) -> None:
            super().__init__()
            self._epoch = -1.0

        def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
            if rank_zero_only.rank != 0:
                return
            values = {name: float(value) for name, value in metrics.items()}
            # Lightning adds the epoch to every step: without repeats the run is half the size.
            if values.get("epoch") == self._epoch:
                del values["epoch"]
            self._epoch = values.get("epoch", self._epoch)
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


# --- checkpoints -------------------------------------------------------------------------------


def _trainer_class() -> Any:
    import pytorch_lightning as pl

    # Lightning reads PL_TRAINER_* variables by the name of the class.
    class Trainer(pl.Trainer):  # type: ignore[misc]
        checkpoints: Path | None = None
        fit_checkpoints: Path | None = None

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
            if self.checkpoints is not None:
                self.fit_checkpoints = _next_fit(self.checkpoints)
                if ckpt_path in (None, "last"):
                    ckpt_path = _resumable(self.fit_checkpoints, self.is_global_zero) or ckpt_path
            super().fit(
                model, train_dataloaders, val_dataloaders, datamodule, ckpt_path=ckpt_path, **more
            )

    return Trainer


def _next_fit(checkpoints: Path) -> Path:
    """The directory of the next `fit` of this process; the same in every life of the run.

    A stage may fit several models (folds, a second script): none may continue from another's
    checkpoint, so the directory is named by the command line and the number of the call.
    """
    _fits[checkpoints] += 1
    command = hashlib.sha256("\0".join(sys.argv).encode(errors="surrogateescape")).hexdigest()
    return checkpoints / f"fit-{_fits[checkpoints]}-{command[:8]}"


def _with_checkpoints(callbacks: Any) -> list[Any]:
    """The user's callbacks, and what they lack so that a restart finds a checkpoint of ours."""
    from pytorch_lightning.callbacks import Callback, ModelCheckpoint

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
    return [*given, PlaceCheckpoints(), *added]


def _place(trainer: Any) -> None:
    """Point the checkpoint callbacks without a place of their own at this fit's directory."""
    from pytorch_lightning.callbacks import ModelCheckpoint

    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and (
            not callback.dirpath or Path(callback.dirpath).is_relative_to(trainer.checkpoints)
        ):
            callback.dirpath = str(trainer.fit_checkpoints)


def _keep_checkpoints(trainer: Any, directory: Path) -> None:
    from pytorch_lightning.plugins import TorchCheckpointIO

    trainer.checkpoints = Path(os.path.realpath(directory))
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # a user's own is left alone
        trainer.strategy.checkpoint_io = _checkpoint_io(trainer.checkpoints)
    message = f"Checkpoint directory {re.escape(str(trainer.checkpoints))}"
    warnings.filterwarnings("ignore", message)  # that it is not empty is the point of it


def _checkpoint_io(checkpoints: Path) -> Any:
    """Checkpoint files that are there completely or not at all, after a power failure too.

    Lightning's own go through a copy in memory and one in the system's temporary directory, from
    where they are moved, which is no single step between file systems.
    """
    import torch
    from pytorch_lightning.plugins import TorchCheckpointIO

    class WholeFiles(TorchCheckpointIO):  # type: ignore[misc]
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            if storage_options is not None or "://" in str(path):
                super().save_checkpoint(checkpoint, path, storage_options)
                return
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.{os.getpid()}.part")
            try:
                torch.save(checkpoint, part)
                _sync(part)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
            _sync(target.parent)

        def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> Any:
            # Hyperparameters may be any object; what this run wrote itself it may unpickle.
            if Path(path).is_relative_to(checkpoints) and kwargs.get("weights_only", 0) is None:
                kwargs["weights_only"] = False
            return super().load_checkpoint(path, *args, **kwargs)

    return WholeFiles()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _resumable(directory: Path, is_global_zero: bool) -> str | None:
    """The newest checkpoint in `directory` that training can go on from, None without one."""
    from pytorch_lightning.utilities.rank_zero import rank_zero_warn

    if is_global_zero:
        for part in directory.glob(".*.part"):  # of a process that was killed while writing
            part.unlink(missing_ok=True)
    for path in _newest_first(directory.glob("*.ckpt")):
        complete, has_training_state = _contents(path)
        if has_training_state:
            return str(path)
        if not complete:
            rank_zero_warn(f"not resuming from {path}: the file is damaged")
    return None


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    files = [path for path in paths if path.is_file()]
    return sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _contents(path: Path) -> tuple[bool, bool]:
    """Whether a checkpoint is complete, and whether it has more than the weights.

    `torch.save` writes a zip file, whose directory is at its end: a file that was cut off, or
    never reached the disk, has none. Tensors are not read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            return bool(names), any(b"optimizer_states" in archive.read(name) for name in names)
    except (OSError, zipfile.BadZipFile):
        return False, False
