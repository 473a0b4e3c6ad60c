"""Where the log lies for good: a folder, or an address that fsspec knows (s3://BUCKET/PATH)."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from mlp.adapters.base import object_store
from mlp.core.patience import waiting_for

# A store that is away is noticed soon: what waits for it is safe, and is tried again later.
_IMPATIENT = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 1}}
_AT_ONCE = 256  # files to fetch before they are kept


class Destination:
    """A place for Parquet files: they are there completely, or not at all.

    Raises ConfigurationError where nothing that is installed reaches the address.
    """

    def __init__(self, address: str | Path) -> None:
        self.address = str(address).rstrip("/")
        self.remote = object_store.is_address(self.address)
        if not self.remote:
            self.address = os.path.realpath(self.address)

    def part(self, relative: str, scratch: Path) -> Path:
        """Where the file is to be written first, on this machine."""
        if self.remote:
            return scratch / relative
        final = Path(self.address, relative)
        return final.with_name(f".{final.name}.part")

    def deliver(self, part: Path, relative: str) -> None:
        """Put the finished file in its place. Raises RemoteError, or OSError for a folder."""
        if self.remote:
            filesystem, root = self.filesystem()
            with self.reaching("write"):
                filesystem.put_file(str(part), f"{root}/{relative}")
            return
        final = Path(self.address, relative)
        _sync(part)
        part.replace(final)
        _sync(final.parent)

    def files(self, table: str, day: str, kept: Path) -> list[Path]:
        """The files of a table from `day` (YYYY-MM-DD) on, on this machine.

        Those of a store are copied below `kept`, each once: to read thousands of small files in a
        store, again for every question, takes minutes. Raises RemoteError.
        """
        if not self.remote:
            found = Path(self.address, table).glob("*/*.parquet")
            return [path for path in found if _is_of(path, day)]
        filesystem, root = self.filesystem()
        mine = kept / hashlib.sha256(self.address.encode()).hexdigest()[:12]
        with self.reaching("read"):
            filesystem.invalidate_cache()
            names = [
                name.removeprefix(f"{root}/")
                for name in filesystem.find(f"{root}/{table}")
                if _is_of(PurePosixPath(name), day)
            ]
            lacking = [name for name in names if not (mine / name).exists()]
            for start in range(0, len(lacking), _AT_ONCE):
                _fetch(filesystem, root, lacking[start : start + _AT_ONCE], mine)
        return [mine / name for name in names]

    def filesystem(self) -> tuple[Any, str]:
        """What reaches the address, and the path in it."""
        s3 = self.address.startswith("s3://")
        more: dict[str, Any] = {"config_kwargs": _IMPATIENT} if s3 else {}
        return object_store.filesystem(
            self.address, "predictions", use_listings_cache=False, **more
        )

    @contextlib.contextmanager
    def reaching(self, verb: str) -> Iterator[None]:
        """Raises RemoteError for what the store refuses or cannot do."""
        doing = f"{verb} the predictions at {self.address}"
        fix = "check the address, the credentials and AWS_ENDPOINT_URL; nothing is lost"
        with (
            object_store.reaching(self.address, doing, fix),
            waiting_for(f"the predictions at {self.address}"),
        ):
            yield


def _is_of(path: PurePath, day: str) -> bool:
    """Whether it is a file of that day or a later one."""
    folder = path.parent.name
    return path.suffix == ".parquet" and folder.startswith("date=") and folder >= f"date={day}"


def _fetch(filesystem: Any, root: str, names: Sequence[str], folder: Path) -> None:
    """Copy files of a store into the folder; one that is there is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as scratch:
        parts = [f"{scratch}/{number}" for number in range(len(names))]
        filesystem.get([f"{root}/{name}" for name in names], parts)
        for part, name in zip(parts, names, strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Path(part).replace(folder / name)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
