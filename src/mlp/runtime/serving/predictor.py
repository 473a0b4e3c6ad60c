"""The thread of a worker in which the champion predicts.

The event loop stays free to accept, to refuse and to time out while a model is busy. A hop between
threads costs as much as a small prediction: what waits is taken in one go, and answers go back
together where they are ready within a moment of each other.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

# Answers that are ready go back to the event loop after this time, whatever else waits.
_HOLD_S = 0.002
# How much the last piece of work counts in what one takes.
_NEWEST = 0.1


class Piece(Protocol):
    """What work is about. Nobody waits for it after `until`, on the monotonic clock."""

    @property
    def until(self) -> float: ...  # noqa: D102


class Predictor:
    """Runs work in order in its thread; `reply` sends work back, to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[tuple[Callable[[Any], None], Piece]] = SimpleQueue()
        self._replies: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._busy_since: float | None = None
        self._pace = 0.0
        thread = threading.Thread(target=self._run, name="predictor", daemon=True)
        thread.start()

    def put(self, function: Callable[[Any], None], job: Piece) -> None:
        """Call `function(job)` in the thread, which has to end without an exception."""
        self._queue.put((function, job))

    def reply(self, function: Callable[..., None], *arguments: Any) -> None:
        """From the thread: call `function` in the event loop."""
        self._replies.append((function, arguments))

    def busy_for(self) -> float:
        """For how many seconds the thread has been at one piece of work; 0 where it has none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def pace(self) -> float:
        """How many seconds a piece of work has taken of late; what was only dropped is left out."""
        return self._pace

    def _run(self) -> None:
        clock, get, empty = time.monotonic, self._queue.get, self._queue.empty
        while True:
            function, job = get()
            first = now = self._busy_since = clock()
            while True:
                function(job)
                before, now = now, clock()
                if before <= job.until:
                    self._pace += _NEWEST * (now - before - self._pace)
                if empty():
                    break
                self._busy_since = now
                if self._replies and now + self._pace - first > _HOLD_S:
                    self._send()
                    first = now
                function, job = get()
            self._busy_since = None
            if self._replies:
                self._send()

    def _send(self) -> None:
        replies, self._replies = self._replies, []
        self._loop.call_soon_threadsafe(_call_all, replies)


def _call_all(replies: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    for function, arguments in replies:
        function(*arguments)
