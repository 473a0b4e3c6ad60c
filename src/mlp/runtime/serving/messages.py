"""Reading requests and writing answers by ASGI's messages."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mlp.runtime.serving.job import Response

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Headers:
    """The headers that the server looks at."""

    __slots__ = ("authorization", "content_length", "content_type", "request_id", "route_key")

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self.authorization: bytes | None = None
        self.content_length: bytes | None = None
        self.content_type: bytes | None = None
        self.request_id: bytes | None = None
        self.route_key: bytes | None = None
        for name, value in raw:
            if name == b"content-type":
                self.content_type = value
            elif name == b"content-length":
                self.content_length = value
            elif name == b"x-request-id":
                self.request_id = value
            elif name == b"x-route-key":
                self.route_key = value
            elif name == b"authorization":
                self.authorization = value


def problem(message: str) -> bytes:
    """The body of an answer that is no success."""
    return json.dumps({"message": message}).encode()


async def read_body(
    receive: Receive, headers: Headers, limit: int, over: "asyncio.Future[Response] | None"
) -> bytes | Response | None:
    """The body of a request; None where the client has gone.

    A response instead where it is longer than `limit`, said or not, or when `over` has one.
    """
    said = headers.content_length
    if said is not None and int(said) > limit:
        return _too_large(limit)
    message = await receive()
    if not message.get("more_body", False):
        if message["type"] != "http.request":
            return None
        body: bytes = message["body"]
        return body if len(body) <= limit else _too_large(limit)
    pieces = [message["body"]]
    size = len(pieces[0])
    while message.get("more_body", False):
        found = await _unless(receive, over)
        if isinstance(found, Response):
            return found
        message = found
        if message["type"] != "http.request":
            return None
        pieces.append(message["body"])
        size += len(pieces[-1])
        if size > limit:
            return _too_large(limit)
    return b"".join(pieces)


async def send_plain(
    send: Send,
    status: int,
    body: bytes,
    content_type: bytes | None,
    extra: Iterable[tuple[bytes, bytes]],
) -> None:
    """An answer in one piece."""
    headers = [(b"content-length", b"%d" % len(body)), *extra]
    if content_type is not None:
        headers.append((b"content-type", content_type))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _unless(
    receive: Receive, over: "asyncio.Future[Response] | None"
) -> dict[str, Any] | Response:
    """The next message, or the response where that comes first."""
    if over is None:
        return await receive()
    coming = asyncio.ensure_future(receive())
    await asyncio.wait((coming, over), return_when=asyncio.FIRST_COMPLETED)
    if coming.done():
        return coming.result()
    coming.cancel()
    timed_out = over.result()
    return Response(timed_out.status, timed_out.body, close=True)


def _too_large(limit: int) -> Response:
    return Response(413, problem(f"a request may have {limit} bytes"), close=True)
