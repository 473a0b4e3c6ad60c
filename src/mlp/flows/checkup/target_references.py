"""What the pods of a target refer to: whether the cluster has it, and whether it can be used."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from mlp.adapters import cluster
from mlp.adapters.cluster import Cluster, ForbiddenError, NotFoundError
from mlp.core.checkup.health import Check, CheckVerdict
from mlp.core.errors import MlpError
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.nearest import did_you_mean

T = TypeVar("T")

_SHARED = ("ReadWriteMany", "ReadOnlyMany")


@dataclass(frozen=True, slots=True)
class Target:
    """What the checks are about."""

    name: str
    settings: KubernetesTarget
    nodes: int
    connection: Cluster

    @property
    def namespace(self) -> str:
        """Where its pods are."""
        return self.settings.namespace


def unknown(name: str, error: MlpError, what: str = "") -> Check:
    """What the cluster does not tell."""
    told = f"cannot be known from here{what and f': {what}'}"
    return Check(name, CheckVerdict.UNKNOWN, told, cause=error.cause or error.message)


def judged(
    name: str, answer: "Future[T]", judge: Callable[[T], Iterable[Check]], what: str = ""
) -> list[Check]:
    """What `judge` says to the cluster's answer; unknown where it gives none."""
    try:
        return list(judge(answer.result()))
    except MlpError as e:
        return [unknown(name, e, what)]


def ask(target: Target, threads: ThreadPoolExecutor) -> Callable[[], list[Check]]:
    """Begin to look for Secrets, volume claims, priority class and queue; the checks, when called.

    What the target does not refer to is not looked for.
    """
    link, settings = target.connection, target.settings
    secrets = {
        name: threads.submit(cluster.require_secret, link, name) for name in _secrets(settings)
    }
    claims = threads.submit(cluster.claims, link) if _claims(settings) else None
    classes = threads.submit(cluster.priority_classes, link) if settings.priority_class else None
    queues = threads.submit(cluster.queues, link) if settings.queue else None

    def checks() -> list[Check]:
        found = [*_secrets_there(target, secrets)]
        if claims:
            found += judged("claims", claims, lambda c: _claims_usable(target, c))
        if classes:
            found += judged("priority", classes, lambda names: _priority(target, names))
        if queues:
            found += judged("queue", queues, lambda q: _queue(target, q))
        return found

    return checks


def _secrets(settings: KubernetesTarget) -> list[str]:
    names = [*settings.secrets, *settings.secret_files, *settings.image_pull_secrets]
    return list(dict.fromkeys(names))


def _secrets_there(target: Target, answers: "Mapping[str, Future[None]]") -> Iterator[Check]:
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
                CheckVerdict.PROBLEM,
                f"there is no Secret {name!r} in namespace {target.namespace}",
                fix=f"kubectl create secret {kind} {name} --namespace {target.namespace} {how}",
            )
        except ForbiddenError:
            hidden.append(name)
        except MlpError as e:
            yield unknown("secrets", e, f"whether there is {name}")
    if hidden:
        names = ", ".join(hidden)
        yield Check(
            "secrets",
            CheckVerdict.UNKNOWN,
            f"cannot be known from here: whether there is {names} (you may not read Secrets)",
        )
    if there:
        yield Check("secrets", CheckVerdict.OK, f"{', '.join(there)}: there")


def _claims(settings: KubernetesTarget) -> list[str]:
    claims = [volume.claim for volume in settings.volumes]
    if settings.checkpoints and "://" not in settings.checkpoints:
        claims.append(settings.checkpoints)
    return list(dict.fromkeys(claims))


def _claims_usable(target: Target, found: Mapping[str, Any]) -> Iterator[Check]:
    good = []
    for name in _claims(target.settings):
        wrong = _claim_wrong(target, name, found)
        if wrong is None:
            good.append(name)
        else:
            yield wrong
    if good:
        yield Check("claims", CheckVerdict.OK, f"{', '.join(good)}: there")


def _claim_wrong(target: Target, name: str, found: Mapping[str, Any]) -> Check | None:
    if name not in found:
        have = ", ".join(sorted(found)) or "none"
        return Check(
            "claims",
            CheckVerdict.PROBLEM,
            f"there is no volume claim {name!r} in namespace {target.namespace} (have: {have})"
            f"{did_you_mean(name, found)}",
            fix=f"make it, or correct its name under targets.{target.name} in mlp.yaml",
        )
    claim = found[name]
    modes = claim["spec"].get("accessModes", ())
    if target.nodes > 1 and not any(mode in _SHARED for mode in modes):
        return Check(
            "claims",
            CheckVerdict.PROBLEM,
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
            return unknown("claims", e, f"whether {name}, which is not bound yet, waits for a pod")
        kind = claim["spec"].get("storageClassName", "")
        if modes_by_class.get(kind) == "WaitForFirstConsumer":
            return None
    return Check(
        "claims",
        CheckVerdict.PROBLEM,
        f"volume claim {name!r} has no volume: it is {phase}",
        fix=f"kubectl describe pvc {name} --namespace {target.namespace}",
    )


def _priority(target: Target, names: Sequence[str]) -> Iterator[Check]:
    name = str(target.settings.priority_class)
    if name in names:
        yield Check("priority", CheckVerdict.OK, f"class {name} is there")
        return
    yield Check(
        "priority",
        CheckVerdict.PROBLEM,
        f"the cluster has no priority class {name!r} (have: {', '.join(sorted(names))})"
        f"{did_you_mean(name, names)}",
        fix=f"correct targets.{target.name}.priority_class in mlp.yaml",
    )


def _queue(target: Target, queues: Mapping[str, Any] | None) -> Iterator[Check]:
    name = str(target.settings.queue)
    fix = f"correct targets.{target.name}.queue in mlp.yaml"
    if queues is None:
        yield Check(
            "queue",
            CheckVerdict.PROBLEM,
            f"Kueue is not installed in the cluster: a job in queue {name!r} would wait for ever",
            fix=f"remove targets.{target.name}.queue from mlp.yaml, or install Kueue",
        )
    elif name not in queues:
        have = ", ".join(sorted(queues)) or "none"
        yield Check(
            "queue",
            CheckVerdict.PROBLEM,
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
                CheckVerdict.PROBLEM,
                f"LocalQueue {name!r} lets nothing in",
                fix=f"kubectl describe localqueue {name} --namespace {target.namespace}",
                cause=str(down[0].get("message", "")),
            )
        else:
            yield Check(
                "queue", CheckVerdict.OK, f"LocalQueue {name} is there{_waiting(queues[name])}"
            )


def _waiting(queue: Mapping[str, Any]) -> str:
    """How many jobs are in front of a new one, as far as Kueue counts them."""
    status = queue.get("status", {})
    pending, admitted = status.get("pendingWorkloads"), status.get("admittedWorkloads")
    if pending is None:
        return ""
    return f": {pending} wait in it" + (f", {admitted} were let in" if admitted else "")
