"""What a cluster has of one job, for `mlp.core.explain.explanation`.

A handful of requests, however many pods there are. What a Role does not allow is left out, and
noted: a Role of a namespace cannot list nodes.
"""

from collections.abc import Callable, Mapping
from typing import Any

from mlp.adapters.cluster.connection import Cluster, ForbiddenError, NotFoundError, Object
from mlp.adapters.cluster.looking import kueue_api
from mlp.core.explain import departures
from mlp.core.explain.observation import KUEUE_ABSENT, Observation, when
from mlp.core.launch.job_spec import QUEUE_LABEL, pods_of

_BATCH = "/apis/batch/v1"
# What the scheduler says is in the pods' conditions, too; of a gang that waits it is most events.
_WARNINGS = "type!=Normal,reason!=FailedScheduling"
# What every pod has, each several times.
_ORDINARY = ("Scheduled", "Pulling", "Pulled", "Created", "Started", "SuccessfulCreate")
_NOTABLE = ",".join(["type=Normal", *(f"reason!={reason}" for reason in _ORDINARY)])
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
    pods = listed("pods", lambda: _pods(cluster, name))
    events = listed("events", lambda: _events(cluster, job, _WARNINGS, unknown))
    if departures.expected(job, pods):
        events += listed("events", lambda: _events(cluster, job, _NOTABLE, unknown))
    return Observation(
        job=job,
        pods=pods,
        events=events,
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


def _events(
    cluster: Cluster, job: Object | None, selector: str, unknown: dict[str, str]
) -> list[Object]:
    """Those about the job, its pods and any claim."""
    if job is None:
        return []
    found = cluster.get(cluster.path("events"), fieldSelector=selector, limit=_MAX_EVENTS)
    if found["metadata"].get("continue"):
        unknown["events"] = f"there are more than {_MAX_EVENTS} events in the namespace"
    return [item for item in found["items"] if _concerns(item, job)]


def _concerns(event: Mapping[str, Any], job: Object) -> bool:
    """Of the job and its pods what was said in its time: one of the same name was there before."""
    about, name = event["involvedObject"], str(job["metadata"]["name"])
    kind, named = about.get("kind"), str(about.get("name"))
    if kind == "PersistentVolumeClaim":
        return True
    ours = (kind == "Job" and named == name) or (kind == "Pod" and named.startswith(f"{name}-"))
    return ours and when(event) >= str(job["metadata"]["creationTimestamp"])


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
    api = kueue_api(cluster)
    if api is None:
        unknown["workload"] = KUEUE_ABSENT
        return []
    selector = f"kueue.x-k8s.io/job-uid={job['metadata']['uid']}"
    path = cluster.path("workloads", api=api)
    items: list[Object] = cluster.get(path, labelSelector=selector)["items"]
    return items
