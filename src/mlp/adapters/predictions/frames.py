"""How records lie in a segment: framed so that a torn or damaged one cannot hide the next.

A frame is MARKER (8) | header, request, response length (4 each) | CRC-32 of these three parts |
CRC-32 of the frame's head | header | request | response. The marker follows from the segment's
name, so that no request's body can pretend to hold one. Lines of JSON, as in `event_file`, would
have every body escaped before it is answered.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from zlib import crc32

MARKER_SIZE = 8
_LENGTHS = struct.Struct("<8sIIII")
_CHECK = struct.Struct("<I")
HEAD_SIZE = _LENGTHS.size + _CHECK.size


@dataclass(frozen=True, slots=True)
class Frame:
    """A record as it was written; `header` is JSON."""

    header: bytes
    request: bytes
    response: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of a segment that holds no sound record; `torn`: the segment ends in it."""

    start: int
    end: int
    torn: bool


def marker(name: str) -> bytes:
    """What each frame of the segment `name` begins with."""
    return blake2b(name.encode(), digest_size=MARKER_SIZE).digest()


def head(mark: bytes, header: bytes, request: bytes, response: bytes) -> bytes:
    """What stands before the three parts in the segment whose marker is `mark`."""
    check = crc32(response, crc32(request, crc32(header)))
    lengths = _LENGTHS.pack(mark, len(header), len(request), len(response), check)
    return lengths + _CHECK.pack(crc32(lengths))


def scan(data: bytes, mark: bytes, start: int = 0) -> Iterator[Frame | Damage]:
    """All records from `start` on, in order, and what lies between them where it is damaged."""
    at, end = start, len(data)
    while at < end:
        found = _frame(data, mark, at, end)
        if found is not None:
            frame, at = found
            yield frame
            continue
        # Bytes may be missing: the next sound head counts, wherever this one said it would be.
        following = _next(data, mark, at + 1, end)
        yield Damage(at, following, torn=following >= end)
        at = following


def _frame(data: bytes, mark: bytes, at: int, end: int) -> tuple[Frame, int] | None:
    """The frame at `at` and where it ends; None where it is not sound."""
    if at + HEAD_SIZE > end:
        return None
    lengths = data[at : at + _LENGTHS.size]
    (check_head,) = _CHECK.unpack(data[at + _LENGTHS.size : at + HEAD_SIZE])
    if lengths[:MARKER_SIZE] != mark or crc32(lengths) != check_head:
        return None
    _, n_header, n_request, n_response, check = _LENGTHS.unpack(lengths)
    first = at + HEAD_SIZE
    second = first + n_header
    third = second + n_request
    stop = third + n_response
    if stop > end:
        return None
    header, request, response = data[first:second], data[second:third], data[third:stop]
    if crc32(response, crc32(request, crc32(header))) != check:
        return None
    return Frame(header, request, response), stop


def _next(data: bytes, mark: bytes, at: int, end: int) -> int:
    """Where the next sound head begins."""
    while True:
        at = data.find(mark, at)
        if at < 0 or at + HEAD_SIZE > end:
            return end
        lengths = data[at : at + _LENGTHS.size]
        if crc32(lengths) == _CHECK.unpack(data[at + _LENGTHS.size : at + HEAD_SIZE])[0]:
            return at
        at += 1
