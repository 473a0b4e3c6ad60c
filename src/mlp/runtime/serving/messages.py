"""Reading requests and writing answers by ASGI's messages."""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mlp.runtime.serving.prediction_job import Response

_ENCODINGS = ("gzip", "deflate")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Headers:
    """The headers that the server looks at."""

    __slots__ = (
        "authorization",
        "content_encoding",
        "content_length",
        "content_type",
        "request_id",
        "route_key",
    )

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self.authorization: bytes | None = None
        self.content_encoding: bytes | None = None
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
            elif name == b"content-encoding":
                self.content_encoding = value


def problem(message: str) -> bytes:
    """The body of an answer that is not a success."""
    return json.dumps({"message": message}).encode()


async def read_body(
    receive: Receive, headers: Headers, limit: int, over: "asyncio.Future[Response] | None"
) -> bytes | Response | None:
    """The body of a request, unpacked; None where the client has gone.

    A response instead where it is longer than `limit`, said or not, packed or not, where it is
    packed in an unknown way, or when `over` has one.
    """
    body = await _sent(receive, headers, limit, over)
    if headers.content_encoding is None or not isinstance(body, bytes):
        return body
    return _unpacked(body, headers.content_encoding, limit)


async def _sent(
    receive: Receive, headers: Headers, limit: int, over: "asyncio.Future[Response] | None"
) -> bytes | Response | None:
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


def _unpacked(body: bytes, encoding: bytes, limit: int) -> bytes | Response:
    """A body without its Content-Encoding (RFC 9110, 8.4); no more than `limit` is unpacked."""
    name = encoding.decode("latin-1").strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _ENCODINGS:
        allowed = ", ".join(_ENCODINGS)
        return Response(415, problem(f"Content-Encoding may be {allowed}, not {name!r}"))
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: gzip and zlib, by the first bytes
    try:
        found = unpacker.decompress(body, limit + 1)
    except zlib.error as e:
        return Response(400, problem(f"the body is not {name}: {e}"))
    if len(found) > limit:
        return _too_large(limit)
    return found if unpacker.eof else Response(400, problem(f"the {name} body ends too early"))


def _too_large(limit: int) -> Response:
    return Response(413, problem(f"a request may have {limit} bytes"), close=True)
