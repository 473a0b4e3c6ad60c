"""The events of a run and how one is written as a line. Standard library only.

An event is one JSON object on one line: `at` (seconds since the epoch, when it was recorded),
`kind`, `run` (mlp's id of the run it belongs to) and what the kind needs:

    run_started   parent, name, stage, tags, mlflow_id   a run exists (or is running again)
    run_ended     status                             FINISHED, FAILED or KILLED
    run_detached  (nothing)                          it goes on without us; its end comes later
    metrics       values {name: float}, step         at one step; timestamp (ms) if the user's own
    params        values {name: str}
    tags          values {name: str}
    file          path, to                           a file or directory, an artifact from now on
    inputs        datasets [{name, digest, profile, context}]
    model         model, name, path, tags, params, status    a model's directory, complete
    cached        fingerprint                        of a stage: another run did this work
    command       command, exit_code                 one command of a stage ended
    dropped       count                              events that a full disk refused
"""

import json
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One line of an event file."""

    at: float
    kind: str
    run: str
    data: dict[str, Any]


def encode(event: Event) -> bytes:
    """The event as a line that ends with a newline."""
    head = {"at": event.at, "kind": event.kind, "run": event.run}
    return json.dumps(head | event.data, separators=(",", ":"), default=str).encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """The event of a complete line, or None where the line is not one (torn by a crash)."""
    try:
        data = json.loads(line)
        return Event(float(data.pop("at")), str(data.pop("kind")), str(data.pop("run")), data)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
