"""The targets of mlp.yaml: which there are, and a new one made from what a cluster has."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mlp.adapters import cluster, data, params
from mlp.adapters.cluster import Cluster, ForbiddenError, NotFoundError
from mlp.core import config, image, target_fit
from mlp.core.environment import LOCAL
from mlp.core.errors import ConfigurationError, MlpError, UsageError
from mlp.core.nearest import did_you_mean
from mlp.core.target_fit import Node
from mlp.flows.project import Project

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_USUAL_GPU = "nvidia.com/gpu"
_PRODUCT = "nvidia.com/gpu.product"
# Secrets that are probably meant for jobs: by their names, for nobody looks into them.
_CREDENTIALS = re.compile(r"s3|aws|minio|gcs|azure|dvc|mlflow", re.IGNORECASE)
_THIS_MACHINE = re.compile(r"://(localhost|127\.|\[::1\]|0\.0\.0\.0)")


@dataclass(frozen=True, slots=True)
class Listed:
    """A target of mlp.yaml, and the stages that are launched there."""

    name: str
    context: str | None
    namespace: str
    image: str
    gpu: int
    gpu_resource: str
    queue: str | None
    stages: Sequence[str]


def listed(project: Project) -> list[Listed]:
    """All targets, as they are written; no cluster is asked."""
    launches = project.config.launch.items()
    return [
        Listed(
            name,
            target.context,
            target.namespace,
            target.image,
            target.resources.gpu,
            target.resources.gpu_resource,
            target.queue,
            tuple(stage for stage, launch in launches if launch.target == name),
        )
        for name, target in project.config.targets.items()
    ]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is said on the command line of the target to be made; None for what is to be found."""

    context: str | None = None
    namespace: str | None = None
    image: str | None = None
    gpus: int | None = None
    queue: str | None = None
    claim: str | None = None
    secrets: Sequence[str] | None = None
    tracking_uri: str | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A key of the new target: the value found (None, 0 or empty: left out), the others that there
    are, and where it comes from. `settled` where there is nothing to ask; `known` are all values
    that there can be, None where that is not known."""

    key: str
    value: Any
    reason: str
    alternatives: Sequence[str] = ()
    settled: bool = False
    required: bool = False
    known: Sequence[str] | None = None


Choose = Callable[[Proposal], Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A section for mlp.yaml, and the whole file with it."""

    name: str
    section: Mapping[str, Any]
    proposals: Sequence[Proposal]
    text: str
    next: Sequence[str]


def plan(project: Project, name: str, wanted: Wanted, choose: Choose, *, force: bool) -> Plan:
    """Look at the cluster and lay out the target `name`; nothing is written.

    `choose` says what is taken of each proposal that is not settled. Raises ConfigurationError for
    a target that is there already (unless `force`), for what is wanted and not in the cluster, and
    for what cannot be guessed; RemoteError where the cluster does not answer.
    """
    _require_name(project, name, force)
    look = _Look(project, name, wanted, choose)
    section = look.section()
    text = params.with_section(
        project.layout.config.read_text(encoding="utf-8"), "targets", name, section
    )
    config.parse(text, env=project.env)
    built = not image.reference(section["image"]).fixed
    steps = [f"mlp build {name}"] if built else []
    steps += [f"mlp targets check {name}", f"mlp train --target {name}"]
    return Plan(name, section, tuple(look.proposals), text, steps)


def write(project: Project, planned: Plan) -> None:
    """Put the section into mlp.yaml."""
    params.write(project.layout.config, planned.text)


def _require_name(project: Project, name: str, force: bool) -> None:
    if name == LOCAL or not _NAME.fullmatch(name):
        raise UsageError(
            "target 'local' is this machine: it needs no section"
            if name == LOCAL
            else f"{name!r} is no name for a target: letters, digits, - and _ make one",
            fix="mlp targets add gpu",
        )
    if name in project.config.targets and not force:
        raise ConfigurationError(
            f"target {name!r} is in mlp.yaml already",
            fix=f"mlp targets add {name} --force replaces it; mlp targets check {name} looks at it",
        )


