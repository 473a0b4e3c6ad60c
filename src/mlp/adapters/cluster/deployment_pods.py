"""A Deployment and its pods, as the cluster has them."""

from collections.abc import Sequence

from mlp.adapters.cluster.connection import Cluster, ForbiddenError, NotFoundError, Object
from mlp.core.errors import RemoteError

_APPS = "/apis/apps/v1"
_AUTOSCALING = "/apis/autoscaling/v2"
_SILENCE_S = 10.0


def deployment(cluster: Cluster, name: str) -> Object | None:
    """The Deployment `name`, None where there is none."""
    try:
        return cluster.get(cluster.path("deployments", name, _APPS))
    except NotFoundError:
        return None


def autoscaler(cluster: Cluster, name: str) -> Object | None:
    """The HorizontalPodAutoscaler `name`, None where there is none, or we may not look."""
    try:
        return cluster.get(cluster.path("horizontalpodautoscalers", name, _AUTOSCALING))
    except (NotFoundError, ForbiddenError):
        return None


def pods_with(cluster: Cluster, selector: str) -> Sequence[Object]:
    """The pods that `selector` finds, the oldest first."""
    found = cluster.get(cluster.path("pods"), labelSelector=selector)["items"]
    return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


def last_lines(cluster: Cluster, pod: str, count: int, *, previous: bool) -> tuple[str, ...]:
    """What the pod, or the container that ran in it before, printed last; nothing if unknown."""
    query = {"tailLines": count, **({"previous": "true"} if previous else {})}
    path = f"{cluster.path('pods', pod)}/log"
    try:
        found = cluster.lines(path, _SILENCE_S, **query)
        return tuple(line.decode(errors="replace") for line in found)
    except RemoteError:
        return ()
