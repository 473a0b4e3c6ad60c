"""Where checkpoints lie, a directory or an object store, and what a `Trainer` writes there."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mlp.adapters.base import object_store
from mlp.adapters.base.object_store import is_address
from mlp.core.errors import ConfigurationError, MlpError, RemoteError
from mlp.core.launch import job_spec as jobs
from mlp.core.runs import environment

# The name of a checkpoint that was written because the process was asked to end.
INTERRUPTED = "interrupted.ckpt"

# To know whether a checkpoint is whole, the file's end and a small entry of it are read, not more.
_BLOCK_BYTES = 256 * 1024


def canonical(place: Path | str) -> str:
    """The one name of a place of checkpoints.

    Raises ConfigurationError where the package that reaches it is not installed.
    """
    if not is_address(place):
        return os.path.realpath(place)
    object_store.filesystem(str(place), "checkpoints", "where the stage runs")
    return str(place).rstrip("/")


def reaching(place: str) -> AbstractContextManager[None]:
    """Raises RemoteError for what an object store refuses or cannot do."""
    return object_store.reaching(
        place,
        f"read the checkpoints at {place}",
        "check the address, and the credentials and the endpoint (AWS_...) of the stage",
    )


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Raises RemoteError where the volume claim of a pod is full that checkpoint `path` goes to,
    ConfigurationError where another disk is."""
    try:
        yield
    except BaseException as e:  # torch's CheckpointException is not an Exception
        known = is_address(path) or isinstance(e, MlpError | KeyboardInterrupt | SystemExit)
        full = None if known else _full_disk(e)
        if full is None:
            raise
        raise _no_room(Path(path), full.errno == errno.EDQUOT) from e


def _full_disk(error: BaseException) -> OSError | None:
    """The error of a full disk, or of a quota, that is behind another one.

    torch reports its own confusion ("unexpected pos"); the checkpoints that several ranks write at
    once end with an exception that has one for each rank.
    """
    seen: set[int] = set()
    left: list[Any] = [error]
    while left:
        each = left.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT):
            return each
        left += [each.__cause__, each.__context__]
        if isinstance(ranks := getattr(each, "failures", None), dict):
            left += [failure[0] for failure in ranks.values() if isinstance(failure, tuple)]
    return None


