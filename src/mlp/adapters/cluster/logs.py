"""What the pods of a job print, followed over lost connections and replaced pods."""

import threading
from collections.abc import Callable
from typing import Any

from mlp.adapters.cluster.connection import Cluster, NotFoundError, Object, UnreachableError
from mlp.core.errors import RemoteError
from mlp.core.launch.job_spec import pods_of

# A watch that is silent for so long has lost its connection.
_SILENCE_S = 25.0
# A log may be silent for as long as the code is; then it is asked again.
_LOG_SILENCE_S = 3600.0
# Between two tries to read.
_AGAIN_S = 1.0


def follow_log(
    cluster: Cluster,
    job: str,
    index: int,
    container: str,
    emit: Callable[[bytes], None],
    stop: threading.Event,
) -> None:
    """Hand on each line that node `index` prints, of every pod that it has had, each once.

    Returns when `stop` is set and what was printed until then is read. A connection that is lost
    is made again, from the last line on.
    """
    labels = pods_of(job, index)
    finished: set[str] = set()
    seen = ""
    while True:
        stopping = stop.is_set()
        try:
            pod = _newest_with_log(cluster, labels, container, finished)
            if pod is None:
                if stopping:
                    return
                _await_change(cluster, labels, stop)
                continue
            seen, ended = _read_log(cluster, pod, container, seen, emit)
            if ended or stopping:
                finished.add(pod["metadata"]["uid"])
            else:  # the connection was lost, or the pod's node does not answer
                stop.wait(_AGAIN_S)
        except (RemoteError, OSError):
            if stopping:
                return
            stop.wait(_AGAIN_S)


def print_log(
    cluster: Cluster, job: str, index: int, container: str, emit: Callable[[bytes], None]
) -> None:
    """Hand on each line that the pods of node `index` have printed by now."""
    labels = pods_of(job, index)
    pods = cluster.get(cluster.path("pods"), labelSelector=labels)["items"]
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"])):
        if not _pending(pod, container):
            path = f"{cluster.path('pods', pod['metadata']['name'])}/log"
            for line in cluster.lines(path, _SILENCE_S, container=container):
                emit(line)


def _newest_with_log(
    cluster: Cluster, labels: str, container: str, finished: set[str]
) -> Object | None:
    pods = cluster.get(cluster.path("pods"), labelSelector=labels)["items"]
    started = [
        pod
        for pod in pods
        if pod["metadata"]["uid"] not in finished and not _pending(pod, container)
    ]
    return min(started, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)


def _pending(pod: Object, container: str) -> bool:
    for status in pod.get("status", {}).get("containerStatuses", []):
        if status["name"] == container:
            return "waiting" in status.get("state", {}) or not status.get("state")
    return True


def _await_change(cluster: Cluster, labels: str, stop: threading.Event) -> None:
    """Until something happens to the pods, or `stop` is set for a second."""
    listed = cluster.get(cluster.path("pods"), labelSelector=labels)
    version = listed["metadata"]["resourceVersion"]
    query: dict[str, Any] = {"labelSelector": labels, "resourceVersion": version}
    for _ in cluster.watch(cluster.path("pods"), _SILENCE_S, timeoutSeconds=2, **query):
        return
    stop.wait(0.1)


def _read_log(
    cluster: Cluster, pod: Object, container: str, seen: str, emit: Callable[[bytes], None]
) -> tuple[str, bool]:
    """Read on from the time `seen`; returns the time of the last line, and whether that was all."""
    query = {"container": container, "follow": "true", "timestamps": "true"}
    if seen:
        query["sinceTime"] = f"{seen[:19]}Z"  # whole seconds: what is older is left out below
    path = f"{cluster.path('pods', pod['metadata']['name'])}/log"
    try:
        for line in cluster.lines(path, _LOG_SILENCE_S, **query):
            at, _, text = line.partition(b" ")
            stamp = at.decode(errors="replace")
            if seen and _before(stamp, seen):
                continue
            seen = stamp
            emit(text)
    except UnreachableError:
        return seen, False
    return seen, _ended(cluster, pod, container)


def _before(stamp: str, seen: str) -> bool:
    """Whether a line is not after the last one; Go leaves out the zeros at a fraction's end."""
    return _padded(stamp) <= _padded(seen)


def _padded(stamp: str) -> str:
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{whole}.{fraction.ljust(9, '0')}"


def _ended(cluster: Cluster, pod: Object, container: str) -> bool:
    try:
        now = cluster.get(cluster.path("pods", pod["metadata"]["name"]))
    except NotFoundError:
        return True
    if now["metadata"]["uid"] != pod["metadata"]["uid"]:
        return True
    states = [
        status.get("state", {})
        for status in now.get("status", {}).get("containerStatuses", [])
        if status["name"] == container
    ]
    return any("terminated" in state for state in states)
