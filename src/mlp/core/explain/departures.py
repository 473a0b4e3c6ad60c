"""The pods of a job that are gone, as the job's status and the cluster's events tell of them.

A deleted pod leaves no object behind: what is left names only those that it took along.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlp.core.explain.observation import (
    Object,
    Observation,
    asked_to_leave,
    index,
    name,
    newest_events,
    phase,
    place,
    when,
)

# What the cluster says about a pod that it takes away, as conditions of pods call the same.
_TAKEN_BY = {
    "Preempted": "PreemptionByScheduler",
    "TaintManagerEviction": "DeletionByTaintManager",
    "NodeNotReady": "DeletionByPodGC",
}
_KILLED = "Killing"
_DELETED = "Deleted pod: "


@dataclass(frozen=True, slots=True)
class Departure:
    """A pod that did not end by itself, and is gone. What no event tells is ""."""

    index: int
    place: str = ""
    at: str = ""
    because: str = ""
    """Who took it, in the words of the condition DisruptionTarget; "": who may delete pods."""
    with_job: bool = False
    """The Job's own controller deleted it: the job had failed."""


def expected(job: Object | None, pods: Sequence[Object]) -> bool:
    """Whether the job counts more failed pods than there are."""
    status = (job or {}).get("status", {})
    uncounted = (status.get("uncountedTerminatedPods") or {}).get("failed") or ()
    failed = int(status.get("failed") or 0) + len(uncounted)
    return failed > sum(phase(pod) == "Failed" for pod in pods)


def departures(seen: Observation) -> list[Departure]:
    """The pods that are gone, the first one first; then those that are only counted."""
    found = sorted(_of_events(seen), key=lambda departure: departure.at)
    known = {index(pod) for pod in seen.pods} | {departure.index for departure in found}
    return [*found, *(Departure(each) for each in _failed_indexes(seen) if each not in known)]


def departing(seen: Observation, pod: Object) -> Departure:
    """A pod that was told to leave and is there still."""
    by_job = name(pod) in _deleted_by_job(seen)
    return Departure(index(pod), place(pod), asked_to_leave(pod), with_job=by_job)


def _deleted_by_job(seen: Observation) -> frozenset[str]:
    """The names of the pods that the Job's controller deleted."""
    return frozenset(
        str(event["message"]).removeprefix(_DELETED)
        for event in seen.events
        if event.get("reason") == "SuccessfulDelete"
    )


def _failed_indexes(seen: Observation) -> list[int]:
    """The nodes that failed as often as they may, by the job's status ("0,3-5")."""
    text = str((seen.job or {}).get("status", {}).get("failedIndexes") or "")
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _of_events(seen: Observation) -> Iterator[Departure]:
    there = {name(pod) for pod in seen.pods}
    by_job = _deleted_by_job(seen)
    taken = newest_events(seen, "Pod", *_TAKEN_BY)
    killed = newest_events(seen, "Pod", _KILLED)
    for pod in {**taken, **killed}:
        node = _node(seen, pod)
        if pod in there or node is None:
            continue
        event = killed.get(pod) or taken[pod]
        host = str((event.get("source") or {}).get("host") or "") if pod in killed else ""
        because = _TAKEN_BY[taken[pod]["reason"]] if pod in taken else ""
        yield Departure(node, host, when(event), because, pod in by_job)


def _node(seen: Observation, pod: str) -> int | None:
    """Which node of the gang a pod of this name was: JOB-INDEX-XXXXX."""
    job = name(seen.job) if seen.job is not None else ""
    match = re.fullmatch(rf"{re.escape(job)}-(\d+)-[a-z0-9]+", pod)
    return int(match[1]) if match is not None else None
