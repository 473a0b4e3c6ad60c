"""The parent of the workers: holds the listening socket, and replaces workers that die or hang.

Uvicorn's own supervisor asks a thread of the worker whether it lives; here the event loop itself
says so, so that a worker whose loop is stuck is replaced too.
"""

import errno
import itertools
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mlp.adapters import prometheus
from mlp.core.errors import ConfigurationError
from mlp.core.serving.serve_section import ServeSpec

log = logging.getLogger("mlp.serving")

_BACKLOG = 2048
_TICK_S = 0.5
# Importing a model's libraries holds the interpreter's lock now and then.
_SILENCE_S = 30.0
_RESTART_S = 1.0
_PACK_AT_END_S = 20.0
_PORT_S = 10.0  # until a port is free that a server before this one, or its workers, still hold
_PORT_LOOK_S = 0.1


@dataclass
class _Worker:
    """A worker's process. `succeeds`: the slot of the one that it takes over from, once ready;
    `until`: when one that has a successor has to be gone."""

    slot: int
    process: "subprocess.Popen[bytes]"
    beats: int  # the reading end of its pipe
    seen: float
    ready: bool = False
    succeeds: int | None = None
    until: float | None = None


class Supervisor:
    """Starts the workers of a server, and ends when it is told to and they have ended."""

    def __init__(self, spec: ServeSpec, *, as_json: bool = False) -> None:
        self._spec = spec
        self._as_json = as_json
        self._path: Path
        self._metrics: Path
        self._workers: dict[int, _Worker] = {}
        self._start_at: dict[int, float] = {}
        self._selector = selectors.DefaultSelector()
        self._ending = 0  # the signal that said so
        self._announced = False
        self._packer: subprocess.Popen[bytes] | None = None
        self._pack_at = time.monotonic()  # what a server before this one has left
        self._listener = listen(spec.serve.host, spec.serve.port)
        # A signal interrupts the wait for beats.
        self._wake, self._woken = os.pipe()
        for end in (self._wake, self._woken):
            os.set_blocking(end, False)
        self._selector.register(self._wake, selectors.EVENT_READ)

    @property
    def address(self) -> str:
        """Where the server listens."""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit code."""
        signal.set_wakeup_fd(self._woken)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        with tempfile.TemporaryDirectory(prefix="mlp-serving-") as folder:
            # What every worker reads, at any time, is what this server was started with.
            self._path = Path(folder) / "spec.json"
            self._path.write_text(self._spec.model_dump_json(), encoding="utf-8")
            self._metrics = Path(folder) / "metrics"
            self._metrics.mkdir()
            for slot in range(self._spec.serve.workers):
                self._start(slot)
            while not self._ending:
                self._wait(_TICK_S)
                self._tend()
            self._stop()
        return 0

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = number

    def _start(self, slot: int, succeeds: int | None = None) -> None:
        beats, theirs = os.pipe()
        os.set_blocking(beats, False)
        listener = self._listener.fileno()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlp.runtime.serving.worker", str(self._path)),
                *(str(listener), str(theirs), str(slot), str(self._metrics)),
                *(() if succeeds is None else ("successor",)),
            ],
            pass_fds=(listener, theirs),
            stdin=subprocess.DEVNULL,
            # A model's code is loaded from a folder whose files are checked.
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,  # Ctrl-C is for the supervisor, which tells them
        )
        os.close(theirs)
        self._workers[slot] = _Worker(slot, process, beats, time.monotonic(), succeeds=succeeds)
        self._selector.register(beats, selectors.EVENT_READ, slot)

    def _wait(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            told = os.read(key.fd, 4096)
            worker = self._workers.get(key.data) if key.data is not None else None
            if worker is None:
                continue
            if not told:  # it has ended, or is about to
                self._selector.unregister(key.fd)
                continue
            worker.seen = time.monotonic()
            worker.ready = told[-1:] == b"r"
            if b"s" in told:
                self._start_successor(worker)
            if worker.ready and worker.succeeds is not None:
                self._retire(worker)
        if not self._announced and all(w.ready for w in self._workers.values()):
            self._announced = True
            self._announce()

    def _announce(self) -> None:
        count = len(self._workers)
        line = f"serving {self._spec.model} at {self.address} ({count} worker(s))"
        if self._as_json:
            about = {"model": self._spec.model, "address": self.address, "workers": count}
            line = json.dumps(about | {"pid": os.getpid()})
        print(line, flush=True)  # noqa: T201

    def _tend(self) -> None:
        now = time.monotonic()
        silence = self._spec.serve.timeout + _SILENCE_S
        for slot, worker in list(self._workers.items()):
            if worker.process.poll() is not None:
                self._bury(worker, now)
            elif worker.until is not None and now > worker.until:
                log.error("worker %d did not drain in time: it is killed", slot)
                _kill(worker.process)
            elif now - worker.seen > silence:
                log.error("worker %d does not respond: it is killed", slot)
                _kill(worker.process)
        for slot, at in list(self._start_at.items()):
            if now >= at:
                del self._start_at[slot]
                self._start(slot)
        if self._spec.serve.log is not None and now >= self._pack_at:
            self._pack_at = now + self._spec.serve.rotate
            self._pack()

    def _start_successor(self, worker: _Worker) -> None:
        """Start a process for the champion that a worker cannot load beside what it has loaded."""
        if worker.until is None and self._successor(worker) is None:
            taken = self._workers.keys() | self._start_at.keys()
            slot = next(slot for slot in itertools.count() if slot not in taken)
            self._start(slot, succeeds=worker.slot)

    def _successor(self, worker: _Worker) -> _Worker | None:
        return next((w for w in self._workers.values() if w.succeeds == worker.slot), None)

    def _retire(self, successor: _Worker) -> None:
        """End the worker that a successor, which is ready, takes over from."""
        before = self._workers[successor.succeeds] if successor.succeeds is not None else None
        successor.succeeds = None
        if before is not None:
            log.info("worker %d takes over from worker %d", successor.slot, before.slot)
            before.until = time.monotonic() + self._spec.serve.drain
            before.process.send_signal(signal.SIGUSR1)

    def _bury(self, worker: _Worker, now: float) -> None:
        """What follows from the end of a worker's process: another one, where it is missed."""
        successor = self._successor(worker)
        self._forget(worker)
        if worker.until is not None:
            return
        log.error("worker %d ended with %d", worker.slot, worker.process.returncode)
        if successor is not None:
            successor.succeeds = None
        elif worker.succeeds is None:
            self._start_at[worker.slot] = now + _RESTART_S * (not worker.ready)

    def _pack(self) -> None:
        """Journals become Parquet in a process of low priority; one at a time."""
        if self._packer is None or self._packer.poll() is not None:
            command = [sys.executable, "-m", "mlp.runtime.serving.packing", str(self._path)]
            self._packer = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def _forget(self, worker: _Worker) -> None:
        if worker.beats in self._selector.get_map():
            self._selector.unregister(worker.beats)
        os.close(worker.beats)
        del self._workers[worker.slot]
        prometheus.forget(self._metrics, worker.slot)

    def _stop(self) -> None:
        log.info("ending: %d workers drain", len(self._workers))
        until = time.monotonic() + self._spec.serve.drain
        self._listener.close()  # the last worker that closes it ends it
        for worker in self._workers.values():
            worker.process.send_signal(self._ending)
        for worker in self._workers.values():
            try:
                worker.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("worker %d did not drain in time: it is killed", worker.slot)
                _kill(worker.process)
                worker.process.wait()
        if self._spec.serve.log is not None:
            self._finish_packing()

    def _finish_packing(self) -> None:
        try:
            if self._packer is not None:
                self._packer.wait(_PACK_AT_END_S)
            self._pack()
            if self._packer is not None:
                self._packer.wait(_PACK_AT_END_S)
        except subprocess.TimeoutExpired:
            log.warning("predictions stay in %s: the next start packs them", self._spec.journal)
            if self._packer is not None:
                self._packer.kill()


def listen(host: str, port: int, patience: float = _PORT_S) -> socket.socket:
    """A socket that listens, after `patience` at the latest.

    Raises ConfigurationError where that is not possible.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        until = time.monotonic() + patience
        told = False
        while True:
            try:
                return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
            except OSError as e:
                if e.errno != errno.EADDRINUSE or time.monotonic() > until:
                    raise
            if not told:
                told = True
                log.warning("%s:%d is taken: waiting %g s for it", host, port, patience)
            time.sleep(_PORT_LOOK_S)
    except KeyboardInterrupt as e:
        raise ConfigurationError(f"the server did not wait for {host}:{port}") from e
    except OSError as e:
        raise ConfigurationError(
            f"the server cannot listen at {host}:{port}",
            fix="mlp serve --port PORT, with a port that is free",
            cause=e.strerror or str(e),
        ) from e


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
