"""The door to the kernel's file locks: freed on any death of their holder, `kill -9` too."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlp.core.patience import waiting_for


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock at `path` for the block; yields False, at once, where somebody else has it.

    With `wait` it comes when the other lets go, and yields True.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            if wait:
                with waiting_for(f"another process, which has {path}"):
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock at `path`."""
    if not path.exists():
        return False
    with held(path) as free:
        return not free
