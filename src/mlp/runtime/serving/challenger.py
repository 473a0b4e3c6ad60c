"""The challenger as its worker sees it: a process that may hang, leak or die, and is ended then.

All of it runs in the worker's event loop.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlp.adapters.prometheus import Metrics
from mlp.core.quantities import amount
from mlp.core.serving.challenger_failures import Failures
from mlp.core.serving.serve_section import Serve
from mlp.runtime.serving import challenger_framing
from mlp.runtime.serving.challenger_child import Child

log = logging.getLogger("mlp.serving")

UNAVAILABLE = "unavailable"  # it starts again, or has been silent for too long: nobody waits
LOADING = "loading"  # it has not answered yet: its time has not begun
_LOOK_S = 0.2
_LOAD_S = 300.0
_HANG_S = 5.0  # without an answer; ten times `max_latency_ms` where that is more
_ROWS = 100  # a request may take `max_latency_ms` for each so many rows that it has
_AGAIN_S = 10.0
_SHADOWS = 32  # at most so many under way; more are skipped


@dataclass(frozen=True, slots=True)
class Reply:
    """What the challenger answered in `ms`; or why it did not: `failed` and, in words, `detail`.

    `failed` is one of: error, refused, slow, ended, unavailable, loading.
    """

    body: bytes = b""
    ms: float = 0.0
    probabilities: Sequence[Sequence[float]] | None = None
    failed: str = ""
    detail: str = ""


class Asker(Protocol):
    """Whom the challenger answers."""

    def came(self, job: Any, reply: Reply) -> None:
        """A reply to `ask`."""

    def shadowed(self, job: Any, reply: Reply) -> None:
        """A reply to `shadow`."""


@dataclass(slots=True)
class _Asked:
    job: Any
    asker: Asker
    at: float
    shadow: bool
    timer: asyncio.TimerHandle | None = None
    late: bool = False


class Challenger:
    """One version in a process of its own, which is started again when it has ended.

    `files` gives its folder and may take long. `take_out` is called once, with the evidence, when
    it has failed too often, see `Failures`.
    """

    def __init__(
        self,
        version: str,
        serve: Serve,
        metrics: Metrics,
        files: Callable[[str], tuple[Path, str | None]],
        take_out: Callable[[str, dict[str, Any]], None],
        *,
        shadow: bool,
    ) -> None:
        self.version = version
        self.ready = False
        self._has_served = False
        self._serve = serve
        self._metrics = metrics
        self._files = files
        self._take_out = take_out
        self.beside = shadow
        self._loop = asyncio.get_running_loop()
        self._limit = amount(serve.challenger_memory)
        self._patience = min(float(serve.timeout), max(_HANG_S, serve.max_latency_ms / 100))
        self._asked: dict[int, _Asked] = {}
        self._next = 0
        self._failures = Failures()
        self._closed = False
        self._child: Child | None = None
        self._transport: asyncio.Transport | None = None
        self._started = 0.0
        self._why = ""
        self._watch = self._loop.create_task(self._look())
        self._start_task: asyncio.Task[None] | None = self._loop.create_task(self._start())

    # --- asking ---------------------------------------------------------------------------------

    def ask(
        self,
        body: bytes,
        content_type: str,
        rows: Sequence[int] | None,
        count: int,
        job: Any,
        asker: Asker,
    ) -> None:
        """`asker.came` is called with the reply, at the latest after `max_latency_ms`.

        That is meant for 100 of the `count` rows that it is to answer.
        """
        after = self._serve.max_latency_ms / 1000 * max(1.0, count / _ROWS)
        if not self.ready or self._overdue():
            asker.came(job, Reply(failed=UNAVAILABLE if self._has_served else LOADING))
            return
        number = self._send(body, content_type, rows, job, asker, False)
        self._asked[number].timer = self._loop.call_later(after, self._late, number)

    def shadow(
        self, body: bytes, content_type: str, rows: Sequence[int] | None, job: Any, asker: Asker
    ) -> None:
        """`asker.shadowed` is called with the reply, unless the request is skipped."""
        if not self.ready or len(self._asked) >= _SHADOWS:
            self._metrics.shadowed("skipped")
            return
        self._send(body, content_type, rows, job, asker, True)

    def blame(self, reason: str, request_id: str) -> None:
        """An answer of its own was not used, for a reason that lies in it."""
        self._judge(f"{request_id}: {reason}")

    def retire(self) -> None:
        """End its process when it has answered what is under way, and soon in any case."""
        self._closed = True
        self.ready = False
        self._watch.cancel()
        if self._asked:
            self._loop.call_later(self._patience, self._kill, "")
        else:
            self._kill("")

    def stop(self) -> None:
        """End its process at once, when the event loop has ended."""
        self._closed = True
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    # --- its process ----------------------------------------------------------------------------

    async def _start(self) -> None:
        try:
            path, _ = await self._loop.run_in_executor(None, self._files, self.version)
        except Exception as e:  # noqa: BLE001 - tried again, and told
            self._why = f"{type(e).__name__}: {e}"
            log.error("cannot start the challenger, version %s: %s", self.version, self._why)
            if not self._closed:
                self._loop.call_later(_AGAIN_S, self._restart)
            return
        if self._closed:
            return
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        settings = {
            "path": str(path),
            "probabilities": self._serve.log_probabilities,
            "nice": 10 if self.beside else 0,
        }
        with theirs:
            try:
                self._child = Child(theirs.fileno(), settings)
            except OSError as e:
                ours.close()
                log.error("challenger %s cannot be started: %s", self.version, e)
                self._loop.call_later(_AGAIN_S, self._restart)
                return
        self._started = time.monotonic()
        self._transport, _ = await self._loop.create_connection(lambda: _Link(self), sock=ours)

    def _restart(self) -> None:
        if not self._closed:
            self._start_task = self._loop.create_task(self._start())

    def received(self, header: dict[str, Any], body: bytes) -> None:
        """A message from its process."""
        if "ready" in header:
            self.ready = self._has_served = True
            self._metrics.loaded("challenger", self.version, True)
            log.info("challenger: version %s", self.version)
            return
        if "broken" in header:
            self._why = header["broken"]
            return
        asked = self._asked.pop(header["id"], None)
        if asked is None:
            return
        if asked.timer is not None:
            asked.timer.cancel()
        failed = header.get("failed", "")
        detail = header.get("detail", "")
        reply = Reply(body, header["latency_ms"], header.get("probabilities"), failed, detail)
        if not failed and not asked.late:
            self._failures.used()
        if asked.shadow:
            # Nothing tells here whether the champion could answer it: the log does.
            asked.asker.shadowed(asked.job, reply)
            if failed and header["by_model"]:
                self._judge(f"{failed}: {detail}")
        elif not asked.late:
            asked.asker.came(asked.job, reply)

    def lost(self) -> None:
        """Its link is gone: its process has ended, by itself or by us, or is about to."""
        self.ready = False
        self._transport = None
        self._metrics.loaded("challenger", self.version, False)
        child, self._child = self._child, None
        asked, self._asked = self._asked, {}
        why, self._why = self._why, ""
        for item in asked.values():
            if item.timer is not None:
                item.timer.cancel()
            failed = UNAVAILABLE if self._closed else "ended"
            reply = Reply(failed=failed, detail=why or "its process ended")
            if item.shadow:
                item.asker.shadowed(item.job, reply)
            elif not item.late:
                item.asker.came(item.job, reply)
        if child is not None:
            self._start_task = self._loop.create_task(self._bury(child, why))

    async def _bury(self, child: Child, why: str) -> None:
        """See that the process ends, which may take it long, and decide what comes next."""
        code = await self._loop.run_in_executor(None, child.wait)
        if self._closed:
            return
        reason = why or f"its process ended with {code}"
        log.error("challenger %s: %s", self.version, reason)
        too_often = self._failures.ended(reason, time.monotonic())
        if too_often:
            self._out(too_often)
        else:
            self._restart()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            child = self._child
            if child is None:
                continue
            if child.has_ended:
                self._cut()  # what it started may hold the link still
                continue
            resident = child.resident
            if resident > self._limit:
                self._kill("memory", f"it held {resident} bytes, more than challenger_memory")
            elif self.ready and self._silent_for() > self._patience:
                self._kill("hang", f"it did not answer for {self._patience:g} s")
            elif not self.ready and time.monotonic() - self._started > _LOAD_S:
                self._kill("load", f"it did not load in {_LOAD_S:g} s")

    def _kill(self, kind: str, why: str = "") -> None:
        self.ready = False
        if self._child is not None:
            if kind:
                self._metrics.killed(kind)
            self._why = why
            self._child.kill()
            self._cut()

    def _cut(self) -> None:
        """Close the link, of which `lost` is told."""
        if self._transport is not None:
            self._transport.abort()

    # --- judging --------------------------------------------------------------------------------

    def _send(
        self,
        body: bytes,
        content_type: str,
        rows: Sequence[int] | None,
        job: Any,
        asker: Asker,
        shadow: bool,
    ) -> int:
        self._next += 1
        number = self._next
        self._asked[number] = _Asked(job, asker, time.monotonic(), shadow)
        header = {"id": number, "type": content_type, "rows": rows}
        if self._transport is not None:
            self._transport.write(challenger_framing.packed(header, body))
        return number

    def _silent_for(self) -> float:
        """For how many seconds it has owed an answer: it answers in the order of asking."""
        for asked in self._asked.values():
            return time.monotonic() - asked.at
        return 0.0

    def _overdue(self) -> bool:
        """Whether the answer that comes next is late already, so that waiting is pointless."""
        return any(asked.late for asked in self._asked.values())

    def _late(self, number: int) -> None:
        asked = self._asked.get(number)
        if asked is not None and not asked.late:
            asked.late = True
            asked.asker.came(asked.job, Reply(failed="slow"))

    def _judge(self, trouble: str) -> None:
        if self._closed:
            return
        too_often = self._failures.unused(trouble)
        if too_often:
            self._out(too_often)

    def _out(self, reason: str) -> None:
        evidence = {"reason": reason, "asked": self._next, **self._failures.evidence}
        self._closed = True
        self._watch.cancel()
        self._kill("")
        self._take_out(self.version, evidence)


class _Link(asyncio.Protocol):
    def __init__(self, challenger: Challenger) -> None:
        self._challenger = challenger
        self._unpacker = challenger_framing.Unpacker()

    def data_received(self, data: bytes) -> None:
        try:
            for header, body in self._unpacker.feed(data):
                self._challenger.received(header, body)
        except (ValueError, KeyError, TypeError) as e:
            self._challenger._kill("protocol", f"it answered what nobody asked: {e}")

    def connection_lost(self, error: Exception | None) -> None:
        self._challenger.lost()
