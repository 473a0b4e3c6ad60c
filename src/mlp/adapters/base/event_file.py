"""The event file: what a run records is appended here at once, and delivered to MLflow later.

Every writing process has a file of its own, named by its time of birth, so that no two writers
ever share a line and a reader that goes by name sees a run start before what is logged to it.
Imported at every stage's start: standard library only, and little of it.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlp.core.runs.events import Event, decode, encode

# What a full disk refuses is kept in memory up to here, and tried again with the next event.
MAX_PENDING_BYTES = 16 * 2**20


class EventFile:
    """Appends the events of this process to a file in `directory`. Never raises, never blocks.

    A line is one `write` to a file opened for appending: after `kill -9` every event that was
    recorded is there. After a fork the child writes to a file of its own. `mask` is applied to
    each text in an event, so that no secret reaches the disk.
    """

    def __init__(self, directory: str, mask: Callable[[str], str] = str) -> None:
        self._directory = directory
        self._mask = mask
        self._fd = -1
        self._pid = -1
        self._pending = b""
        self._dropped = 0

    def record(self, kind: str, run: str, /, **data: Any) -> None:
        """Append one event that happens now."""
        self._append(encode(Event(time.time(), kind, run, self._masked(data))))

    def metrics(self, run: str, values: Mapping[str, float], step: int) -> None:
        """Append metric values of one step; numbers hold no secrets, so this skips the mask."""
        self._append(encode(Event(time.time(), "metrics", run, {"values": values, "step": step})))

    def repeat(self, event: Event) -> None:
        """Append an event as it was recorded before, by a process whose file is lost."""
        self._append(encode(event))

    def _masked(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self._mask(str(k)): self._masked(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._masked(item) for item in value]
        return value if isinstance(value, int | float | None) else self._mask(str(value))

    def _append(self, line: bytes) -> None:
        if self._pid != os.getpid():
            if self._pid != -1:  # a fork: what waits is its parent's to write
                self._fd, self._pending, self._dropped = -1, b"", 0
            self._pid = os.getpid()
        if self._dropped and len(self._pending) < MAX_PENDING_BYTES:
            notice = Event(time.time(), "dropped", "", {"count": self._dropped})
            self._pending += encode(notice)
            self._dropped = 0
        data = self._pending + line
        try:
            written = os.write(self._descriptor(), data)
        except OSError:
            written = 0
        rest = data[written:]
        if len(rest) > MAX_PENDING_BYTES:
            self._dropped += 1
            rest = self._pending[written:] if written <= len(self._pending) else b"\n"
        self._pending = rest

    def _descriptor(self) -> int:
        if self._fd < 0:
            name = f"{time.time_ns():020d}-{os.getpid()}.jsonl"
            os.makedirs(self._directory, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(f"{self._directory}/{name}", flags, 0o644)
        return self._fd


def files(directory: str) -> list[str]:
    """The event files of a run, oldest first, as paths."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [f"{directory}/{name}" for name in sorted(names) if name.endswith(".jsonl")]


def read(path: str, offset: int = 0) -> Iterator[tuple[Event | None, int]]:
    """The complete lines of a file from `offset` bytes on, each with the offset behind it.

    A line that is not an event (torn by a crash) comes as None. A last line without its newline is
    still being written and does not come.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield decode(line), offset
