"""uvicorn's server, which goes on accepting for a while after the signal, and then drains."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

log = logging.getLogger("mlp.serving")

_LOOK_S = 0.02
_PAUSE_S = 0.5


class Server(uvicorn.Server):  # type: ignore[misc]
    """Serves on `listener`; the other arguments are those of `http_server.run`."""

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        on_start: Callable[[], None],
        accepts: Callable[[], bool],
        on_drain: Callable[[], None],
        linger: float,
    ) -> None:
        super().__init__(config)
        self._listener = listener
        self._on_start = on_start
        self._accepts = accepts
        self._on_drain = on_drain
        self._linger = linger
        self._draining = False
        self._retiring = False
        self._connecting: set[asyncio.Task[None]] = set()  # a task that nobody holds may vanish

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take requests as soon as this server is to."""
        self._loop = asyncio.get_running_loop()
        self._on_start()
        while not (self._accepts() or self._draining):
            await asyncio.sleep(_LOOK_S)
        await super().startup([])
        self._listener.listen(self.config.backlog)
        self._accept()

    def _accept(self) -> None:
        if not (self.should_exit or self._retiring):
            self._loop.add_reader(self._listener, self._accept_one)

    def _accept_one(self) -> None:
        """The other workers accept too: who takes all that wait at once leaves them idle.

        That is what uvloop does: then all of a client's connections may lie with one worker.
        """
        try:
            connection = _accepted(self._listener)
        except ConnectionAbortedError:  # gone already
            return
        except OSError as e:  # no descriptor is left for it
            log.error("a connection has to wait: %s", e)
            self._loop.remove_reader(self._listener)
            self._loop.call_later(_PAUSE_S, self._accept)
            return
        if connection is not None:
            task = self._loop.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        await self._loop.connect_accepted_socket(self._protocol, connection)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, end at once at the second."""
        if self._draining:
            self.stop()
            return
        self._draining = True
        seconds = self._linger if sig == signal.SIGTERM else 0.0
        self._loop.call_soon_threadsafe(self._drain, seconds)

    def _drain(self, seconds: float) -> None:
        self._on_drain()
        self._loop.call_later(seconds, self.stop)

    def stop(self) -> None:
        """Take nobody new; what is under way is answered."""
        self.should_exit = True

    def retire(self) -> None:
        """Leave who comes from now on to the others that share the socket, and end."""
        if self._draining:
            return
        self._draining = self._retiring = True
        self._loop.remove_reader(self._listener)
        self._on_drain()
        self._loop.call_later(self._linger, self.stop)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer those too whom the kernel has connected and nobody has accepted yet."""
        # Closing a socket resets such connections. Who comes in between is reset all the same: a
        # load balancer has left by then, and the chart's preStop waits until every node has.
        self._loop.remove_reader(self._listener)
        if self._connecting:
            await asyncio.wait(self._connecting)
        while not self._retiring and (connection := _accepted(self._listener)) is not None:
            await self._connect(connection)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(
            config=self.config, server_state=self.server_state, app_state={}
        )
        return made


def settings(app: Any, patience: float) -> uvicorn.Config:
    """uvicorn's settings for `app`; requests under way at the end get `patience` seconds."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=True,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(patience)),
    )


def _accepted(listener: socket.socket) -> socket.socket | None:
    """A connection that waits to be accepted, None where there is none."""
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return None
    connection.setblocking(False)
    return connection