def _no_room(path: Path, quota: bool) -> MlpError:
    folder = next(p for p in path.parents if p.is_dir())
    disk = shutil.disk_usage(folder)
    why = (
        "the disk quota is used up" if quota else f"{_size(disk.free)} of {_size(disk.total)} free"
    )
    claim = environment.claim_at(os.path.realpath(folder))
    if claim is None:
        return ConfigurationError(
            f"no room for checkpoint {path.name} in {folder}: {why}",
            fix=f"free some space, then run it again: `df -h {folder}`",
        )
    name, mount = claim
    key = "checkpoints" if mount == jobs.POD_CHECKPOINTS else "volumes"
    old = f"remove those of old jobs ({mount}/mlp/jobs), or " if key == "checkpoints" else ""
    return RemoteError(
        f"no room for checkpoint {path.name} on volume claim {name}, mounted at {mount}: {why}",
        fix=f"{old}name a larger claim under targets.NAME.{key} in mlp.yaml; `kubectl get pvc`",
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


# --- what a trainer writes ----------------------------------------------------------------------


def keep_checkpoints(trainer: Any, place: str) -> None:
    """Let `trainer` write whole files, and read what it wrote, under `place`."""
    from pytorch_lightning.plugins import TorchCheckpointIO

    trainer.checkpoints = place
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # a user's own is left alone
        trainer.strategy.checkpoint_io = _checkpoint_io(place)
    message = f"Checkpoint directory {re.escape(place)}"
    warnings.filterwarnings("ignore", message)  # that it is not empty is the point of it


def is_under(path: Path | str, place: str) -> bool:
    """Whether `path` is `place` or lies below it."""
    return f"{path}/".startswith(f"{place}/")


def _checkpoint_io(place: str) -> Any:
    """Checkpoint files that are there completely or not at all, after a power failure too.

    Lightning's own go through a copy in memory and one in the system's temporary directory, from
    where they are moved, which is not a single step between file systems. In an object store an
    object appears when all of it is there: what Lightning does is right.
    """
    import torch
    from pytorch_lightning.plugins import TorchCheckpointIO

    class WholeFiles(TorchCheckpointIO):  # type: ignore[misc]
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            if storage_options is not None or is_address(path):
                super().save_checkpoint(checkpoint, path, storage_options)
                return
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Not the process id: on a shared volume another pod may have the same one.
            part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
            try:
                with part.open("wb") as file:  # by its name, torch would not say why it failed
                    torch.save(checkpoint, file)
                _sync(part)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
            _sync(target.parent)

        def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> Any:
            # Hyperparameters may be any object; what this run wrote itself it may unpickle.
            if is_under(path, place) and kwargs.get("weights_only", 0) is None:
                kwargs["weights_only"] = False
            return super().load_checkpoint(path, *args, **kwargs)

    return WholeFiles()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- what is there ------------------------------------------------------------------------------


def newest(folder: str) -> str | None:
    """The newest checkpoint in `folder` that training can go on from, None without one.

    What a process that was killed while writing left in a directory is removed. Raises RemoteError
    where an object store does not answer.
    """
    from pytorch_lightning.utilities.rank_zero import rank_zero_warn

    if not is_address(folder):
        for part in Path(folder).glob(".*.part"):
            part.unlink(missing_ok=True)
    with reaching(folder):
        for name in _newest_first(folder):
            complete, has_training_state = _contents(f"{folder}/{name}")
            if has_training_state:
                return f"{folder}/{name}"
            if not complete:
                rank_zero_warn(f"not resuming from {folder}/{name}: the file is damaged")
    return None


def exists(path: str) -> bool:
    """Whether this process sees the checkpoint. Raises RemoteError as `newest` does."""
    with reaching(path):
        filesystem, inner = object_store.filesystem(path, "checkpoints")
        filesystem.invalidate_cache()
        return bool(filesystem.isfile(inner))


def _newest_first(folder: str) -> list[str]:
    """The names of the checkpoints in `folder`."""
    filesystem, inner = object_store.filesystem(folder, "checkpoints")
    filesystem.invalidate_cache()
    try:
        entries = filesystem.ls(inner, detail=True)
    except FileNotFoundError:
        return []
    ages = {}
    for entry in entries:
        name = entry["name"].rpartition("/")[2]
        if entry["type"] == "file" and name.endswith(".ckpt"):
            with contextlib.suppress(FileNotFoundError):  # pruned since then
                ages[name] = filesystem.modified(entry["name"])
    # S3 knows whole seconds only: nothing is written after an interruption, and counts go up.
    return sorted(
        ages, key=lambda name: (ages[name], name == INTERRUPTED, _numbers(name)), reverse=True
    )


def _numbers(name: str) -> list[int]:
    """What a name counts: "epoch=1-step=20.ckpt" is [1, 20]."""
    return [int(number) for number in re.findall(r"\d+", name)]


def _contents(path: str) -> tuple[bool, bool]:
    """Whether a checkpoint is complete, and whether it has more than the weights.

    `torch.save` writes a zip file, whose directory is at its end: a file that was cut off, or
    never reached the disk, has none. Tensors are not read.
    """
    filesystem, inner = object_store.filesystem(path, "checkpoints")
    try:
        with (
            filesystem.open(inner, "rb", block_size=_BLOCK_BYTES) as file,
            zipfile.ZipFile(file) as archive,
        ):
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            return bool(names), any(b"optimizer_states" in archive.read(name) for name in names)
    except (FileNotFoundError, zipfile.BadZipFile):
        return False, False
    except OSError:
        if is_address(path):  # it may be there, and newer than what would be taken instead
            raise
        return False, False
