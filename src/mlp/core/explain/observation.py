"""What a cluster has of a job, as its API sends it, and how to read that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from mlp.core.launch.job_spec import INDEX_LABEL, MAIN_CONTAINER

Object = Mapping[str, Any]

KUEUE_ABSENT = "Kueue is not installed in the cluster"


@dataclass(frozen=True, slots=True)
class Observation:
    """A job and what has to do with it, at one time."""

    job: Object | None
    """None: the cluster has no such job."""
    pods: Sequence[Object] = ()
    """Those of the job, the failed ones too."""
    events: Sequence[Object] = ()
    """Warnings about the job, its pods and the namespace's claims; what else was out of the
    ordinary, where pods of the job are gone."""
    nodes: Sequence[Object] = ()
    quotas: Sequence[Object] = ()
    claims: Sequence[Object] = ()
    workload: Object | None = None
    """Kueue's Workload, of a job that is in a queue."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """What of the above could not be read, by its name here, and why."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is as it is, without a full stop, and what to do about it."""

    text: str
    fix: str = ""


# --- any object ---------------------------------------------------------------------------------


def name(item: Object) -> str:
    """The object's name."""
    return str(item["metadata"]["name"])


def condition(item: Object, kind: str) -> Object | None:
    """The condition of this type in the object's status."""
    found: Sequence[Object] = item.get("status", {}).get("conditions") or ()
    return next((c for c in found if c.get("type") == kind), None)


def is_true(item: Object, kind: str) -> bool:
    """Whether the condition of this type holds."""
    return (condition(item, kind) or {}).get("status") == "True"


def leaves(item: Object) -> bool:
    """Whether the object is being deleted."""
    return "deletionTimestamp" in item["metadata"]


def asked_to_leave(item: Object) -> str:
    """When it was deleted, "" where it was not: the time that the API has is the end of grace."""
    metadata = item["metadata"]
    if "deletionTimestamp" not in metadata:
        return ""
    grace = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    return f"{instant(metadata['deletionTimestamp']) - grace:%Y-%m-%dT%H:%M:%SZ}"


def instant(text: str) -> datetime:
    """A time as the API writes it (RFC 3339)."""
    return datetime.fromisoformat(text)


def clock(text: str) -> str:
    """The time of day of one, for people."""
    return f"{instant(text).astimezone(UTC):%H:%M} UTC"


def ago(text: str, now: datetime) -> str:
    """How long ago that was: 35 s, 12 min, 3 h."""
    seconds = max(0, int((now - instant(text)).total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def times(number: int, thing: str) -> str:
    """1 pod, 2 pods."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def clipped(text: str, most: int = 300) -> str:
    """The first line of `text`, shortened, without a full stop."""
    line = next(iter(text.strip().splitlines()), "").strip().rstrip(".")
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


# --- a job --------------------------------------------------------------------------------------


def gang(seen: Observation) -> int:
    """How many pods the job is to have."""
    return int((seen.job or {}).get("spec", {}).get("completions") or 1)


def template(seen: Observation) -> Object:
    """The specification of the job's pods."""
    found: Object = (seen.job or {}).get("spec", {}).get("template", {}).get("spec", {})
    return found


def nodes_word(seen: Observation, number: int) -> str:
    """ " (2 of 4 pods)" where the gang has several and not all are meant."""
    total = gang(seen)
    return f" ({number} of {total} pods)" if total > 1 and number < total else ""


# --- its pods -----------------------------------------------------------------------------------


def index(pod: Object) -> int:
    """Which node of the gang the pod is."""
    metadata = pod["metadata"]
    for place in ("annotations", "labels"):
        if INDEX_LABEL in (metadata.get(place) or {}):
            return int(metadata[place][INDEX_LABEL])
    return 0


def place(pod: Object) -> str:
    """The name of the cluster's node that the pod is on, "" where it has none."""
    return str(pod["spec"].get("nodeName") or "")


def phase(pod: Object) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    return str(pod.get("status", {}).get("phase") or "Pending")


def current(seen: Observation) -> list[Object]:
    """The pods that are to run or do: neither ended nor on their way out."""
    return [p for p in seen.pods if phase(p) in ("Pending", "Running") and not leaves(p)]


def states(pod: Object) -> Iterator[tuple[str, Object]]:
    """The containers' names and states, in the order in which they run."""
    status = pod.get("status", {})
    for kind in ("initContainerStatuses", "containerStatuses"):
        for each in status.get(kind) or ():
            yield each["name"], each.get("state") or {}


def runs_since(pod: Object) -> str | None:
    """Since when the main container runs, None where it does not."""
    state = dict(states(pod)).get(MAIN_CONTAINER, {})
    return state["running"].get("startedAt") if "running" in state else None


def began(pod: Object) -> str:
    """When the main container was started, "" where it was not."""
    state = dict(states(pod)).get(MAIN_CONTAINER, {})
    inner = state.get("running") or state.get("terminated") or {}
    return str(inner.get("startedAt") or "")


def ever_ran(pod: Object) -> bool:
    """Whether the main container has been started."""
    state = dict(states(pod)).get(MAIN_CONTAINER, {})
    return "running" in state or "terminated" in state


def containers(pod_spec: Object) -> list[Object]:
    """The containers of a pod's specification, the main one first."""
    return [*pod_spec.get("containers", ()), *pod_spec.get("initContainers", ())]


# --- events and nodes ---------------------------------------------------------------------------


def when(event: Object) -> str:
    """The last time that an event was seen."""
    series = event.get("series") or {}
    found = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(found or event["metadata"].get("creationTimestamp") or "")


def newest_event(seen: Observation, kind: str, named: str, *reasons: str) -> Object | None:
    """The last event of these reasons that is about this object."""
    about = [
        event
        for event in seen.events
        if event.get("reason") in reasons and _about(event) == (kind, named)
    ]
    return max(about, key=when, default=None)


def newest_events(seen: Observation, kind: str, *reasons: str) -> dict[str, Object]:
    """The last event of these reasons about each object of a kind, by the object's name."""
    events = sorted((e for e in seen.events if e.get("reason") in reasons), key=when)
    return {_about(event)[1]: event for event in events if _about(event)[0] == kind}


def _about(event: Object) -> tuple[str, str]:
    about = event["involvedObject"]
    return str(about.get("kind")), str(about.get("name"))


def lost_nodes(seen: Observation) -> dict[str, str]:
    """The cluster's nodes that are not reachable or not ready: since when, by name."""
    lost = {}
    for node in seen.nodes:
        ready = condition(node, "Ready")
        if ready is not None and ready.get("status") != "True":
            lost[name(node)] = str(ready.get("lastTransitionTime") or "")
    return lost