class _Look:
    """One look at a cluster, key by key: what is chosen for one decides where the next is found."""

    def __init__(self, project: Project, name: str, wanted: Wanted, choose: Choose) -> None:
        self._project = project
        self._name = name
        self._wanted = wanted
        self._choose = choose
        self.proposals: list[Proposal] = []

    def section(self) -> dict[str, Any]:
        """The target as mlp.yaml is to have it."""
        context = self._take(self._context())
        self._cluster = Cluster(context, self._wanted.namespace or "default")
        cluster.version(self._cluster)  # says so where nothing answers
        namespace = self._take(self._namespace(context))
        self._cluster = Cluster(context, namespace)
        self._require_namespace()
        nodes = _told(lambda: cluster.nodes(self._cluster))
        resource, tolerations = _gpu_resource(nodes or ()), _tolerations(nodes or ())
        found: dict[str, Any] = {"kind": "kubernetes", "context": context, "namespace": namespace}
        found["image"] = self._take(self._image())
        gpus = self._take(self._gpus(nodes, resource))
        if gpus:
            own_name = {} if resource == _USUAL_GPU else {"gpu_resource": resource}
            found["resources"] = {"gpu": int(gpus), **own_name}
        found["queue"] = self._take(self._queue())
        found["checkpoints"] = self._take(self._claim())
        secrets = _told(lambda: cluster.secrets(self._cluster))
        found["secrets"] = self._take(self._secrets(secrets))
        found["image_pull_secrets"] = self._take(self._pull_secrets(secrets))
        found["tracking_uri"] = self._take(self._tracking_uri())
        if gpus and tolerations:
            reason = "every node with GPUs has a taint"
            words = [f"{each['key']}:{each['effect']}" for each in tolerations]
            self.proposals.append(Proposal("tolerations", words, reason, settled=True))
            found["tolerations"] = tolerations
        return {key: value for key, value in found.items() if value not in (None, "", [], ())}

    def _take(self, proposal: Proposal) -> Any:
        """What is chosen of a proposal. Raises ConfigurationError for a key that has to be."""
        chosen = proposal.value if proposal.settled else self._choose(proposal)
        if proposal.required and not chosen:
            raise ConfigurationError(
                f"{proposal.key} cannot be guessed: {proposal.reason}",
                fix=f"mlp targets add {self._name} --{proposal.key} REGISTRY/NAME",
            )
        self._require_known(proposal, chosen)
        self.proposals.append(dataclasses.replace(proposal, value=chosen, settled=True))
        return chosen

    def _require_known(self, proposal: Proposal, chosen: Any) -> None:
        """Raises ConfigurationError for what is chosen and not in the cluster."""
        have = proposal.known
        if have is None:
            return
        for each in (chosen,) if isinstance(chosen, str) else chosen or ():
            if each not in have:
                raise ConfigurationError(
                    f"there is no {proposal.key} {each!r} in namespace {self._cluster.namespace}"
                    f" (have: {', '.join(have) or 'none'}){did_you_mean(each, have)}",
                    fix=f"name one that there is, or make {each!r} first",
                )

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
        names = _told(lambda: cluster.namespaces(self._cluster)) or ()
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
            names = _told(lambda: cluster.namespaces(self._cluster)) or ()
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
        told = "where a registry that the cluster pulls from takes images is known to you only"
        return Proposal("image", None, told, required=True)

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
        found = _told(lambda: cluster.queues(self._cluster))
        if self._wanted.queue is not None:
            known = None if found is None else tuple(found)
            return _given("queue", self._wanted.queue, known)
        if not found:
            told = "Kueue has no queue here" if found is not None else "Kueue is not there"
            return Proposal("queue", None, told, settled=True)
        only = next(iter(found)) if len(found) == 1 else None
        told = "the only LocalQueue" if only else "none, unless you name one: --queue NAME"
        return Proposal("queue", only, told, tuple(found), known=tuple(found))

    def _claim(self) -> Proposal:
        found = _told(lambda: cluster.claims(self._cluster))
        known = None if found is None else tuple(found)
        if self._wanted.claim is not None:
            return _given("claim", self._wanted.claim, known)
        shared = [
            name
            for name, claim in (found or {}).items()
            if "ReadWriteMany" in claim["spec"].get("accessModes", ())
        ]
        if self._on_s3():
            told = "checkpoints go to the DVC remote"
            return Proposal("claim", None, told, shared, settled=not shared, known=known)
        if len(shared) == 1:
            told = "for checkpoints: the only one that all nodes can mount"
            return Proposal("claim", shared[0], told, shared, known=known)
        told = "for checkpoints; without one they are lost with the pod: --claim NAME"
        return Proposal("claim", None, told, shared, settled=not shared, known=known)

    def _on_s3(self) -> bool:
        root = data.root(self._project.root)
        try:
            remote = data.default_remote(root) if root else None
        except MlpError:
            return False  # `targets check` says what is wrong with it
        return remote is not None and remote.url.startswith("s3://")

    # --- what it may use --------------------------------------------------------------------------

    def _secrets(self, found: cluster.Secrets | None) -> Proposal:
        have = found.values if found else ()
        if self._wanted.secrets is not None:
            return _given("secrets", list(self._wanted.secrets), found.values if found else None)
        if found is None:
            told = "you may not list Secrets: --secret NAME for what pods need for data and MLflow"
            return Proposal("secrets", [], told, settled=True)
        likely = [name for name in have if _CREDENTIALS.search(name)]
        told = "by name credentials of data or MLflow; pods get them as variables"
        told = told if likely else "none has a name that says that it is for data or MLflow"
        return Proposal("secrets", likely, told, have, settled=not have, known=have)

    def _pull_secrets(self, found: cluster.Secrets | None) -> Proposal:
        names = list(found.pull) if found else []
        only = names if len(names) == 1 else []
        told = "the only Secret for a registry" if only else "none is needed for open registries"
        return Proposal("image_pull_secrets", only, told, names, settled=not names, known=names)

    def _tracking_uri(self) -> Proposal:
        if self._wanted.tracking_uri is not None:
            return Proposal("tracking_uri", self._wanted.tracking_uri, "as given", settled=True)
        own = self._project.tracking_uri
        if own.startswith("http") and not _THIS_MACHINE.search(own):
            return Proposal("tracking_uri", None, f"the project's: {own}", (own,), settled=True)
        services = _told(lambda: cluster.services(self._cluster)) or {}
        found = [
            f"http://{name}.{self._cluster.namespace}:{ports[0]}"
            for name, ports in services.items()
            if "mlflow" in name and ports
        ]
        if len(found) == 1:
            return Proposal("tracking_uri", found[0], "a Service of the namespace", found)
        told = "pods cannot reach the project's: their metrics arrive with the outputs"
        return Proposal("tracking_uri", None, told, found, settled=not found)


def _given(key: str, value: Any, known: Sequence[str] | None) -> Proposal:
    """A value of the command line."""
    return Proposal(key, value, "as given", known or (), settled=True, known=known)


def _told(ask: Callable[[], T]) -> T | None:
    """What the cluster answers, None where we may not ask that."""
    try:
        return ask()
    except (ForbiddenError, NotFoundError):
        return None


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
