"""A worker: one event loop, one champion, one challenger's process.

`python -m mlp.runtime.serving.worker SPEC LISTENER HEARTBEAT SLOT METRICS [successor]`: the
descriptors of the socket to accept from and of a pipe to the supervisor, the worker's slot, the
metrics' folder, and whether it takes over from a worker that cannot load the champion.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from mlp.adapters import http_server
from mlp.adapters.base import statefile
from mlp.adapters.predictions.prediction_journal import Keeping, PredictionJournal
from mlp.adapters.prometheus import Metrics
from mlp.core.serving.serve_section import ServeSpec
from mlp.runtime.serving.answering import Answering
from mlp.runtime.serving.app import App, Receive, Scope, Send
from mlp.runtime.serving.challenger import Challenger
from mlp.runtime.serving.predictor import Predictor
from mlp.runtime.serving.registry_following import RegistryFollowing
from mlp.runtime.serving.start import read_spec, set_up_logging, state_of

log = logging.getLogger("mlp.serving")

SUCCESSOR = "successor"
BEAT_S = 1.0
_PARENT_S = 0.2  # between looks whether the supervisor is there
# From SIGTERM on connections are accepted this long, at most a third of serve.drain.
LINGER_S = 5.0
# A worker that starts leaves requests to the others until it has a model, at most this long.
_MODEL_S = 60.0


class ServingWorker:
    """Puts the parts of a worker together, and watches over its champion."""

    def __init__(
        self,
        spec: ServeSpec,
        heartbeat: int,
        slot: int,
        metrics: Path,
        refusal: Path,
        *,
        successor: bool,
    ) -> None:
        self._spec = spec
        self._refusal = refusal
        self._succeeds = successor  # until it has a champion
        self._heartbeat = heartbeat
        self._abandoned = False  # by the supervisor
        self._metrics = Metrics(metrics, slot)
        self._following = RegistryFollowing(spec, state_of(spec), self._metrics, refusal)
        self._journal = journal_of(spec)
        self._stopper = http_server.Stopper()
        self._app: App
        self._answering: Answering
        self._predictor: Predictor
        self._loop: asyncio.AbstractEventLoop

    def run(self, listener: socket.socket) -> int:
        """Serve until told to end; returns the exit code."""
        serve = self._spec.serve
        linger = min(LINGER_S, serve.drain / 3)
        http_server.run(
            http_server.cors(self._call, serve.cors) if serve.cors else self._call,
            listener,
            on_start=self._start,
            accepts=self._accepts,
            on_drain=self._drain,
            stopper=self._stopper,
            linger=linger,
            patience=serve.drain - linger,
        )
        if self._answering.challenger is not None:
            self._answering.challenger.stop()
        if self._journal is not None:
            self._journal.close()
        return 0

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _start(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._started = loop.time()
        serve = self._spec.serve
        self._predictor = Predictor(loop)
        self._answering = Answering(
            model=self._spec.model,
            route_by=serve.route_by,
            following=self._following,
            predictor=self._predictor,
            journal=self._journal,
            metrics=self._metrics,
        )
        self._app = App(
            serve,
            self._spec.model,
            self._following,
            self._answering,
            self._journal,
            self._metrics,
        )
        self._app.start()
        self._following.on_traffic = self._in_loop(self._follow_traffic)
        self._following.on_champion = self._in_loop(self._tell_ready)
        self._following.on_succession = self._hand_over
        self._following.on_refused = self._refused
        loop.add_signal_handler(signal.SIGUSR1, self._stopper.retire)
        self._following.start()
        if self._journal is not None:
            self._journal.runs = self._following.runs
            loop.call_later(serve.rotate, self._rotate)
        self._beat()
        self._watch_parent(os.getppid())

    def _in_loop(self, function: Callable[[], None]) -> Callable[[], None]:
        """What another thread calls, so that `function` runs in the event loop."""

        def call() -> None:
            self._loop.call_soon_threadsafe(function)

        return call

    def _accepts(self) -> bool:
        """Whether a request would be answered, or nothing is to be expected of waiting."""
        if self._following.champion is not None or self._abandoned:
            return True
        late = self._loop.time() > self._started + _MODEL_S
        return not self._succeeds and (self._following.idle or late)

    def _hand_over(self) -> None:
        """Ask for a process that loads the champion which this one cannot load."""
        if self._following.champion is None:
            self._give_way()
        self._loop.call_soon_threadsafe(self._tell_ready)

    def _refused(self, version: str, why: str) -> None:
        """Of a successor: say why to the worker before it, which goes on."""
        if self._succeeds and self._following.champion is None:
            statefile.write(self._refusal, {"version": version, "why": why})
            self._give_way()

    def _give_way(self) -> None:
        logging.shutdown()
        os._exit(1)

    def _drain(self) -> None:
        log.info("draining")
        self._app.drain()
        self._tell(b"d")

    def _beat(self) -> None:
        """Tell the supervisor that the event loop runs; see that the predictor does."""
        self._tell_ready()
        if self._predictor.busy_for() > self._spec.serve.timeout + BEAT_S:
            log.error("the champion hangs: this worker ends and is replaced")
            self._app.give_up()
            self._loop.call_later(0.5, os._exit, 1)  # its thread can be ended in no other way
            return
        self._loop.call_later(BEAT_S, self._beat)

    def _tell(self, what: bytes) -> None:
        try:
            os.write(self._heartbeat, what)
        except BlockingIOError:
            pass  # the supervisor is busy; the bytes that it has not read say the same
        except BrokenPipeError:
            self._abandon()

    def _watch_parent(self, parent: int) -> None:
        if os.getppid() != parent:
            self._abandon()
        else:
            self._loop.call_later(_PARENT_S, self._watch_parent, parent)

    def _abandon(self) -> None:
        """Answer what was accepted, and end: a server that is started anew needs the port."""
        if not self._abandoned:
            self._abandoned = True
            log.error("the supervisor has gone: this worker answers what it has, and ends")
            self._app.drain()
            self._stopper.stop()

    def _rotate(self) -> None:
        """Seal the journal, so that what is in it can be packed though nothing more comes."""
        if self._journal is not None:
            self._journal.rotate()
            self._loop.call_later(self._spec.serve.rotate, self._rotate)

    def _tell_ready(self) -> None:
        self._succeeds = self._succeeds and self._following.champion is None
        wish = b"s" if self._following.succession else b""
        self._tell(wish + (b"." if self._app.not_ready() else b"r"))

    def _follow_traffic(self) -> None:
        """Have the process of the challenger that is wanted, and no other."""
        now, old = self._following.traffic, self._answering.challenger
        wanted = now.challenger if now.share > 0 else None
        if old is not None and old.version == wanted and old.beside == now.shadow:
            return
        if old is not None:
            old.retire()
        self._answering.challenger = None
        if wanted is not None:
            self._answering.challenger = Challenger(
                wanted,
                self._spec.serve,
                self._metrics,
                self._following.challenger_files,
                self._following.take_out,
                shadow=now.shadow,
            )


def journal_of(spec: ServeSpec) -> PredictionJournal | None:
    """The journal of this process; None where no log is kept."""
    serve = spec.serve
    if serve.log is None:
        return None
    keeping = Keeping(
        features=serve.log_features,
        probabilities=serve.log_probabilities,
        hash_keys=serve.hash_keys,
        route_by=serve.route_by,
    )
    folder = Path(spec.journal)
    return PredictionJournal(folder, spec.model, keeping=keeping, max_age=serve.rotate)


def main(arguments: list[str]) -> int:
    """Run a worker; returns the exit code."""
    path, listener, heartbeat, slot, metrics, *role = arguments
    spec = read_spec(Path(path))
    set_up_logging(f"worker {slot}")
    os.set_blocking(int(heartbeat), False)
    worker = ServingWorker(
        spec,
        int(heartbeat),
        int(slot),
        Path(metrics),
        Path(path).with_name("refused.json"),
        successor=role == [SUCCESSOR],
    )
    return worker.run(socket.socket(fileno=int(listener)))


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    os._exit(code)  # threads that wait for a registry that is away would be waited for
