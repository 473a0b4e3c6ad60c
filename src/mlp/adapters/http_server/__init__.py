"""The door to uvicorn: serves an ASGI application on a socket, and drains before it ends."""

import socket
from collections.abc import Callable, Sequence
from typing import Any

from mlp.core.errors import MissingExtraError


def check() -> None:
    """Raise MissingExtraError where what a server needs is not installed."""
    import importlib.util

    needed = ("uvicorn", "uvloop", "httptools", "orjson", "prometheus_client")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError("serving", "serve", cause=f"missing: {', '.join(missing)}")


def cors(app: Any, origins: Sequence[str]) -> Any:
    """The application for pages of these origins too: preflights are answered, headers added.

    Credentials are not allowed: a token is sent in `Authorization`, by the page itself.
    """
    # It comes with MLflow, whose own server is built on it.
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=[
            *("Authorization", "Content-Encoding", "Content-Type", "X-Request-Id", "X-Route-Key")
        ],
        expose_headers=["X-Request-Id", "X-Model-Version", "X-Route", "X-Logged", "Retry-After"],
    )


class Stopper:
    """Ends a running server; made before it, filled by it. Only for the server's own thread.

    `stop` takes nobody new any more; `retire` leaves those who come to other processes that share
    the socket, and gives those who are connected `linger` seconds to ask once more.
    """

    def __init__(self) -> None:
        self.stop: Callable[[], None] = lambda: None
        self.retire: Callable[[], None] = lambda: None


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
    import uvloop

    from mlp.adapters.http_server.draining import Server, settings

    listener.setblocking(False)
    server = Server(settings(app, patience), listener, on_start, accepts, on_drain, linger)
    stopper.stop, stopper.retire = server.stop, server.retire
    uvloop.run(server.serve(sockets=[listener]))
