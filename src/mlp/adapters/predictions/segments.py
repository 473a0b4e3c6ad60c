"""The files of a journal: `NAME.seg`, held by a lock for as long as its writer lives.

A segment that nobody holds is complete: it was sealed, or its writer is dead.
"""

import calendar
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".seg"
_TIME = "%Y%m%dT%H%M%S"


def new_name() -> str:
    """A name no other segment of any machine has; names of one machine sort by time."""
    return f"{time.strftime(_TIME, time.gmtime())}-{os.getpid()}-{secrets.token_hex(8)}"


def made_at(path: Path) -> float:
    """When the segment was made, in seconds since the epoch; as its name says."""
    try:
        return float(calendar.timegm(time.strptime(path.stem[:15], _TIME)))
    except ValueError:
        return 0.0


def create(directory: Path) -> tuple[Path, int]:
    """A new segment, held: its path and file descriptor. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    while True:
        path = directory / f"{new_name()}{SUFFIX}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        if hold(fd) and os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)  # a packer was quicker than the lock, and took the empty file away


def hold(fd: int) -> bool:
    """Whether the lock of the open file is now ours; it goes when the last copy of `fd` closes."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def found(directory: Path) -> Iterator[Path]:
    """All segments of a folder, the oldest first, whether they are written to or not."""
    yield from sorted(directory.glob(f"*{SUFFIX}"))


@contextmanager
def taken(path: Path) -> Iterator[int | None]:
    """Hold a segment that nobody writes to: its file descriptor, None where somebody has it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        # Another packer may have finished it between the two calls.
        yield fd if hold(fd) and os.fstat(fd).st_nlink else None
    finally:
        os.close(fd)


def read(fd: int) -> bytes:
    """All that a segment holds now."""
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        return file.read()
