"""The directory that keeps the last archives, and what the newest was made of."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_LAST = "last.json"
_KEPT = 3
_STALE = 3600  # seconds after which a half-written archive belongs to nobody


def archive(memo: Path, digest: str) -> Path:
    """Where the archive with that digest is."""
    return memo / f"{digest}.tar.gz"


def remembered(memo: Path, key: str) -> tuple[str, str] | None:
    """The digests that the files of `key` had, if their archive is there as it was."""
    try:
        last = json.loads((memo / _LAST).read_text(encoding="ascii"))
        if last["key"] != key:
            return None
        digest, content = str(last["digest"]), str(last["content"])
        path = archive(memo, digest)
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return None
        os.utime(path)  # it is the newest now
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return digest, content


def remember(memo: Path, last: Mapping[str, str]) -> None:
    """Keep this for `remembered`: key, digest and content."""
    with new_file(memo) as (file, part):
        file.write(json.dumps(last).encode())
        file.flush()
        part.replace(memo / _LAST)


@contextmanager
def new_file(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A file that is to be renamed within the block; if it is not, it is gone afterwards."""
    descriptor, name = tempfile.mkstemp(dir=folder, suffix=".part")
    part = Path(name)
    try:
        with open(descriptor, "wb") as file:
            yield file, part
    finally:
        part.unlink(missing_ok=True)


def prune(memo: Path) -> None:
    """Remove all but the newest archives, and what a killed process left half-written."""
    ages = {path: _age(path) for path in memo.iterdir() if path.name != _LAST}
    archives = sorted((p for p in ages if p.name.endswith(".tar.gz")), key=ages.__getitem__)
    parts = [p for p, age in ages.items() if p.suffix == ".part" and age > _STALE]
    for path in [*archives[_KEPT:], *parts]:
        path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since it was written; endless where another process has just removed it."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
