"""Whether stages can run on a target: looked at from here, and from a pod where that is wanted."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from mlp.adapters import cluster, data
from mlp.adapters.cluster import Cluster, ForbiddenError, NotFoundError
from mlp.core import image as images
from mlp.core import target_fit
from mlp.core.environment import LOCAL
from mlp.core.errors import ConfigurationError, MlpError, UsageError
from mlp.core.health import Check, Verdict
from mlp.core.nearest import did_you_mean
from mlp.core.targets import KubernetesTarget
from mlp.flows import building, target_probing
from mlp.flows.project import Project

T = TypeVar("T")

# Fewer than the connections that the client keeps open.
_AT_ONCE = 4
_SHARED = ("ReadWriteMany", "ReadOnlyMany")


@dataclass(frozen=True, slots=True)
class _Target:
    """What the checks are about."""

    name: str
    settings: KubernetesTarget
    nodes: int
    connection: Cluster

    @property
    def namespace(self) -> str:
        return self.settings.namespace


def find(project: Project, name: str) -> KubernetesTarget:
    """The target `name` of mlp.yaml. Raises UsageError, with those that there are."""
    targets = project.config.targets
    if name in targets:
        return targets[name]
    if name == LOCAL:
        raise UsageError("target 'local' is this machine", fix="mlp doctor checks it")
    have = ", ".join([LOCAL, *sorted(targets)])
    raise UsageError(
        f"target {name!r} is not in mlp.yaml (have: {have}){did_you_mean(name, targets)}",
        fix=f"mlp targets add {name}",
    )


def most_nodes(project: Project, name: str) -> int:
    """The most nodes that a stage launched on the target has in mlp.yaml; 1 without any."""
    launches = project.config.launch.values()
    return max((launch.nodes for launch in launches if launch.target == name), default=1)


def check(project: Project, target_name: str, nodes: int, deep: bool) -> list[Check]:
    """Look at all that a job of `nodes` pods on a target needs; nothing is raised for what is wrong
    there. With `deep` a small Job is run on it, too, and removed, which takes seconds.

    Raises UsageError where mlp.yaml has no such target.
    """
    settings = find(project, target_name)
    # DVC is not made for threads: it is read while nothing else is.
    remote = _remote(project)
    found = [*before_launch(project, target_name, settings, nodes, deep=deep), remote]
    return found + (_probed(project, target_name, settings, found) if deep else [])


def require(project: Project, name: str, settings: KubernetesTarget, nodes: int) -> Sequence[Check]:
    """What `before_launch` finds; ConfigurationError for what would keep the job from running."""
    found = before_launch(project, name, settings, nodes)
    problems = [check for check in found if check.verdict == Verdict.PROBLEM]
    if problems:
        first, *more = problems
        raise ConfigurationError(
            f"nothing can run on {name}: {first.message}",
            fix=first.fix,
            cause="\n".join(f"{check.name}: {check.message}" for check in more) or first.cause,
        )
    return found


def before_launch(
    project: Project,
    target_name: str,
    settings: KubernetesTarget,
    nodes: int,
    *,
    deep: bool = False,
) -> list[Check]:
    """What `check` looks at in the cluster and the registry, for a target as a launch has it.

    Reads nothing of DVC, so that a thread may do it beside what does.
    """
    try:
        connection = Cluster(settings.context, settings.namespace)
    except MlpError as e:
        return [_problem("cluster", e)]
    target = _Target(target_name, settings, nodes, connection)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        image = threads.submit(_image, project, target_name, settings)
        found = _cluster(target)
        if _works(found):
            found += _inside(target, threads, deep)
        return [*found, image.result()]


def _works(found: Iterable[Check]) -> bool:
    return all(each.verdict != Verdict.PROBLEM for each in found)


def _problem(name: str, error: MlpError) -> Check:
    return Check(name, Verdict.PROBLEM, error.message, error.fix, error.cause)


def _unknown(name: str, error: MlpError, what: str = "") -> Check:
    """What the cluster does not tell."""
    told = f"cannot be known from here{what and f': {what}'}"
    return Check(name, Verdict.UNKNOWN, told, cause=error.cause or error.message)


def _judged(
    name: str, answer: "Future[T]", judge: Callable[[T], Iterable[Check]], what: str = ""
) -> list[Check]:
    """What `judge` says to the cluster's answer; unknown where it gives none."""
    try:
        return list(judge(answer.result()))
    except MlpError as e:
        return [_unknown(name, e, what)]


