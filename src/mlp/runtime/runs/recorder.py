"""Delivers the events of runs to MLflow, in a process of its own beside the run.

`python -m mlp.runtime.runs.recorder RUN_DIR...`: each run is followed until it has ended and all of
it is delivered. How far that is lies on the disk, so that another recorder goes on where this one
was killed; delivering an event twice changes nothing. Ends with 0 when everything was delivered.
"""

import argparse
import heapq
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlp.adapters.base import event_file, lock, processes
from mlp.core.errors import (
    ConfigurationError,
    LoginRefused,
    MlpError,
    RemoteError,
    from_os_error,
)
from mlp.core.layout import RunLayout
from mlp.core.runs import environment, tracking_uri
from mlp.core.runs.events import Event
from mlp.core.runs.run_header import RunHeader
from mlp.core.secrets import MASK, Masker, mask_urls

if TYPE_CHECKING:
    from mlp.adapters.tracking import Delivery

_POLL_S = 0.2
_BATCH = 2000
_MOST_REFUSED = 20
# Importing MLflow takes two seconds of a processor: the run's own start comes first. A job in CI
# waits for the delivery, so that there it begins at once.
_HEAD_START_S = 0.0 if os.environ.get("CI") else 1.0
# How long a run that has ended is tried on a server that is away; later commands try again.
_PATIENCE_S = 30.0
# How long the stages of a killed run have to end by themselves.
_GRACE_S = 5.0
_log = logging.getLogger("mlp.recorder")


