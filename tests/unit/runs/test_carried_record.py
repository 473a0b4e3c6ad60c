"""The end of a stage's record that a checkpoint carries into another pod."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.adapters.base import event_file
from mlp.adapters.base.event_file import EventFile
from mlp.core.layout import RunLayout
from mlp.core.runs.events import Event
from mlp.runtime.launch.carried_record import end_of, go_on_after

RUN, STAGE = "r", "s"


def events(run: RunLayout) -> list[Event]:
    paths = event_file.files(str(run.events))
    return [event for path in paths for event, _ in event_file.read(path) if event is not None]


def lives(folder: Path) -> tuple[RunLayout, RunLayout]:
    """The run's directory in the pod that is lost, and in the one after it."""
    return RunLayout(folder / "first" / RUN), RunLayout(folder / "second" / RUN)


@given(values=st.lists(st.floats(allow_nan=False) | st.text(), max_size=20))
def test_every_value_is_recorded_again_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, values: list[float | str]
) -> None:
    first, second = lives(tmp_path_factory.mktemp("run"))
    record = EventFile(str(first.events))
    for step, value in enumerate(values):
        if isinstance(value, str):
            record.record("tags", STAGE, values={"tag": value})
        else:
            record.metrics(STAGE, {"loss": value}, step)
    for _ in range(2):  # the second time it is there
        go_on_after(end_of(first, STAGE), second, EventFile(str(second.events)))
        assert events(second) == events(first)


def test_what_is_delivered_and_what_is_of_other_runs_or_files_stays_behind(tmp_path: Path) -> None:
    first, second = lives(tmp_path)
    record = EventFile(str(first.events))
    record.metrics(STAGE, {"loss": 1.0}, 0)
    [path] = map(Path, event_file.files(str(first.events)))
    first.delivery.write_text(json.dumps({"offsets": {path.name: path.stat().st_size}}))
    record.metrics(STAGE, {"loss": 0.5}, 1)
    record.metrics("another", {"loss": 9.0}, 1)
    record.record("file", STAGE, path="plot.png", to="plots")
    go_on_after(end_of(first, STAGE), second, EventFile(str(second.events)))
    [event] = events(second)
    assert event.data == {"values": {"loss": 0.5}, "step": 1}
