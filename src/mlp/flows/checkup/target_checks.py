"""Whether stages can run on a target: looked at from here, and from a pod where that is wanted."""

import dataclasses
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mlp.adapters import cluster, data
from mlp.adapters.cluster import Cluster, NotFoundError
from mlp.core.checkup.health import Check, CheckVerdict
from mlp.core.errors import ConfigurationError, MlpError
from mlp.core.launch import image as images
from mlp.core.launch import target_fit
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.flows.checkup import target_probing, target_references
from mlp.flows.checkup.target_references import Target, judged, unknown
from mlp.flows.launch import image_building
from mlp.flows.project import Project

T = TypeVar("T")

# Fewer than the connections that the client keeps open.
_AT_ONCE = 4


def most_nodes(project: Project, name: str) -> int:
    """The most nodes that a stage launched on the target has in mlp.yaml; 1 without any."""
    launches = project.config.launch.values()
    return max((launch.nodes or 1 for launch in launches if launch.target == name), default=1)


def check(project: Project, target_name: str, nodes: int, deep: bool) -> list[Check]:
    """Look at all that a job of `nodes` pods on a target needs; nothing is raised for what is wrong
    there. With `deep` a small Job is run on it, too, and removed, which takes seconds.

    Raises UsageError where mlp.yaml has no such target.
    """
    settings = project.target(target_name)
    # DVC is not made for threads: it is read while nothing else is.
    remote = _remote(project)
    found = [*before_launch(project, target_name, settings, nodes, deep=deep), remote]
    return found + (_probed(project, target_name, settings, found) if deep else [])


