import json
import socket
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.core.errors import ConfigurationError
from mlp.runtime.serving import challenger_framing, feedback
from mlp.runtime.serving.start import read_spec, state_of
from mlp.runtime.serving.supervisor import listen

HEADERS = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8), max_size=3)


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=64)), max_size=5), st.integers(1, 17))
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    messages: list[tuple[dict[str, object], bytes]], step: int
) -> None:
    stream = b"".join(challenger_framing.packed(header, body) for header, body in messages)
    unpacker = challenger_framing.Unpacker()
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
        {"request_id": "", "label": 1},
        {"request_id": "a", "label": 1, "row": -1},
        {"request_id": "a", "label": 1, "row": True},
        {"request_id": "a", "label": 1, "row": 2**31},
        {"request_id": "a", "label": 1, "row": 99999999999},
        {"request_id": "a", "label": 1, "other": 1},
        {"request_id": "a", "label": None},
        [{"request_id": "a", "label": 1}, None],
    ],
)
def test_what_is_no_label_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"feedback|row|label null"):
        feedback.parse(wrong)


def test_labels_are_read_one_or_many() -> None:
    (one,) = feedback.parse({"request_id": "a", "label": "x"})
    assert (one.request_id, one.label, one.row) == ("a", "x", 0)
    assert len(feedback.parse([{"request_id": "a", "label": 1, "row": 3}] * 2)) == 2
    (last,) = feedback.parse({"request_id": "a", "label": 1, "row": 2**31 - 1})
    assert last.row == 2**31 - 1


def test_variables_go_before_the_spec(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "spec.json"
    about = {"model": "m", "tracking_uri": "u", "state": None, "cache": "c", "journal": "j"}
    path.write_text(json.dumps(about))
    spec = read_spec(path, {"MLP_SERVE_HOST": "0.0.0.0", "MLP_SERVE_PORT": "81"})
    assert (spec.serve.host, spec.serve.port) == ("0.0.0.0", 81)
    assert state_of(spec, {"MLP_STATE": "sqlite:///a"}) == "sqlite:///a"


def test_a_port_that_becomes_free_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match="cannot listen"):
            listen("127.0.0.1", port, patience=0.3)
        threading.Timer(0.5, other.close).start()
        with listen("127.0.0.1", port) as listener:
            assert listener.getsockname()[1] == port
    assert f"127.0.0.1:{port} is taken: waiting 10 s for it" in caplog.text


def test_what_mlflow_says_of_a_database_that_is_away_is_not_repeated() -> None:
    script = """
from mlp.runtime.serving.start import set_up_logging
set_up_logging("worker 0")
import logging, mlflow.store.db.utils as utils
try:
    raise ValueError("away")
except ValueError:
    utils._logger.exception("SQLAlchemy database error")
utils._logger.warning("another thing")
"""
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "another thing" in said
    assert "Traceback" not in said and "database error" not in said