# --- the cluster --------------------------------------------------------------------------------


def _cluster(target: _Target) -> list[Check]:
    """Whether it answers, and has the namespace."""
    try:
        version = cluster.version(target.connection)
    except MlpError as e:
        return [_problem("cluster", e)]
    where = f"{version} at {target.connection.address}"
    found = [Check("cluster", Verdict.OK, where)]
    try:
        cluster.require_namespace(target.connection)
    except NotFoundError:
        found.append(
            Check(
                "namespace",
                Verdict.PROBLEM,
                f"the cluster has no namespace {target.namespace!r}",
                fix=f"kubectl create namespace {target.namespace}, or mend"
                f" targets.{target.name}.namespace in mlp.yaml",
            )
        )
    except MlpError as e:
        found.append(_unknown("namespace", e, f"whether there is {target.namespace!r}"))
    else:
        found.append(Check("namespace", Verdict.OK, f"{target.namespace} is there"))
    return found


def _inside(target: _Target, threads: ThreadPoolExecutor, deep: bool) -> list[Check]:
    """What the namespace and the nodes are like; everything is asked at once."""
    link, settings = target.connection, target.settings
    rights = _rights(target)
    quotas = threads.submit(cluster.quotas, link)
    ranges = threads.submit(cluster.limit_ranges, link)
    nodes = threads.submit(cluster.nodes, link)
    used = threads.submit(cluster.used, link) if deep else None
    secrets = {
        name: threads.submit(cluster.require_secret, link, name) for name in _secrets(target)
    }
    claims = threads.submit(cluster.claims, link) if _claims(settings) else None
    classes = threads.submit(cluster.priority_classes, link) if settings.priority_class else None
    queues = threads.submit(cluster.queues, link) if settings.queue else None

    def fits(found: Sequence[target_fit.Node]) -> Iterable[Check]:
        taken = _or_none(used) if used else None
        check = target_fit.nodes(target.name, settings, target.nodes, found, taken)
        if check.verdict == Verdict.PROBLEM:
            back = [_back(node) for node in found]
            then = target_fit.nodes(target.name, settings, target.nodes, back)
            if then.verdict == Verdict.OK:
                told = f"{check.message}, until nodes that are away are back"
                check = dataclasses.replace(check, verdict=Verdict.NOTE, message=told)
        yield check

    found = [rights]
    found += _judged(
        "quota", quotas, lambda q: target_fit.quota(target.name, settings, target.nodes, q)
    )
    found += _judged("limits", ranges, lambda r: target_fit.limits(target.name, settings, r))
    found += _secrets_there(target, secrets)
    if claims:
        found += _judged("claims", claims, lambda c: _claims_usable(target, c))
    if classes:
        found += _judged("priority", classes, lambda names: _priority(target, names))
    if queues:
        found += _judged("queue", queues, lambda q: _queue(target, q))
    found += _judged("nodes", nodes, fits, "whether any node is large enough")
    return found


def _back(node: target_fit.Node) -> target_fit.Node:
    """A node as it is when it is ready again, without the taints that the cluster gave it."""
    own = [t for t in node.taints if not str(t.get("key", "")).startswith("node.kubernetes.io/")]
    return node if node.ready else dataclasses.replace(node, ready=True, taints=own)


def _or_none(answer: "Future[T]") -> T | None:
    try:
        return answer.result()
    except MlpError:
        return None


def _rights(target: _Target) -> Check:
    try:
        missing = cluster.missing(target.connection)
    except MlpError as e:
        return _unknown("rights", e)
    if not missing:
        return Check("rights", Verdict.OK, f"all that mlp needs in {target.namespace}")
    verbs: dict[str, list[str]] = {}
    for right in missing:
        what = f"{right.resource}/{right.subresource}".rstrip("/")
        verbs.setdefault(what, []).append(right.verb)
    lacking = "; ".join(f"{what}: {', '.join(names)}" for what, names in verbs.items())
    return Check(
        "rights",
        Verdict.PROBLEM,
        f"you may not do all that mlp needs in {target.namespace}; missing are {lacking}",
        fix="ask whoever runs the cluster for the Role in docs/role.yaml",
    )


