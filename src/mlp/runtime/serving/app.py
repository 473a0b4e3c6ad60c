"""The HTTP side of a worker, as a bare ASGI application: limits, access, and who answers what."""

import asyncio
import hmac
import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from mlp.adapters.predictions.prediction_journal import PredictionJournal
from mlp.adapters.prometheus import CONTENT_TYPE, Metrics
from mlp.core.quantities import amount
from mlp.core.serving.serve_section import Serve
from mlp.runtime.serving import feedback, pages
from mlp.runtime.serving.answering import Answering
from mlp.runtime.serving.messages import Headers, problem, read_body, send_plain
from mlp.runtime.serving.prediction_job import PredictionJob, Response, settle
from mlp.runtime.serving.registry_following import RegistryFollowing

log = logging.getLogger("mlp.serving")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Handler = Callable[[Headers, Receive, Send], Awaitable[None]]

_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_SWEEP_S = 0.1
# As MLflow's server words it.
_TIME_OVER = Response(504, b"Request processing time exceeded limit")
_BUSY = Response(503, problem("too many requests are waiting; try again"), retry=True)
_OPEN = frozenset({"/ping", "/health", "/ready"})


class App:
    """Answers HTTP requests of one worker."""

    def __init__(
        self,
        serve: Serve,
        model: str,
        following: RegistryFollowing,
        answering: Answering,
        journal: PredictionJournal | None,
        metrics: Metrics,
    ) -> None:
        self._serve = serve
        self._model = model
        self._following = following
        self._answering = answering
        self._journal = journal
        self._metrics = metrics
        self._limit = int(amount(serve.max_request))
        self._timeout = float(serve.timeout)
        self._max_waiting = serve.max_waiting
        token = os.environ.get(serve.token_env, "") if serve.token_env else ""
        self._token = token.encode() if serve.token_env else None
        self._waiting: OrderedDict[int, tuple[float, asyncio.Future[Response]]] = OrderedDict()
        self._under_way = 0
        self._number = 0
        self._draining = False
        self._hung = False
        self._handlers: dict[str, dict[str, Handler]] = {
            "/invocations": {"POST": self._invocations},
            "/ping": {"GET": self._ping},
            "/health": {"GET": self._ping},
            "/version": {"GET": self._mlflow_version},
            "/ready": {"GET": self._ready},
            "/metrics": {"GET": self._show_metrics},
            "/feedback": {"POST": self._feedback},
            "/openapi.json": {"GET": self._openapi},
            "/docs": {"GET": self._docs},
        }

    def start(self) -> None:
        """In the event loop, before the first request."""
        asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def drain(self) -> None:
        """No longer ready; every answer from now on ends its connection."""
        self._draining = True

    def give_up(self) -> None:
        """The champion hangs: answer what waits for it, for nothing else will."""
        self._hung = self._draining = True
        for _, future in self._waiting.values():
            settle(future, _TIME_OVER)

    def not_ready(self) -> str:
        """Why this worker is not ready, empty where it is."""
        if self._hung:
            return "the champion hangs; this worker is being replaced"
        if self._draining:
            return "draining"
        if self._following.champion is None:
            return "no champion is loaded yet"
        return ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        path: str = scope["path"]
        methods = self._handlers.get(path)
        headers = Headers(scope["headers"])
        if self._token is not None and path not in _OPEN:
            given = _bearer(headers.authorization)
            if not self._token or not hmac.compare_digest(given, self._token):
                extra = [(b"www-authenticate", b"Bearer")]
                await self._plain(send, 401, problem("a bearer token is needed"), extra=extra)
                return
        if methods is None:
            await self._unknown(path, scope, send)
            return
        handler = methods.get(scope["method"])
        if handler is None:
            extra = [(b"allow", ", ".join(methods).encode())]
            await self._plain(send, 405, b'{"detail":"Method Not Allowed"}', extra=extra)
            return
        await handler(headers, receive, send)

    # --- predictions ----------------------------------------------------------------------------

    async def _invocations(self, headers: Headers, receive: Receive, send: Send) -> None:
        given = headers.request_id
        if given is not None and _SANE_ID.fullmatch(given):
            request_id = given.decode()
        else:
            request_id = os.urandom(16).hex()
        started = time.monotonic()
        if self._busy():
            await self._answer(send, request_id, _BUSY, started)
            return
        self._under_way += 1
        self._metrics.in_flight.inc()
        try:
            response = await self._predict(headers, receive, request_id, started)
        finally:
            self._under_way -= 1
            self._metrics.in_flight.dec()
        if response is not None:
            await self._answer(send, request_id, response, started)

    def _busy(self) -> bool:
        """Whether one more could not be answered in time, as far as those before it tell.

        A request that is alone is always tried: otherwise nothing would ever be faster again.
        """
        waiting = self._under_way
        too_slow = (waiting + 1) * self._answering.pace > self._timeout
        return waiting >= self._max_waiting or (waiting > 0 and too_slow)

    async def _predict(
        self, headers: Headers, receive: Receive, request_id: str, started: float
    ) -> Response | None:
        """The answer; None where the client has gone."""
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._number += 1
        number = self._number
        self._waiting[number] = (started + self._timeout, future)
        try:
            body = await read_body(receive, headers, self._limit, future)
            if body is None:
                return None
            if isinstance(body, bytes):
                key, kind = headers.route_key, headers.content_type
                self._answering.begin(
                    PredictionJob(
                        request_id,
                        body,
                        None if kind is None else kind.decode("latin-1"),
                        None if key is None else _text(key),
                        started + self._timeout,
                        future,
                    )
                )
                return await future
            return body
        finally:
            self._waiting.pop(number, None)

    async def _answer(
        self, send: Send, request_id: str, response: Response, started: float
    ) -> None:
        body = response.body
        headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", response.content_type),
            (b"x-request-id", request_id.encode()),
        ]
        if response.version:
            headers.append((b"x-model-version", response.version.encode()))
            headers.append((b"x-route", response.route.encode()))
        if not response.logged:
            headers.append((b"x-logged", b"false"))
        if response.retry:
            headers.append((b"retry-after", b"1"))
        if self._draining or response.close:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        elapsed = time.monotonic() - started
        self._metrics.answered(response.route, response.version, response.status, elapsed)

    def _sweep(self) -> None:
        """Answer those whose time is over; all have the same, so that the oldest come first."""
        now = time.monotonic()
        for until, future in self._waiting.values():
            if until > now:
                break
            settle(future, _TIME_OVER)
        asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    # --- everything else ------------------------------------------------------------------------

    async def _ping(self, headers: Headers, receive: Receive, send: Send) -> None:
        healthy = self._following.champion is not None and not self._hung
        await self._plain(send, 200 if healthy else 404, b"\n")

    async def _mlflow_version(self, headers: Headers, receive: Receive, send: Send) -> None:
        await self._plain(send, 200, version("mlflow").encode())

    async def _ready(self, headers: Headers, receive: Receive, send: Send) -> None:
        why, challenger = self.not_ready(), self._answering.challenger
        detail = {
            "ready": not why,
            "reason": why,
            "model": self._model,
            "worker": os.getpid(),
            "challenger_ready": challenger is not None and challenger.ready,
            **self._following.detail(),
        }
        await self._plain(send, 503 if why else 200, pages.as_json(detail))

    async def _show_metrics(self, headers: Headers, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(None, self._metrics.exposition)
        await self._plain(send, 200, text, CONTENT_TYPE.encode())

    async def _feedback(self, headers: Headers, receive: Receive, send: Send) -> None:
        if self._journal is None:
            await self._plain(send, 404, problem("this server keeps no log of predictions"))
            return
        body = await read_body(receive, headers, self._limit, None)
        if isinstance(body, bytes):
            status, text = feedback.take(body, self._journal)
            extra = [(b"retry-after", b"1")] if status == 503 else []
            await self._plain(send, status, text, extra=extra)
        elif body is not None:
            await self._plain(send, body.status, body.body, extra=[(b"connection", b"close")])

    async def _openapi(self, headers: Headers, receive: Receive, send: Send) -> None:
        await self._plain(send, 200, pages.openapi(self._model, self._following.champion))

    async def _docs(self, headers: Headers, receive: Receive, send: Send) -> None:
        page = pages.docs(self._model, self._following.champion)
        await self._plain(send, 200, page, b"text/html; charset=utf-8")

    async def _unknown(self, path: str, scope: Scope, send: Send) -> None:
        bare = path.rstrip("/")
        if path != bare and bare in self._handlers:  # as MLflow's server redirects
            host = next((v for n, v in scope["headers"] if n == b"host"), b"")
            query = b"?" + scope["query_string"] if scope["query_string"] else b""
            where = b"".join((scope["scheme"].encode(), b"://", host, bare.encode(), query))
            await self._plain(send, 307, b"", None, [(b"location", where)])
            return
        await self._plain(send, 404, b'{"detail":"Not Found"}')

    async def _plain(
        self,
        send: Send,
        status: int,
        body: bytes,
        content_type: bytes | None = b"application/json",
        extra: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        more = list(extra or [])
        if self._draining:
            more.append((b"connection", b"close"))
        await send_plain(send, status, body, content_type, more)


def _bearer(header: bytes | None) -> bytes:
    """The token of a header `Authorization`; empty where it has none. Any case of the scheme."""
    scheme, _, token = (header or b"").partition(b" ")
    return token if scheme.lower() == b"bearer" else b""


def _text(header: bytes) -> str:
    """A header as text: UTF-8, as a column has it, or Latin-1 where it is not."""
    try:
        return header.decode("utf-8")
    except UnicodeDecodeError:
        return header.decode("latin-1")
