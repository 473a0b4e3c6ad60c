"""An event comes back as it was recorded; a damaged line is no event."""

import json

from hypothesis import given
from hypothesis import strategies as st

from mlp.core.runs.events import Event, decode, encode

NAMES = st.text(min_size=1).filter(lambda name: name not in ("at", "kind", "run"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.builds(
    Event, st.floats(0, 1e11), st.text(), st.text(), st.dictionaries(NAMES, VALUES, max_size=4)
)


@given(EVENTS)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    line = encode(event)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert decode(line) == event


@given(EVENTS, st.data())
def test_a_torn_line_is_no_event(event: Event, data: st.DataObject) -> None:
    line = encode(event)
    cut = data.draw(st.integers(0, len(line) - 2))
    assert decode(line[:cut] + b"\n") is None


@given(st.binary(max_size=40))
def test_rubbish_is_no_event_and_no_error(line: bytes) -> None:
    event = decode(line)
    assert event is None or isinstance(event, Event)


def test_numbers_that_are_none_keep_their_meaning() -> None:
    event = decode(encode(Event(1.0, "metrics", "r", {"values": {"a": float("inf")}})))
    assert event is not None
    assert event.data["values"]["a"] == float("inf")
    assert json.loads(encode(event))
