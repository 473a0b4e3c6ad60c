"""The pods of a Deployment: how many serve, and why the others do not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]

# An annotation of the pods: a digest of what they are made from.
MARK = "mlp/values"
# What a container waits for that does not come by itself.
_STUCK = (
    *("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CrashLoopBackOff"),
    *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod: whether requests go to it, and why not. `stuck`: that does not go away by itself.

    `new`: it is of what was deployed last. `restarts` counts its container's ends so far.
    """

    name: str
    node: str
    ready: bool
    new: bool
    leaving: bool
    restarts: int
    reason: str = ""
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many pods there are to be, how many are ready, and each of them.

    `problem`: why the cluster makes no pods, "" where it does.
    """

    wanted: int
    ready: int
    pods: Sequence[Pod]
    problem: str = ""
    settled: bool = False

    @property
    def stuck(self) -> Pod | None:
        """A new pod that does not get ready by itself."""
        return next((pod for pod in self.pods if pod.new and pod.stuck), None)


def replicas(deployment: Object, pods: Iterable[Object]) -> Replicas:
    """What the Deployment and its pods say."""
    spec, status = deployment["spec"], deployment.get("status", {})
    wanted = int(spec.get("replicas", 1))
    mark = _mark(spec["template"]["metadata"])
    found = [_pod(pod, mark) for pod in pods]
    counts = [int(status.get(key, 0)) for key in ("replicas", "updatedReplicas", "readyReplicas")]
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    settled = seen and counts == [wanted] * 3
    return Replicas(wanted, counts[2], found, _problem(status), settled)


def _mark(metadata: Object) -> object:
    """By this, which the chart writes, pods of one template are told from those of another."""
    return (metadata.get("annotations") or {}).get(MARK)


def _pod(pod: Object, mark: object) -> Pod:
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in _conditions(status))
    leaving = "deletionTimestamp" in metadata
    container: Object = next(iter(status.get("containerStatuses", ())), {})
    reason, stuck = ("", False) if ready or leaving else _why(status, container)
    return Pod(
        metadata["name"],
        spec.get("nodeName", ""),
        ready and not leaving,
        _mark(metadata) == mark,
        leaving,
        int(container.get("restartCount", 0)),
        "it is leaving" if leaving else reason,
        stuck,
    )


def _why(status: Object, container: Object) -> tuple[str, bool]:
    """Why a pod is not ready, and whether that stays so."""
    scheduled = next((c for c in _conditions(status) if c["type"] == "PodScheduled"), None)
    if scheduled is not None and scheduled["status"] == "False":
        return str(scheduled.get("message", "no node takes it")), False
    if status.get("phase") == "Failed":
        return str(status.get("message") or status.get("reason") or "it failed"), False
    waiting = container.get("state", {}).get("waiting", {})
    if waiting:
        return _waits(waiting, container.get("lastState", {}).get("terminated", {}))
    if container.get("started") is False or not container:
        return "it starts: there is no model in it yet", False
    return "it has no model that answers: GET /ready tells why", False


def _waits(waiting: Object, last: Object) -> tuple[str, bool]:
    what = str(waiting.get("reason", ""))
    stuck = what in _STUCK
    if what == "CrashLoopBackOff":
        code = last.get("exitCode")
        why = "it used more memory than its limit" if last.get("reason") == "OOMKilled" else ""
        ended = f"its process ended with {code}" if code is not None else "its process ends"
        return why or f"{ended} again and again", stuck
    message = " ".join(str(waiting.get("message", "")).split())
    return (f"{what}: {message}" if message else what or "it starts"), stuck


def _problem(status: Object) -> str:
    failing = [
        c
        for c in _conditions(status)
        if (c["type"] == "ReplicaFailure" and c["status"] == "True")
        or (c["type"] == "Progressing" and c["status"] == "False")
    ]
    return str(failing[0].get("message", failing[0].get("reason", ""))) if failing else ""


def _conditions(status: Object) -> Sequence[Object]:
    found: Sequence[Object] = status.get("conditions") or ()
    return found
