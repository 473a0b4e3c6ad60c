"""A look at a cluster for a new target: what is found there and chosen of it, key by key."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlp.adapters import cluster
from mlp.adapters.cluster import Cluster, ForbiddenError, NotFoundError
from mlp.core.errors import ConfigurationError
from mlp.core.launch import image, target_fit
from mlp.core.launch.target_fit import Node
from mlp.core.launch.targets_section import Build
from mlp.core.nearest import did_you_mean
from mlp.flows.launch import target_services
from mlp.flows.launch.target_proposals import Choices, Proposal, WantedTarget, given, told
from mlp.flows.launch.target_services import NewSecret, SharedRemote
from mlp.flows.project import Project

_USUAL_GPU = "nvidia.com/gpu"
_PRODUCT = "nvidia.com/gpu.product"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A target as mlp.yaml is to have it, and what it needs beside: nothing of it is made yet."""

    section: Mapping[str, Any]
    remote: SharedRemote | None
    secret: NewSecret | None
    tracking_uri: str | None
    """What the project's own tracking address becomes; None where it stays."""


class Looking:
    """One look at a cluster: what is chosen for one key decides where the next is looked for."""

    def __init__(self, project: Project, name: str, wanted: WantedTarget, choices: Choices) -> None:
        self._project = project
        self._name = name
        self._wanted = wanted
        self._choices = choices

    def chosen(self) -> Chosen:
        """Look, and choose."""
        take = self._choices.take
        context = take(self._context())
        self._cluster = Cluster(context, self._wanted.namespace or "default")
        cluster.version(self._cluster)  # says so where nothing answers
        namespace = take(self._namespace(context))
        self._cluster = Cluster(context, namespace)
        self._require_namespace()
        where = f"namespace {namespace}"
        nodes = told(lambda: cluster.nodes(self._cluster))
        resource, tolerations = _gpu_resource(nodes or ()), _tolerations(nodes or ())
        section: dict[str, Any] = {"kind": "kubernetes", "context": context, "namespace": namespace}
        section["image"] = take(self._image())
        section["build"] = self._build(section["image"])
        gpus = take(self._gpus(nodes, resource))
        if gpus:
            own_name = {} if resource == _USUAL_GPU else {"gpu_resource": resource}
            section["resources"] = {"gpu": int(gpus), **own_name}
        section["queue"] = take(self._queue(), where)
        remote = target_services.remote(self._project, self._wanted, self._choices)
        section["env"] = remote.variables if remote else {}
        section["checkpoints"] = take(self._claim(remote), where)
        found = told(lambda: cluster.secrets(self._cluster))
        section["secrets"], secret = target_services.secrets(
            remote, self._wanted, found, (namespace, context), self._choices
        )
        section["image_pull_secrets"] = take(self._pull_secrets(found), where)
        tracking = target_services.tracking_server(
            self._project, self._wanted, self._cluster, self._choices
        )
        section["tracking_uri"] = tracking.of_target
        if gpus and tolerations:
            reason = "every node with GPUs has a taint"
            words = [f"{each['key']}:{each['effect']}" for each in tolerations]
            self._choices.note(Proposal("tolerations", words, reason))
            section["tolerations"] = tolerations
        plain = {key: value for key, value in section.items() if value not in (None, "", [], {})}
        return Chosen(plain, remote, secret, tracking.of_project)

    # --- where ------------------------------------------------------------------------------------

    def _context(self) -> Proposal:
        found = cluster.contexts()
        names = [context.name for context in found]
        if self._wanted.context is not None:
            cluster.require_context(self._wanted.context)
            return Proposal("context", self._wanted.context, "as given", names, settled=True)
        if len(found) <= 1:
            # Others call the same cluster something else.
            why = "the only one of the kubeconfig: needs no name" if found else "no kubeconfig"
            return Proposal("context", None, why, names, settled=True)
        current = next((context.name for context in found if context.current), None)
        return Proposal("context", current, "the current one of the kubeconfig", names)

    def _namespace(self, context: str | None) -> Proposal:
        names = told(lambda: cluster.namespaces(self._cluster)) or ()
        if self._wanted.namespace is not None:
            return Proposal("namespace", self._wanted.namespace, "as given", names, settled=True)
        used = next(
            (each for each in cluster.contexts() if (context or each.name) == each.name), None
        )
        if used is not None and used.namespace:
            return Proposal("namespace", used.namespace, "the context's", names)
        return Proposal("namespace", "default", "the context names none", names)

    def _require_namespace(self) -> None:
        name = self._cluster.namespace
        try:
            cluster.require_namespace(self._cluster)
        except NotFoundError as e:
            names = told(lambda: cluster.namespaces(self._cluster)) or ()
            raise ConfigurationError(
                f"the cluster has no namespace {name!r} (have: {', '.join(names) or 'none'})"
                f"{did_you_mean(name, names)}",
                fix=f"kubectl create namespace {name}",
            ) from e
        except ForbiddenError:
            return  # most people may not look; `targets check` says what they may

    # --- what a pod is ----------------------------------------------------------------------------

    def _image(self) -> Proposal:
        if self._wanted.image is not None:
            return Proposal("image", self._wanted.image, "as given", settled=True)
        others = {t.image: name for name, t in self._project.config.targets.items()}
        others = {named: name for named, name in others.items() if name != self._name}
        if others:
            first, owner = next(iter(others.items()))
            return Proposal("image", first, f"that of {owner}", tuple(others), required=True)
        reason = "where a registry that the cluster pulls from takes images is known to you only"
        return Proposal("image", None, reason, required=True)

    def _build(self, name: str | None) -> dict[str, Any]:
        """What differs from how an image is built without a word in mlp.yaml."""
        wanted = self._wanted
        if name is None or image.reference(name).fixed:
            return {}
        here = ".".join(platform.python_version_tuple()[:2])
        usual = f"docker.io/library/python:{here}-slim"
        asked = Proposal("base", usual, f"what the image is built on: Python {here}, as here")
        base = self._choices.take(asked if wanted.base is None else given("base", wanted.base))
        found = {
            "base": base if base != Build().base else None,
            "flags": list(wanted.build_flags),
            "push_flags": list(wanted.push_flags),
        }
        return {key: value for key, value in found.items() if value}

    def _gpus(self, nodes: Sequence[Node] | None, resource: str) -> Proposal:
        if self._wanted.gpus is not None:
            return Proposal("gpus", self._wanted.gpus, "as given", settled=True)
        if nodes is None:
            return Proposal("gpus", 0, "you may not list nodes, so none is known: --gpus N")
        counts = Counter(target_fit.gpus(node).get(resource, 0) for node in nodes if node.ready)
        counts.pop(0, None)
        if not counts:
            return Proposal("gpus", 0, "no node that is ready has a GPU", settled=True)
        usual = max(counts, key=lambda count: (counts[count], count))
        kinds = Counter(
            node.labels.get(_PRODUCT, resource) for node in nodes if target_fit.gpus(node)
        )
        have = ", ".join(f"{count} with {product}" for product, count in kinds.items())
        reason = f"{resource} of one node; nodes: {have}"
        return Proposal("gpus", usual, reason, tuple(str(n) for n in range(1, max(counts) + 1)))

    def _queue(self) -> Proposal:
        found = told(lambda: cluster.queues(self._cluster))
        if self._wanted.queue is not None:
            known = None if found is None else tuple(found)
            return given("queue", self._wanted.queue, known)
        if not found:
            reason = "Kueue has no queue here" if found is not None else "Kueue is not there"
            return Proposal("queue", None, reason, settled=True)
        only = next(iter(found)) if len(found) == 1 else None
        reason = "the only LocalQueue" if only else "none, unless you name one: --queue NAME"
        return Proposal("queue", only, reason, tuple(found), known=tuple(found))

    def _claim(self, remote: SharedRemote | None) -> Proposal:
        found = told(lambda: cluster.claims(self._cluster))
        known = None if found is None else tuple(found)
        if self._wanted.claim is not None:
            return given("claim", self._wanted.claim, known)
        shared = [
            name
            for name, claim in (found or {}).items()
            if "ReadWriteMany" in claim["spec"].get("accessModes", ())
        ]
        if remote is not None and remote.scheme == "s3":
            reason = "checkpoints go to the DVC remote"
            return Proposal("claim", None, reason, shared, settled=not shared, known=known)
        if len(shared) == 1:
            reason = "for checkpoints: the only one that all nodes can mount"
            return Proposal("claim", shared[0], reason, shared, known=known)
        reason = "for checkpoints; without one they are lost with the pod: --claim NAME"
        return Proposal("claim", None, reason, shared, settled=not shared, known=known)

    def _pull_secrets(self, found: cluster.Secrets | None) -> Proposal:
        names = list(found.pull) if found else []
        only = names if len(names) == 1 else []
        reason = "the only Secret for a registry" if only else "none is needed for open registries"
        return Proposal("image_pull_secrets", only, reason, names, settled=not names, known=names)


def _gpu_resource(nodes: Sequence[Node]) -> str:
    """The resource that most nodes have their accelerators under."""
    names = Counter(name for node in nodes for name in target_fit.gpus(node))
    return names.most_common(1)[0][0] if names and _USUAL_GPU not in names else _USUAL_GPU


def _tolerations(nodes: Sequence[Node]) -> list[dict[str, str]]:
    """What a pod has to tolerate to get to any node with GPUs; nothing where one has no taint."""
    taints = [
        target_fit.refusing_taints(node, ())
        for node in nodes
        if node.ready and target_fit.gpus(node)
    ]
    if not taints or not all(taints):
        return []
    fewest = min(taints, key=len)
    return [
        {"key": str(taint["key"]), "operator": "Exists", "effect": str(taint["effect"])}
        for taint in fewest
    ]
