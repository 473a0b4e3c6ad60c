"""What was recorded is in the file, whatever happens to the process or the disk."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlp.adapters.base import event_file
from mlp.adapters.base.event_file import EventFile

Limit = Callable[[int | None], None]


def events(directory: Path) -> list[Any]:
    found = []
    for path in event_file.files(str(directory)):
        found += [event for event, _ in event_file.read(path)]
    return found


def kinds(directory: Path) -> list[str]:
    return [event.kind for event in events(directory) if event is not None]


def test_what_was_recorded_before_a_kill_is_there(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from mlp.adapters.base.event_file import EventFile; j = EventFile(sys.argv[1])\n"
        "for i in range(100): j.metrics('r', {'x': i}, i)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert kinds(tmp_path) == ["metrics"] * 100


def test_a_torn_last_line_is_left_and_one_in_the_middle_skipped(tmp_path: Path) -> None:
    own = EventFile(str(tmp_path))
    own.record("tags", "r", values={"a": "b"})
    (path,) = event_file.files(str(tmp_path))
    with open(path, "ab") as file:
        file.write(b'{"at": 1, "ki\n{"at": 2, "kind": "tags", "run": "r"}\n{"at": 3, "kind"')
    read = list(event_file.read(path))
    assert [event.kind if event else None for event, _ in read] == ["tags", None, "tags"]
    assert next(event_file.read(path, read[0][1]))[0] is None  # goes on where it left off


def test_a_forked_child_writes_to_a_file_of_its_own(tmp_path: Path) -> None:
    own = EventFile(str(tmp_path))
    own.record("tags", "parent", values={})
    child = os.fork()
    if child == 0:
        own.record("tags", "child", values={})
        os._exit(0)
    os.waitpid(child, 0)
    own.record("tags", "parent", values={})
    files = [{e.run for e, _ in event_file.read(p) if e} for p in event_file.files(str(tmp_path))]
    assert files == [{"parent"}, {"child"}]


@pytest.fixture
def small_files() -> Iterator[Limit]:
    """No file of this process may grow beyond 4 kB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1]))

    yield limit
    limit(None)
    signal.signal(signal.SIGXFSZ, handler)


def test_what_a_full_disk_refuses_is_written_once_there_is_room(
    tmp_path: Path, small_files: Limit
) -> None:
    own = EventFile(str(tmp_path))
    small_files(4000)
    for i in range(200):
        own.metrics("r", {"x": i}, i)
    assert 0 < len(kinds(tmp_path)) < 200
    small_files(None)
    own.metrics("r", {"x": 200}, 200)
    found = events(tmp_path)
    assert [event.data["step"] for event in found] == list(range(201))


def test_what_waits_for_room_is_not_written_by_a_fork_too(
    tmp_path: Path, small_files: Limit
) -> None:
    own = EventFile(str(tmp_path))
    small_files(4000)
    for i in range(100):
        own.metrics("r", {"x": i}, i)
    small_files(None)
    child = os.fork()
    if child == 0:
        own.record("tags", "child", values={})
        os._exit(0)
    os.waitpid(child, 0)
    own.metrics("r", {"x": 100}, 100)
    assert kinds(tmp_path).count("metrics") == 101


def test_more_than_memory_may_hold_is_dropped_and_counted(
    tmp_path: Path, small_files: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_file, "MAX_PENDING_BYTES", 2000)
    own = EventFile(str(tmp_path))
    small_files(1000)
    for i in range(200):
        own.metrics("r", {"x": i}, i)
    small_files(None)
    for i in (200, 201):
        own.metrics("r", {"x": i}, i)
    found = events(tmp_path)
    assert None not in found
    dropped = sum(event.data["count"] for event in found if event.kind == "dropped")
    assert dropped > 0
    assert kinds(tmp_path).count("metrics") + dropped == 202


def test_a_directory_that_cannot_be_made_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    own = EventFile(str(tmp_path / "file" / "events"))
    own.record("tags", "r", values={"a": object()})
    own.metrics("r", {"x": 1.0}, 0)


def test_a_secret_in_any_part_of_an_event_does_not_reach_the_file(tmp_path: Path) -> None:
    own = EventFile(str(tmp_path), lambda text: text.replace('s"cret', "***"))
    own.record("params", "r", values={'a s"cret': ['b s"cret', {"c": 's"cret'}]}, n=1, x=None)
    (path,) = event_file.files(str(tmp_path))
    assert "cret" not in Path(path).read_text().replace("***", "")
    (event,) = events(tmp_path)
    assert event.data == {"values": {"a ***": ["b ***", {"c": "***"}]}, "n": 1, "x": None}


def test_a_run_without_events_has_no_files(tmp_path: Path) -> None:
    assert event_file.files(str(tmp_path / "nothing")) == []
