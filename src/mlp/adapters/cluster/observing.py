"""What a cluster has of one job, for `mlp.core.explanation`.

A handful of requests, however many pods there are. What a Role does not allow is left out, and
noted: a Role of a namespace cannot list nodes.
"""

from collections.abc import Callable, Mapping
from typing import Any

from mlp.adapters.cluster.connection import Cluster, ForbiddenError, NotFoundError, Object
from mlp.core.job import QUEUE_LABEL, pods_of
from mlp.core.observation import KUEUE_ABSENT, Observation

_BATCH = "/apis/batch/v1"
_KUEUE = "/apis/kueue.x-k8s.io"
# What the scheduler says is in the pods' conditions, too; of a gang that waits it is most events.
_EVENTS = "type!=Normal,reason!=FailedScheduling"
_MAX_EVENTS = 5000


def observe(cluster: Cluster, name: str) -> Observation:
    """All that says why job `name` waits, or how it ended.

    Raises UnreachableError where the cluster does not answer.
    """
    unknown: dict[str, str] = {}
    job = _job(cluster, name)

    def listed(kind: str, read: Callable[[], list[Object]]) -> list[Object]:
        try:
            return read()
        except ForbiddenError as e:
            unknown[kind] = e.cause or e.message
            return []

    workloads = listed("workload", lambda: _workloads(cluster, job, unknown))
    return Observation(
        job=job,
        pods=listed("pods", lambda: _pods(cluster, name)),
        events=listed("events", lambda: _events(cluster, name, unknown)),
        nodes=listed("nodes", lambda: _nodes(cluster)),
        quotas=listed("quotas", lambda: _items(cluster, "resourcequotas")),
        claims=listed("claims", lambda: _items(cluster, "persistentvolumeclaims")),
        workload=next(iter(workloads), None),
        unknown=unknown,
    )


def _job(cluster: Cluster, name: str) -> Object | None:
    try:
        return cluster.get(cluster.path("jobs", name, _BATCH))
    except NotFoundError:
        return None


def _pods(cluster: Cluster, job: str) -> list[Object]:
    items: list[Object] = cluster.get(cluster.path("pods"), labelSelector=pods_of(job))["items"]
    for pod in items:
        pod["metadata"].pop("managedFields", None)
        for kind in ("containers", "initContainers"):
            for container in pod["spec"].get(kind, ()):
                container.pop("env", None)  # the job, in each of a thousand pods
    return items


def _events(cluster: Cluster, job: str, unknown: dict[str, str]) -> list[Object]:
    """Warnings about the job, its pods and any claim."""
    found = cluster.get(cluster.path("events"), fieldSelector=_EVENTS, limit=_MAX_EVENTS)
    if found["metadata"].get("continue"):
        unknown["events"] = f"there are more than {_MAX_EVENTS} warnings in the namespace"
    return [item for item in found["items"] if _concerns(item["involvedObject"], job)]


def _concerns(about: Mapping[str, Any], job: str) -> bool:
    kind, name = about.get("kind"), str(about.get("name"))
    return (
        kind == "PersistentVolumeClaim"
        or (kind == "Job" and name == job)
        or (kind == "Pod" and name.startswith(f"{job}-"))
    )


def _nodes(cluster: Cluster) -> list[Object]:
    # From the API server's memory: a thousand nodes are many megabytes.
    items: list[Object] = cluster.get("/api/v1/nodes", resourceVersion="0")["items"]
    for node in items:
        node["metadata"].pop("managedFields", None)
        node["status"].pop("images", None)  # most of it
    return items


def _items(cluster: Cluster, kind: str) -> list[Object]:
    found: list[Object] = cluster.get(cluster.path(kind))["items"]
    return found


def _workloads(cluster: Cluster, job: Object | None, unknown: dict[str, str]) -> list[Object]:
    """Kueue's, of this very job: one of the same name may have been there before."""
    if job is None or QUEUE_LABEL not in (job["metadata"].get("labels") or {}):
        return []
    try:
        api = cluster.get(_KUEUE)["preferredVersion"]["groupVersion"]
    except NotFoundError:
        unknown["workload"] = KUEUE_ABSENT
        return []
    selector = f"kueue.x-k8s.io/job-uid={job['metadata']['uid']}"
    path = cluster.path("workloads", api=f"/apis/{api}")
    items: list[Object] = cluster.get(path, labelSelector=selector)["items"]
    return items
