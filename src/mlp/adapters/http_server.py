"""The door to uvicorn: serves an ASGI application on a socket, and drains before it ends."""

import asyncio
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

from mlp.core.errors import MissingExtraError

_LOOK_S = 0.02


def check() -> None:
    """Raise MissingExtraError where what a server needs is not installed."""
    import importlib.util

    needed = ("uvicorn", "uvloop", "httptools", "orjson", "prometheus_client")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError("serving", "serve", cause=f"missing: {', '.join(missing)}")


# A connection that is just accepted when the server ends may take this long to ask.
_SPEAK_S = 1.0


class Stopper:
    """Ends a running server; made before it, filled by it. Only for the server's own thread."""

    def __init__(self) -> None:
        self.stop: Callable[[], None] = lambda: None


def run(
    app: Any,
    listener: socket.socket,
    *,
    on_start: Callable[[], None],
    accepts: Callable[[], bool],
    on_drain: Callable[[], None],
    stopper: Stopper,
    linger: float,
    patience: float,
) -> None:
    """Serve until SIGTERM or SIGINT; returns when every request that was accepted is answered.

    `on_start` is called in the event loop before the first request is taken, which is not before
    `accepts` says so: until then others that share the socket take them. At the signal
    `on_drain` is called, and after SIGTERM connections are accepted as before for `linger` seconds:
    a load balancer learns only by then that this server goes. Requests that are under way after
    that get `patience` seconds more.
    """
    import uvicorn
    import uvloop

    class Server(uvicorn.Server):  # type: ignore[misc]
        """Goes on listening for a while after the signal."""

        _draining = False

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            self._loop = asyncio.get_running_loop()
            on_start()
            while not (accepts() or self._draining):
                await asyncio.sleep(_LOOK_S)
            await super().startup(sockets)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self._draining:
                self.should_exit = True
                return
            self._draining = True
            seconds = linger if sig == signal.SIGTERM else 0.0
            self._loop.call_soon_threadsafe(self._drain, seconds)

        def _drain(self, seconds: float) -> None:
            on_drain()
            self._loop.call_later(seconds, self.stop)

        def stop(self) -> None:
            self.should_exit = True

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # Closing a socket resets the connections that nobody has accepted yet: they are
            # accepted first, and get the time to say what they want.
            with listener.dup() as rest:
                for server in self.servers:
                    server.close()
                while (connection := _accepted(rest)) is not None:
                    await self._loop.connect_accepted_socket(self._protocol, connection)
            until = self._loop.time() + _SPEAK_S
            while self._loop.time() < until and not all(
                connection.cycle for connection in self.server_state.connections
            ):
                await asyncio.sleep(0.02)
            await super().shutdown(sockets)

        def _protocol(self) -> asyncio.Protocol:
            made: asyncio.Protocol = self.config.http_protocol_class(
                config=self.config, server_state=self.server_state, app_state={}
            )
            return made

    config = uvicorn.Config(
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
    listener.setblocking(False)
    server = Server(config)
    stopper.stop = server.stop
    uvloop.run(server.serve(sockets=[listener]))


def _accepted(listener: socket.socket) -> socket.socket | None:
    """A connection that waits to be accepted, None where there is none."""
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return None
    connection.setblocking(False)
    return connection