def require(project: Project, name: str, settings: KubernetesTarget, nodes: int) -> Sequence[Check]:
    """What `before_launch` finds; ConfigurationError for what would keep the job from running."""
    found = before_launch(project, name, settings, nodes)
    problems = [check for check in found if check.verdict == CheckVerdict.PROBLEM]
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

    Reads nothing of DVC but its settings, so that a thread may do it beside what does.
    """
    try:
        connection = Cluster(settings.context, settings.namespace)
    except MlpError as e:
        return [_problem("cluster", e)]
    target = Target(target_name, settings, nodes, connection)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        image = threads.submit(_image, project, target_name, settings)
        found = _cluster(target)
        if _works(found):
            found += _inside(target, threads, deep)
        return [*found, image.result()]


def _works(found: Iterable[Check]) -> bool:
    return all(each.verdict != CheckVerdict.PROBLEM for each in found)


def _problem(name: str, error: MlpError) -> Check:
    return Check(name, CheckVerdict.PROBLEM, error.message, error.fix, error.cause)


# --- the cluster --------------------------------------------------------------------------------


def _cluster(target: Target) -> list[Check]:
    """Whether it answers, and has the namespace."""
    try:
        version = cluster.version(target.connection)
    except MlpError as e:
        return [_problem("cluster", e)]
    where = f"{version} at {target.connection.address}"
    found = [Check("cluster", CheckVerdict.OK, where)]
    try:
        cluster.require_namespace(target.connection)
    except NotFoundError:
        found.append(
            Check(
                "namespace",
                CheckVerdict.PROBLEM,
                f"the cluster has no namespace {target.namespace!r}",
                fix=f"kubectl create namespace {target.namespace}, or correct"
                f" targets.{target.name}.namespace in mlp.yaml",
            )
        )
    except MlpError as e:
        found.append(unknown("namespace", e, f"whether there is {target.namespace!r}"))
    else:
        found.append(Check("namespace", CheckVerdict.OK, f"{target.namespace} is there"))
    return found


def _inside(target: Target, threads: ThreadPoolExecutor, deep: bool) -> list[Check]:
    """What the namespace and the nodes are like; everything is asked at once."""
    link, settings = target.connection, target.settings
    rights = _rights(target)
    quotas = threads.submit(cluster.quotas, link)
    ranges = threads.submit(cluster.limit_ranges, link)
    nodes = threads.submit(cluster.nodes, link)
    used = threads.submit(cluster.used, link) if deep else None
    references = target_references.ask(target, threads)

    def fits(found: Sequence[target_fit.Node]) -> Iterable[Check]:
        taken = _or_none(used) if used else None
        check = target_fit.nodes(target.name, settings, target.nodes, found, taken)
        if check.verdict == CheckVerdict.PROBLEM:
            back = [target_fit.reopened(node) for node in found]
            then = target_fit.nodes(target.name, settings, target.nodes, back)
            if then.verdict == CheckVerdict.OK:
                told = f"{check.message}; a job waits until nodes are back"
                check = dataclasses.replace(check, verdict=CheckVerdict.NOTE, message=told)
        yield check

    found = [rights]
    found += judged(
        "quota", quotas, lambda q: target_fit.quota(target.name, settings, target.nodes, q)
    )
    found += judged("limits", ranges, lambda r: target_fit.limits(target.name, settings, r))
    found += references()
    found += judged("nodes", nodes, fits, "whether any node is large enough")
    return found


def _or_none(answer: "Future[T]") -> T | None:
    try:
        return answer.result()
    except MlpError:
        return None


def _rights(target: Target) -> Check:
    try:
        missing = cluster.missing(target.connection)
    except MlpError as e:
        return unknown("rights", e)
    if not missing:
        return Check("rights", CheckVerdict.OK, f"all that mlp needs in {target.namespace}")
    verbs: dict[str, list[str]] = {}
    for right in missing:
        what = f"{right.resource}/{right.subresource}".rstrip("/")
        verbs.setdefault(what, []).append(right.verb)
    lacking = "; ".join(f"{what}: {', '.join(names)}" for what, names in verbs.items())
    return Check(
        "rights",
        CheckVerdict.PROBLEM,
        f"you may not do all that mlp needs in {target.namespace}; missing are {lacking}",
        fix="ask whoever runs the cluster for the Role in docs/role.yaml",
    )


# --- image and data -----------------------------------------------------------------------------


def _image(project: Project, name: str, settings: KubernetesTarget) -> Check:
    from mlp.adapters import images as door

    try:
        image = image_building.image(project, name)
        parts = images.reference(image)
    except MlpError as e:
        return _problem("image", e)
    # A registry knows a digest where it knows a tag.
    by = dataclasses.replace(parts, tag=parts.digest or parts.tag or "latest")
    there = door.published(image, by, settings.build.push_flags)
    if there is None:
        return Check(
            "image", CheckVerdict.UNKNOWN, f"cannot be known from here: whether {image} is there"
        )
    if there:
        return Check("image", CheckVerdict.OK, image)
    built = not images.reference(settings.image).fixed
    return Check(
        "image",
        CheckVerdict.PROBLEM,
        f"the registry does not have {image}",
        fix=f"mlp build {name}"
        if built
        else f"push it, or correct targets.{name}.image in mlp.yaml",
    )


def _remote(project: Project) -> Check:
    """Whether there is a DVC remote that more than this machine has."""
    root = data.root(project.root)
    fix = "dvc remote add --default NAME s3://BUCKET/PATH"
    if root is None:
        return Check("remote", CheckVerdict.PROBLEM, "there is no DVC project here", fix="dvc init")
    try:
        remote = data.default_remote(root)
    except MlpError as e:
        return _problem("remote", e)
    if remote is None:
        told = "there is no default DVC remote: pods could not get code and data"
        return Check("remote", CheckVerdict.PROBLEM, told, fix=fix)
    if remote.local:
        told = f"DVC remote {remote.name} is a directory of this machine: pods cannot reach it"
        return Check("remote", CheckVerdict.PROBLEM, told, fix=fix)
    return Check("remote", CheckVerdict.OK, f"by way of DVC remote {remote.name} ({remote.url})")


def _probed(
    project: Project, name: str, settings: KubernetesTarget, found: Sequence[Check]
) -> list[Check]:
    """What a pod finds, where one can be made."""
    first = ("cluster", "namespace", "rights", "secrets")
    wrong = [c.name for c in found if c.name in first and c.verdict == CheckVerdict.PROBLEM]
    if wrong:
        return [Check("pod", CheckVerdict.UNKNOWN, f"not tried: {wrong[0]} has to be right first")]
    if any(c.name == "image" and c.verdict == CheckVerdict.PROBLEM for c in found):
        told = "not tried: the image is not there yet, so nothing was asked from inside of a pod"
        return [Check("pod", CheckVerdict.NOTE, told)]
    image = image_building.image(project, name)
    connection = Cluster(settings.context, settings.namespace)
    return target_probing.probe(project, name, settings, image, connection)