@dataclass
class DeliveryProgress:
    """How far the delivery of one run is; the file `delivery.json` of the run."""

    offsets: dict[str, int] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    open_runs: list[str] = field(default_factory=list)
    done: bool = False
    error: str = ""
    refused: list[str] = field(default_factory=list)
    """What MLflow refused for good, each once, as far as it is worth listing."""

    @classmethod
    def load(cls, path: Path) -> "DeliveryProgress":
        """What the file says; a damaged one means starting over, which changes nothing."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return cls()

    def save(self, path: Path) -> None:
        """Replace the file in one step."""
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(asdict(self)), encoding="utf-8")
        part.replace(path)


def main(arguments: Sequence[str]) -> int:
    """Deliver each run; returns 0 when all of them are, 5 when something is left."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    # The address is printed with the password in it.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    parser = argparse.ArgumentParser(prog="mlp.runtime.runs.recorder", description=__doc__)
    parser.add_argument("--patience", type=float, default=_PATIENCE_S)
    parser.add_argument("directories", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    first, *earlier = map(RunLayout, options.directories)
    _let_start(first)
    for run in earlier:  # what they made may be what the first one finds cached
        follow(run, patience=0.0)
    left = [run for run in (first, *earlier) if not follow(run, options.patience)]
    return 5 if left else 0


def follow(run: RunLayout, patience: float = _PATIENCE_S) -> bool:
    """Deliver one run until it has ended; returns whether everything is delivered.

    A server that is away is tried for `patience` seconds beyond the run's end. A run whose process
    was killed is ended here, as KILLED.
    """
    if DeliveryProgress.load(run.delivery).done:
        return True
    with lock.held(run.delivery_lock) as mine:
        if not mine:
            return False  # another recorder is at it
        progress = DeliveryProgress.load(run.delivery)
        try:
            return progress.done or _follow(run, progress, patience)
        except MlpError as e:
            _note_failure(run, progress, e)
        except Exception as e:  # noqa: BLE001 - the last door: what is not delivered says why
            _log.exception("a bug in mlp")
            bug = MlpError("this is a bug in mlp", cause=f"{type(e).__name__}: {e}")
            _note_failure(run, progress, bug)
        return False


def _follow(run: RunLayout, progress: DeliveryProgress, patience: float) -> bool:
    connect = cache(lambda: _connect(run, progress))
    give_up: float | None = None
    wait = _POLL_S
    while True:
        alive = lock.is_held(run.alive)
        try:
            moved = _deliver(run, progress, connect)
            wait = _POLL_S
        except RemoteError as e:
            _note_failure(run, progress, e)
            moved, wait = False, min(wait * 2, 15.0)
            if not alive:
                if isinstance(e, LoginRefused):
                    return False
                give_up = give_up or time.monotonic() + patience
                if time.monotonic() + wait > give_up:
                    return False
            time.sleep(wait)
            continue
        if not alive and not moved:
            if progress.open_runs:
                # What is left of its stages would go on for nobody; it may record its end first.
                if not processes.end(environment.RUN_DIR, str(run.path), _GRACE_S):
                    _end_killed(run, progress.open_runs)
                continue
            progress.done, progress.error = True, ""
            progress.save(run.delivery)
            return True
        if not moved:
            time.sleep(wait)


def _let_start(run: RunLayout) -> None:
    until = time.monotonic() + _HEAD_START_S
    while lock.is_held(run.alive) and time.monotonic() < until:
        time.sleep(_POLL_S)


def _connect(run: RunLayout, progress: DeliveryProgress) -> "Delivery":
    from mlp.adapters.tracking import Delivery

    header = RunHeader.from_json(run.header.read_text(encoding="utf-8"))
    uri = _tracking_uri(header.tracking_uri, run)
    # The first recorder of a project makes its experiment; two at once would both try.
    with lock.held(run.path.parent / "connect.lock", wait=True):
        return Delivery(
            uri,
            header.experiment,
            run.path,
            progress.ids,
            header.mlflow_id,
            joins=header.joins,
        )


def _deliver(run: RunLayout, progress: DeliveryProgress, connect: "Callable[[], Delivery]") -> bool:
    """Deliver what is there by now; returns whether there was something."""
    moved = False
    for events, offsets in _batches(str(run.events), progress.offsets):
        delivery = connect()
        delivery.deliver(events)
        _keep_refused(progress, delivery.refused)
        progress.offsets |= offsets
        for event in events:
            _keep_count(progress.open_runs, event)
        progress.error = ""
        progress.save(run.delivery)
        moved = True
    return moved


def _tracking_uri(recorded: str | None, run: RunLayout) -> str:
    """The run's address; where it holds a secret, that is handed over in the environment only."""
    if recorded is None:
        raise ConfigurationError("the run has no address to be delivered to")
    if MASK not in recorded:
        return tracking_uri.absolute(recorded, run.project)
    given = os.environ.get(environment.TRACKING_URI, "")
    if recorded not in (mask_urls(given), Masker(os.environ).text(given)):
        raise ConfigurationError(
            f"the run was made for {recorded}, and this command is for another server",
            fix="it is delivered by a command with the settings that it was made with",
        )
    return given


def _batches(
    directory: str, offsets: dict[str, int]
) -> Iterator[tuple[list[Event], dict[str, int]]]:
    """The undelivered events of all files by time, in batches, with the offsets behind each.

    An event recorded after this call began waits for the next one: whatever happened before an
    event that is read now, in whichever process, is in its file and is read now too.
    """
    until = time.time()
    streams = [
        _stream(path, offsets.get(Path(path).name, 0), until)
        for path in event_file.files(directory)
    ]
    events: list[Event] = []
    behind: dict[str, int] = {}
    for _, name, offset, event in heapq.merge(*streams, key=lambda entry: entry[0]):
        behind[name] = offset
        if event is not None:
            events.append(event)
        if len(events) >= _BATCH:
            yield events, behind
            events, behind = [], {}
    if events:
        yield events, behind


def _stream(path: str, offset: int, until: float) -> Iterator[tuple[float, str, int, Event | None]]:
    at = 0.0
    for event, behind in event_file.read(path, offset):
        at = event.at if event is not None else at
        if at > until:
            return
        yield at, Path(path).name, behind, event


def _keep_count(open_runs: list[str], event: Event) -> None:
    if event.kind == "run_started" and event.run not in open_runs:
        open_runs.append(event.run)
    elif event.kind in ("run_ended", "run_detached") and event.run in open_runs:
        open_runs.remove(event.run)


def _keep_refused(progress: DeliveryProgress, refused: list[str]) -> None:
    masker = Masker(os.environ)
    for line in map(masker.text, refused):
        if line not in progress.refused and len(progress.refused) < _MOST_REFUSED:
            progress.refused.append(line)
    refused.clear()


def _end_killed(run: RunLayout, open_runs: Sequence[str]) -> None:
    """The runs that nobody ended: whoever would have done it is dead."""
    ending = event_file.EventFile(str(run.events))
    for run_id in open_runs[::-1]:
        if run.log(run_id).exists():
            ending.record("file", run_id, path=str(run.log(run_id)), to="logs")
        ending.record("run_ended", run_id, status="KILLED")


def _note_failure(run: RunLayout, progress: DeliveryProgress, error: MlpError) -> None:
    text = Masker(os.environ).text(error.one_line())
    _log.warning("%s", text)
    progress.error = text
    progress.save(run.delivery)


if __name__ == "__main__":
    os.nice(10)  # the run itself comes first
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as failure:  # a full disk: what is recorded stays, and is delivered later
        _log.warning("%s", from_os_error(failure).message)
        sys.exit(5)
