"""The end of a stage's record, which its checkpoints carry where they outlive the record.

A node may be lost in the moment between a checkpoint and the delivery of what was recorded before
it. Another pod goes on from the checkpoint, and would never record those steps again.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from mlp.adapters.base import event_file, statefile
from mlp.adapters.base.event_file import EventFile
from mlp.core.layout import RunLayout
from mlp.core.runs.events import Event, decode, encode

# What is older than this was kept in the remote by the pod: see `pod_record`.
_MOST_BYTES = 4 * 2**20
# Others speak of files and of runs that went with the pod.
_KINDS = ("metrics", "params", "tags")
_log = logging.getLogger("mlp")


def end_of(run: RunLayout, stage_run_id: str) -> str:
    """The stage's events that the tracking server may not have yet, as lines."""
    try:
        events = [event for event in _undelivered(run) if event.run == stage_run_id]
    except OSError as e:  # training goes on
        _log.warning("the checkpoint does not carry the end of the record: %s", e)
        return ""
    return "".join(encode(event).decode() for event in events if event.kind in _KINDS)


def go_on_after(lines: str, run: RunLayout, record: EventFile) -> None:
    """Record what `end_of` gave in an earlier life, unless all of it is still here."""
    carried = lines.encode().splitlines(keepends=True)
    kept = map(Path, event_file.files(str(run.events)))
    if not carried or any(carried[0] in path.read_bytes() for path in kept):
        return
    for line in carried:
        event = decode(line)
        if event is not None:
            record.repeat(event)


def _undelivered(run: RunLayout) -> Iterator[Event]:
    offsets = statefile.read(run.delivery).get("offsets", {})
    for path in map(Path, event_file.files(str(run.events))):
        start = max(offsets.get(path.name, 0), path.stat().st_size - _MOST_BYTES)
        yield from (event for event, _ in event_file.read(str(path), start) if event is not None)
