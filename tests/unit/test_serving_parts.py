import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.runtime.serving import feedback, wire
from mlp.runtime.serving.start import read_spec, state_of

HEADERS = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8), max_size=3)


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=64)), max_size=5), st.integers(1, 17))
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    messages: list[tuple[dict[str, object], bytes]], step: int
) -> None:
    stream = b"".join(wire.packed(header, body) for header, body in messages)
    unpacker = wire.Unpacker()
    found = []
    for start in range(0, len(stream), step):
        found += unpacker.feed(stream[start : start + step])
    assert found == messages


@pytest.mark.parametrize(
    "wrong",
    [
        1,
        {},
        {"request_id": "a"},
        {"label": 1},
        {"request_id": 1, "label": 1},
        {"request_id": "a", "label": 1, "row": -1},
        {"request_id": "a", "label": 1, "row": True},
        {"request_id": "a", "label": 1, "other": 1},
        [{"request_id": "a", "label": 1}, None],
    ],
)
def test_what_is_no_label_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"feedback|row"):
        feedback.parse(wrong)


def test_labels_are_read_one_or_many() -> None:
    (one,) = feedback.parse({"request_id": "a", "label": None})
    assert (one.request_id, one.label, one.row) == ("a", None, 0)
    assert len(feedback.parse([{"request_id": "a", "label": 1, "row": 3}] * 2)) == 2


def test_variables_go_before_the_spec(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "spec.json"
    about = {"model": "m", "tracking_uri": "u", "state": None, "cache": "c", "journal": "j"}
    path.write_text(json.dumps(about))
    spec = read_spec(path, {"MLP_SERVE_HOST": "0.0.0.0", "MLP_SERVE_PORT": "81"})
    assert (spec.serve.host, spec.serve.port) == ("0.0.0.0", 81)
    assert state_of(spec, {"MLP_STATE": "sqlite:///a"}) == "sqlite:///a"
