"""Whether the cluster lets us do what mlp does there; asked of the cluster itself."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mlp.adapters.cluster.connection import Cluster

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# So many connections the client keeps; more would be made anew each time.
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource of the namespace, such as create on batch's jobs."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        inner = f"/{self.subresource}" if self.subresource else ""
        return f"{self.verb} {self.resource}{inner}"


def _rights(resource: str, verbs: str, group: str = "", subresource: str = "") -> tuple[Right, ...]:
    return tuple(Right(verb, resource, group, subresource) for verb in verbs.split())


# docs/role.yaml gives just these.
NEEDED: tuple[Right, ...] = (
    *_rights("jobs", "create get list watch patch delete", group="batch"),
    *_rights("services", "create get patch delete"),
    *_rights("pods", "get list watch"),
    *_rights("pods", "get", subresource="log"),
    *_rights("events", "get list watch"),
    *_rights("resourcequotas", "get list"),
    *_rights("limitranges", "get list"),
    *_rights("persistentvolumeclaims", "get list"),
)

# docs/role-deploy.yaml gives these, and those on the objects in which Helm keeps its releases.
DEPLOYING: tuple[Right, ...] = (
    *_rights("deployments", "create get list watch patch update delete", group="apps"),
    *_rights("services", "create get patch update delete"),
    *_rights("configmaps", "create get list patch update delete"),
    *_rights("poddisruptionbudgets", "create get patch update delete", group="policy"),
    *_rights("horizontalpodautoscalers", "create get patch update delete", group="autoscaling"),
    *_rights("pods", "get list"),
    *_rights("pods", "get", subresource="log"),
)


def missing(cluster: Cluster, rights: Sequence[Right] = NEEDED) -> tuple[Right, ...]:
    """Those of `rights` that the cluster would refuse, in their order.

    Every user may ask this of a cluster. Raises RemoteError where it does not answer.
    """
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        allowed = threads.map(lambda right: _allowed(cluster, right), rights)
        return tuple(right for right, yes in zip(rights, allowed, strict=True) if not yes)


def _allowed(cluster: Cluster, right: Right) -> bool:
    attributes = {
        "namespace": cluster.namespace,
        "verb": right.verb,
        "group": right.group,
        "resource": right.resource,
        "subresource": right.subresource,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(cluster.create(_REVIEWS, review)["status"]["allowed"])
