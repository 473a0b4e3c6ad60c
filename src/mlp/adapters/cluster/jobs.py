"""Jobs of a cluster: made, watched, followed, ended."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlp.adapters.cluster.connection import (
    Cluster,
    ExistsError,
    Manifest,
    NotFoundError,
    Object,
    UnreachableError,
)
from mlp.core import job as jobs
from mlp.core.errors import RemoteError
from mlp.core.job import JobSpec

_API = "/apis/batch/v1"
# A watch that the server ends and we begin again; a silence beyond it is a lost connection.
_WATCH_S, _SILENCE_S = 10, 25.0
_MIN_WAIT_S, _MAX_WAIT_S = 0.25, 5.0
_GONE_S = 120.0


class Phase(StrEnum):
    """Where a Job is between its creation and its end."""

    SUSPENDED = "suspended"  # a queue has not let it in yet
    WAITING = "waiting"  # not all of its pods run
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class JobState:
    """A Job as it is now. `ready` of its `nodes` pods run; `failed` pods were lost so far."""

    phase: Phase
    nodes: int = 0
    ready: int = 0
    failed: int = 0
    reachable: bool = True
    """False: the cluster does not answer; the rest is what was known last."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in (Phase.COMPLETE, Phase.FAILED, Phase.GONE)


def state_of(job: Object) -> JobState:
    """The state that a Job object shows."""
    spec, status = job.get("spec", {}), job.get("status", {})
    nodes = int(spec.get("completions") or 1)
    true = {c["type"] for c in status.get("conditions", []) if c.get("status") == "True"}
    ready = int(status.get("ready") or 0)
    phase = (
        Phase.COMPLETE
        if "Complete" in true
        else Phase.FAILED
        if "Failed" in true
        else Phase.GONE
        if "deletionTimestamp" in job.get("metadata", {})
        else Phase.SUSPENDED
        if spec.get("suspend")
        else Phase.RUNNING
        if ready + int(status.get("succeeded") or 0) >= nodes
        else Phase.WAITING
    )
    return JobState(phase, nodes, ready, int(status.get("failed") or 0))


def spec_of(job: Object) -> JobSpec:
    """What a Job was made from. Raises RemoteError for one that mlp did not make."""
    try:
        return JobSpec.from_json(job["metadata"]["annotations"][jobs.ANNOTATION_SPEC])
    except (KeyError, ValueError, TypeError) as e:
        raise RemoteError(
            f"job {job['metadata']['name']} was made by another version of mlp, or by hand",
            cause=str(e),
        ) from e


def get_job(cluster: Cluster, name: str) -> Object:
    """The Job object. Raises NotFoundError."""
    return cluster.get(cluster.path("jobs", name, _API))


def list_jobs(cluster: Cluster, selector: str) -> list[Object]:
    """The Jobs with these labels."""
    found: list[Object] = cluster.get(cluster.path("jobs", api=_API), labelSelector=selector)[
        "items"
    ]
    return found


def create_job(cluster: Cluster, manifest: Manifest) -> Object:
    """Make a Job. Raises ExistsError where there is one of that name."""
    return cluster.create(cluster.path("jobs", api=_API), manifest)


def create_service(cluster: Cluster, manifest: Manifest) -> None:
    """Make a Service, unless it is there."""
    try:
        cluster.create(cluster.path("services"), manifest)
    except ExistsError:
        return  # made by a submission that was killed before it could go on


def delete_job(cluster: Cluster, name: str, *, wait: bool = False) -> None:
    """Delete a Job and all that it owns; one that is gone already is no error.

    With `wait`, until its name is free.
    """
    try:
        cluster.delete(cluster.path("jobs", name, _API))
    except NotFoundError:
        return
    until = time.monotonic() + _GONE_S
    while wait:
        try:
            get_job(cluster, name)
        except NotFoundError:
            return
        if time.monotonic() > until:
            raise RemoteError(
                f"job {name} is still being deleted",
                fix=f"kubectl --namespace {cluster.namespace} get job {name} --output=yaml",
            )
        time.sleep(_MIN_WAIT_S)


def end_job(cluster: Cluster, name: str) -> None:
    """Let a Job fail now instead of starting pods that would fail again; it stays to be read."""
    try:
        cluster.patch(cluster.path("jobs", name, _API), {"spec": {"activeDeadlineSeconds": 1}})
    except NotFoundError:
        return


def watch_job(cluster: Cluster, name: str) -> Iterator[JobState]:
    """The Job's state, now and with each change, until it has ended.

    A cluster that does not answer is tried again for as long as it takes: the job goes on.
    """
    last = JobState(Phase.WAITING)
    wait = _MIN_WAIT_S
    while True:
        try:
            job = get_job(cluster, name)
            last = state_of(job)
            yield last
            if last.ended:
                return
            wait = _MIN_WAIT_S
            for event in cluster.watch(
                cluster.path("jobs", api=_API),
                _SILENCE_S,
                fieldSelector=f"metadata.name={name}",
                resourceVersion=job["metadata"]["resourceVersion"],
                timeoutSeconds=_WATCH_S,
            ):
                if event["type"] == "ERROR":  # the version is too old by now
                    break
                if event["type"] == "DELETED":
                    yield JobState(Phase.GONE)
                    return
                last = state_of(event["object"])
                yield last
                if last.ended:
                    return
            yield last  # a sign of life, so that whoever waits can look at the clock
        except NotFoundError:
            yield JobState(Phase.GONE)
            return
        except UnreachableError:
            yield JobState(last.phase, last.nodes, last.ready, last.failed, reachable=False)
            time.sleep(wait)
            wait = min(wait * 2, _MAX_WAIT_S)


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
    labels = f"batch.kubernetes.io/job-name={job},batch.kubernetes.io/job-completion-index={index}"
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
        except (RemoteError, OSError):
            if stopping:
                return
            stop.wait(1.0)


def print_log(
    cluster: Cluster, job: str, index: int, container: str, emit: Callable[[bytes], None]
) -> None:
    """Hand on each line that the pods of node `index` have printed by now."""
    labels = f"batch.kubernetes.io/job-name={job},batch.kubernetes.io/job-completion-index={index}"
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
        for line in cluster.lines(path, 3600.0, **query):
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
