"""Messages between a worker and its challenger's process: their lengths, a JSON header, a body."""

import json
import struct
from collections.abc import Iterator
from typing import Any

Message = tuple[dict[str, Any], bytes]

_LENGTHS = struct.Struct("!II")


def packed(header: dict[str, Any], body: bytes = b"") -> bytes:
    """A message as bytes."""
    text = json.dumps(header).encode()
    return b"".join((_LENGTHS.pack(len(text), len(body)), text, body))


class Unpacker:
    """Puts messages together from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete with `data`. Raises ValueError where it is none."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTHS.size:
            head, size = _LENGTHS.unpack_from(buffer)
            start = _LENGTHS.size + head
            if len(buffer) < start + size:
                return
            header = json.loads(buffer[_LENGTHS.size : start])
            body = bytes(buffer[start : start + size])
            del buffer[: start + size]
            yield header, body
