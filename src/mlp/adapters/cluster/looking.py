"""What is in a cluster: nodes, namespaces, claims, queues. Reads only, one request each.

What a Role does not allow raises ForbiddenError, as every request does.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mlp.adapters.cluster.connection import Cluster, NotFoundError, Object
from mlp.core.errors import ConfigurationError, MissingExtraError
from mlp.core.launch.target_fit import Node, node
from mlp.core.quantities import amount

_OPAQUE = "Opaque"
_PULL_SECRET = "kubernetes.io/dockerconfigjson"
# Pods that hold something of their node.
_UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True, slots=True)
class Context:
    """A cluster as the kubeconfig names it. `namespace` is None where it says none."""

    name: str
    namespace: str | None
    current: bool


def contexts() -> tuple[Context, ...]:
    """The contexts of the kubeconfig, the current one first; none inside of a pod.

    Raises MissingExtraError where Kubernetes' client is not installed.
    """
    try:
        from kubernetes import config
    except ModuleNotFoundError as e:
        raise MissingExtraError("running on Kubernetes", "kubernetes", str(e)) from e
    try:
        found, current = config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))
    except config.ConfigException:
        return ()
    names = [
        Context(
            str(each["name"]),
            each.get("context", {}).get("namespace"),
            each["name"] == (current or {}).get("name"),
        )
        for each in found
    ]
    return tuple(sorted(names, key=lambda context: not context.current))


def version(cluster: Cluster) -> str:
    """Of the API server, as in v1.34.4."""
    return str(cluster.get("/version")["gitVersion"])


def namespaces(cluster: Cluster) -> tuple[str, ...]:
    """The names of all namespaces but for Kubernetes' own."""
    names = (item["metadata"]["name"] for item in cluster.get("/api/v1/namespaces")["items"])
    return tuple(name for name in names if not name.startswith("kube-"))


def require_namespace(cluster: Cluster) -> None:
    """Raises NotFoundError where the connection's namespace is not there."""
    cluster.get(f"/api/v1/namespaces/{cluster.namespace}")


def nodes(cluster: Cluster) -> tuple[Node, ...]:
    """All nodes, those that take no pods too."""
    # From the API server's memory: a thousand nodes are many megabytes.
    items = cluster.get("/api/v1/nodes", resourceVersion="0")["items"]
    return tuple(node(item) for item in items)


def used(cluster: Cluster) -> Mapping[str, Mapping[str, float]]:
    """What the pods of all namespaces ask for, by node and resource; "pods" is their number."""
    sums: dict[str, dict[str, float]] = {}
    items = cluster.get("/api/v1/pods", fieldSelector=_UNFINISHED, resourceVersion="0")["items"]
    for pod in items:
        name = pod["spec"].get("nodeName")
        if name and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            taken = sums.setdefault(name, {})
            for resource, value in {**_asked(pod["spec"]), "pods": 1.0}.items():
                taken[resource] = taken.get(resource, 0.0) + value
    return sums


def storage_classes(cluster: Cluster) -> Mapping[str, str]:
    """Volume binding mode by the name of a storage class."""
    items = cluster.get("/apis/storage.k8s.io/v1/storageclasses")["items"]
    return {i["metadata"]["name"]: i.get("volumeBindingMode", "Immediate") for i in items}


def queues(cluster: Cluster) -> Mapping[str, Object] | None:
    """Kueue's LocalQueues of the namespace by name, None where Kueue is not installed."""
    api = kueue_api(cluster)
    if api is None:
        return None
    items = cluster.get(cluster.path("localqueues", api=api))["items"]
    return {item["metadata"]["name"]: item for item in items}


def kueue_api(cluster: Cluster) -> str | None:
    """The path of Kueue's preferred API, None where Kueue is not installed."""
    try:
        group = cluster.get("/apis/kueue.x-k8s.io")
    except NotFoundError:
        return None
    preferred = group.get("preferredVersion") or {}  # a group without a version is being removed
    return f"/apis/{preferred['groupVersion']}" if "groupVersion" in preferred else None


@dataclass(frozen=True, slots=True)
class Secrets:
    """Names only: what is in a Secret is never kept."""

    values: tuple[str, ...]
    """Those with values of the user's own."""
    pull: tuple[str, ...]
    """Those with credentials of a registry."""


def secrets(cluster: Cluster) -> Secrets:
    """The Secrets of the namespace."""
    kinds = {
        item["metadata"]["name"]: item.get("type", _OPAQUE)
        for item in cluster.get(cluster.path("secrets"))["items"]
    }
    return Secrets(
        tuple(name for name, kind in kinds.items() if kind == _OPAQUE),
        tuple(name for name, kind in kinds.items() if kind == _PULL_SECRET),
    )


def require_secret(cluster: Cluster, name: str) -> None:
    """Raises NotFoundError where there is no such Secret."""
    cluster.get(cluster.path("secrets", name))


def claims(cluster: Cluster) -> Mapping[str, Object]:
    """The PersistentVolumeClaims of the namespace, by name."""
    items = cluster.get(cluster.path("persistentvolumeclaims"))["items"]
    return {item["metadata"]["name"]: item for item in items}


def services(cluster: Cluster) -> Mapping[str, tuple[int, ...]]:
    """The ports of the namespace's Services, by name."""
    items = cluster.get(cluster.path("services"))["items"]
    return {
        item["metadata"]["name"]: tuple(port["port"] for port in item["spec"].get("ports", ()))
        for item in items
    }


def quotas(cluster: Cluster) -> tuple[Object, ...]:
    """The ResourceQuotas of the namespace."""
    return tuple(cluster.get(cluster.path("resourcequotas"))["items"])


def limit_ranges(cluster: Cluster) -> tuple[Object, ...]:
    """The LimitRanges of the namespace."""
    return tuple(cluster.get(cluster.path("limitranges"))["items"])


def priority_classes(cluster: Cluster) -> tuple[str, ...]:
    """The names of the cluster's priority classes."""
    items = cluster.get("/apis/scheduling.k8s.io/v1/priorityclasses")["items"]
    return tuple(item["metadata"]["name"] for item in items)


def require_context(name: str) -> None:
    """Raises ConfigurationError, with those that there are, for a context that is not there."""
    from mlp.core.nearest import did_you_mean

    have = [context.name for context in contexts()]
    if name not in have:
        raise ConfigurationError(
            f"context {name!r} is not in the kubeconfig (have: {', '.join(have) or 'none'})"
            f"{did_you_mean(name, have)}",
            fix="`kubectl config get-contexts` shows them; set KUBECONFIG",
        )


def _asked(spec: Object) -> dict[str, float]:
    """What the scheduler counts for a pod: the larger of its containers' sum and any init one."""
    asked: dict[str, float] = {}
    for container in spec.get("containers", ()):
        for resource, value in container.get("resources", {}).get("requests", {}).items():
            asked[resource] = asked.get(resource, 0.0) + amount(value)
    for container in spec.get("initContainers", ()):
        for resource, value in container.get("resources", {}).get("requests", {}).items():
            asked[resource] = max(asked.get(resource, 0.0), amount(value))
    return asked
