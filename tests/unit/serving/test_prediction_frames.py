"""What lies in a journal is found again, whatever happened to the bytes around it."""

from hypothesis import given
from hypothesis import strategies as st

from mlp.adapters.predictions.frames import Damage, Frame, head, marker, scan

MARK = marker("20261125T070000-1-0123456789abcdef")
FRAMES = st.lists(
    st.builds(Frame, st.binary(max_size=40), st.binary(max_size=80), st.binary(max_size=40)),
    max_size=8,
)


def written(frames: list[Frame]) -> list[bytes]:
    return [
        head(MARK, frame.header, frame.request, frame.response)
        + frame.header
        + frame.request
        + frame.response
        for frame in frames
    ]


def sound(data: bytes) -> list[Frame]:
    return [found for found in scan(data, MARK) if isinstance(found, Frame)]


def damages(data: bytes) -> list[Damage]:
    return [found for found in scan(data, MARK) if isinstance(found, Damage)]


@given(FRAMES)
def test_what_was_written_is_read(frames: list[Frame]) -> None:
    assert list(scan(b"".join(written(frames)), MARK)) == frames


@given(FRAMES, st.data())
def test_a_torn_tail_costs_the_record_that_it_tears(
    frames: list[Frame], data: st.DataObject
) -> None:
    parts = written(frames)
    whole = b"".join(parts)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    complete = sum(end <= cut for end in ends)
    assert sound(whole[:cut]) == frames[:complete]
    at = ends[complete - 1] if complete else 0
    assert damages(whole[:cut]) == ([Damage(at, cut, torn=True)] if cut > at else [])


@given(FRAMES.filter(len), st.data())
def test_a_changed_byte_costs_one_record_and_is_counted(
    frames: list[Frame], data: st.DataObject
) -> None:
    parts = written(frames)
    victim = data.draw(st.integers(0, len(parts) - 1))
    at = data.draw(st.integers(0, len(parts[victim]) - 1))
    hurt = bytearray(parts[victim])
    hurt[at] ^= data.draw(st.integers(1, 255))
    parts[victim] = bytes(hurt)
    assert sound(b"".join(parts)) == frames[:victim] + frames[victim + 1 :]
    assert len(damages(b"".join(parts))) == 1


@given(FRAMES.filter(len), st.data())
def test_bytes_that_are_missing_cost_the_records_that_miss_them(
    frames: list[Frame], data: st.DataObject
) -> None:
    parts = written(frames)
    victim = data.draw(st.integers(0, len(parts) - 1))
    start = data.draw(st.integers(0, len(parts[victim]) - 1))
    stop = data.draw(st.integers(start + 1, len(parts[victim])))
    parts[victim] = parts[victim][:start] + parts[victim][stop:]
    assert sound(b"".join(parts)) == frames[:victim] + frames[victim + 1 :]


@given(FRAMES.filter(len), st.binary(max_size=60))
def test_records_of_another_segment_in_a_body_are_no_records(
    frames: list[Frame], more: bytes
) -> None:
    """Who sends a request with records in it cannot make them count, not even after damage."""
    other = marker("another")
    forged = head(other, b"{}", more, b"") + b"{}" + more
    (part,) = written([Frame(b"{}", forged, b"")])
    hurt = bytes([part[0] ^ 1]) + part[1:]
    assert sound(hurt + b"".join(written(frames))) == frames