# --- what the pods refer to ---------------------------------------------------------------------


def _secrets(target: _Target) -> list[str]:
    settings = target.settings
    names = [*settings.secrets, *settings.secret_files, *settings.image_pull_secrets]
    return list(dict.fromkeys(names))


def _secrets_there(target: _Target, answers: "Mapping[str, Future[None]]") -> Iterator[Check]:
    there, hidden = [], []
    for name, answer in answers.items():
        try:
            answer.result()
            there.append(name)
        except NotFoundError:
            kind = "docker-registry" if name in target.settings.image_pull_secrets else "generic"
            how = "--from-literal=KEY=VALUE" if kind == "generic" else "--docker-server=REGISTRY …"
            yield Check(
                "secrets",
                Verdict.PROBLEM,
                f"there is no Secret {name!r} in namespace {target.namespace}",
                fix=f"kubectl create secret {kind} {name} --namespace {target.namespace} {how}",
            )
        except ForbiddenError:
            hidden.append(name)
        except MlpError as e:
            yield _unknown("secrets", e, f"whether there is {name}")
    if hidden:
        names = ", ".join(hidden)
        yield Check(
            "secrets",
            Verdict.UNKNOWN,
            f"cannot be known from here: whether there is {names} (you may not read Secrets)",
        )
    if there:
        yield Check("secrets", Verdict.OK, f"{', '.join(there)}: there")


def _claims(settings: KubernetesTarget) -> list[str]:
    claims = [volume.claim for volume in settings.volumes]
    if settings.checkpoints and "://" not in settings.checkpoints:
        claims.append(settings.checkpoints)
    return list(dict.fromkeys(claims))


def _claims_usable(target: _Target, found: Mapping[str, Any]) -> Iterator[Check]:
    good = []
    for name in _claims(target.settings):
        wrong = _claim_wrong(target, name, found)
        if wrong is None:
            good.append(name)
        else:
            yield wrong
    if good:
        yield Check("claims", Verdict.OK, f"{', '.join(good)}: there")


def _claim_wrong(target: _Target, name: str, found: Mapping[str, Any]) -> Check | None:
    if name not in found:
        have = ", ".join(sorted(found)) or "none"
        return Check(
            "claims",
            Verdict.PROBLEM,
            f"there is no volume claim {name!r} in namespace {target.namespace} (have: {have})"
            f"{did_you_mean(name, found)}",
            fix=f"make it, or mend its name under targets.{target.name} in mlp.yaml",
        )
    claim = found[name]
    modes = claim["spec"].get("accessModes", ())
    if target.nodes > 1 and not any(mode in _SHARED for mode in modes):
        return Check(
            "claims",
            Verdict.PROBLEM,
            f"volume claim {name!r} can be mounted by one node at a time ({', '.join(modes)}),"
            f" and the job has {target.nodes}",
            fix="use a claim with access mode ReadWriteMany, or --nodes 1",
        )
    phase = claim.get("status", {}).get("phase", "Pending")
    if phase == "Bound":
        return None
    if phase == "Pending":
        try:
            modes_by_class = cluster.storage_classes(target.connection)
        except MlpError as e:
            return _unknown("claims", e, f"whether {name}, which is not bound yet, waits for a pod")
        kind = claim["spec"].get("storageClassName", "")
        if modes_by_class.get(kind) == "WaitForFirstConsumer":
            return None
    return Check(
        "claims",
        Verdict.PROBLEM,
        f"volume claim {name!r} has no volume: it is {phase}",
        fix=f"kubectl describe pvc {name} --namespace {target.namespace}",
    )


def _priority(target: _Target, names: Sequence[str]) -> Iterator[Check]:
    name = str(target.settings.priority_class)
    if name in names:
        yield Check("priority", Verdict.OK, f"class {name} is there")
        return
    yield Check(
        "priority",
        Verdict.PROBLEM,
        f"the cluster has no priority class {name!r} (have: {', '.join(sorted(names))})"
        f"{did_you_mean(name, names)}",
        fix=f"mend targets.{target.name}.priority_class in mlp.yaml",
    )


def _queue(target: _Target, queues: Mapping[str, Any] | None) -> Iterator[Check]:
    name = str(target.settings.queue)
    fix = f"mend targets.{target.name}.queue in mlp.yaml"
    if queues is None:
        yield Check(
            "queue",
            Verdict.PROBLEM,
            f"Kueue is not installed in the cluster: a job in queue {name!r} would wait for ever",
            fix=f"remove targets.{target.name}.queue from mlp.yaml, or install Kueue",
        )
    elif name not in queues:
        have = ", ".join(sorted(queues)) or "none"
        yield Check(
            "queue",
            Verdict.PROBLEM,
            f"namespace {target.namespace} has no LocalQueue {name!r} (have: {have})"
            f"{did_you_mean(name, queues)}",
            fix=fix,
        )
    else:
        conditions = queues[name].get("status", {}).get("conditions", ())
        down = [c for c in conditions if c["type"] == "Active" and c["status"] == "False"]
        if down:
            yield Check(
                "queue",
                Verdict.PROBLEM,
                f"LocalQueue {name!r} lets nothing in",
                fix=f"kubectl describe localqueue {name} --namespace {target.namespace}",
                cause=str(down[0].get("message", "")),
            )
        else:
            yield Check("queue", Verdict.OK, f"LocalQueue {name} is there{_waiting(queues[name])}")


def _waiting(queue: Mapping[str, Any]) -> str:
    """How many jobs are in front of a new one, as far as Kueue counts them."""
    status = queue.get("status", {})
    pending, admitted = status.get("pendingWorkloads"), status.get("admittedWorkloads")
    if pending is None:
        return ""
    return f": {pending} wait in it" + (f", {admitted} were let in" if admitted else "")


# --- image and data -----------------------------------------------------------------------------


def _image(project: Project, name: str, settings: KubernetesTarget) -> Check:
    from mlp.adapters import images as door

    try:
        image = building.image(project, name)
        parts = images.reference(image)
    except MlpError as e:
        return _problem("image", e)
    # A registry knows a digest where it knows a tag.
    by = dataclasses.replace(parts, tag=parts.digest or parts.tag or "latest")
    there = door.published(image, by, settings.build.push_flags)
    if there is None:
        return Check(
            "image", Verdict.UNKNOWN, f"cannot be known from here: whether {image} is there"
        )
    if there:
        return Check("image", Verdict.OK, image)
    built = not images.reference(settings.image).fixed
    return Check(
        "image",
        Verdict.PROBLEM,
        f"the registry does not have {image}",
        fix=f"mlp build {name}" if built else f"push it, or mend targets.{name}.image in mlp.yaml",
    )


def _remote(project: Project) -> Check:
    """Whether there is a DVC remote that more than this machine has."""
    root = data.root(project.root)
    fix = "dvc remote add --default NAME s3://BUCKET/PATH"
    if root is None:
        return Check("remote", Verdict.PROBLEM, "there is no DVC project here", fix="dvc init")
    try:
        remote = data.default_remote(root)
    except MlpError as e:
        return _problem("remote", e)
    if remote is None:
        told = "there is no default DVC remote: pods could not get code and data"
        return Check("remote", Verdict.PROBLEM, told, fix=fix)
    if remote.local:
        told = f"DVC remote {remote.name} is a directory of this machine: pods cannot reach it"
        return Check("remote", Verdict.PROBLEM, told, fix=fix)
    return Check("remote", Verdict.OK, f"by way of DVC remote {remote.name} ({remote.url})")


def _probed(
    project: Project, name: str, settings: KubernetesTarget, found: Sequence[Check]
) -> list[Check]:
    """What a pod finds, where one can be made."""
    first = ("cluster", "namespace", "rights", "secrets")
    wrong = [c.name for c in found if c.name in first and c.verdict == Verdict.PROBLEM]
    if wrong:
        return [Check("pod", Verdict.UNKNOWN, f"not tried: {wrong[0]} has to be right first")]
    if any(c.name == "image" and c.verdict == Verdict.PROBLEM for c in found):
        told = "not tried: the image is not there yet, so nothing was asked from inside of a pod"
        return [Check("pod", Verdict.NOTE, told)]
    image = building.image(project, name)
    connection = Cluster(settings.context, settings.namespace)
    return target_probing.probe(project, name, settings, image, connection)
