"""How the pods of a job ended before their work was done, and what to do about it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from mlp.core.explain.departures import Departure, departing, departures
from mlp.core.explain.observation import (
    Object,
    Observation,
    Reason,
    began,
    clipped,
    clock,
    condition,
    containers,
    ever_ran,
    gang,
    index,
    instant,
    is_true,
    leaves,
    name,
    phase,
    place,
    states,
)
from mlp.core.launch import target_fit
from mlp.core.launch.job_spec import EXIT_FAILED, FAILURES_ANNOTATION, LABEL_STAGE, MAIN_CONTAINER
from mlp.core.launch.targets_section import KubernetesTarget

# What a worker says that was ended because of another: the other one knows more.
ANOTHER_FAILED = "another node has failed"

_SIGKILL, _SIGBUS = (137, -9), (135, -7)
# What a container ends with that is asked to, or made to.
_ENDED_FROM_OUTSIDE = (None, 143, 137)
_DOING = {
    "bundle": "could not fetch the code",
    "inputs": "could not pull the inputs",
    "outputs": "could not store the outputs",
}
_DISRUPTED = {
    "PreemptionByScheduler": "had to give way to a pod of higher priority",
    "EvictionByEvictionAPI": "was evicted, as when a node is emptied for repair",
    "DeletionByTaintManager": "was given up: its node was lost, or closed by a taint",
    "DeletionByPodGC": "was given up: its node is gone",
    "TerminationByKubelet": "was ended by its node",
}


class FailureKind(IntEnum):
    """What a pod ended of; what explains the others' ends comes first."""

    KNOWN = 0  # an error of mlp's own ended the user's code
    CODE = 1
    CODE_ELSEWHERE = 2
    MEMORY = 3
    EVICTED = 4
    DISRUPTED = 5
    DELETED = 6
    PREPARING = 7
    OTHER = 8
    RENDEZVOUS = 9
    WITH_JOB = 10  # the Job ended it, for it had failed


_CODE = (FailureKind.CODE, FailureKind.CODE_ELSEWHERE)
# A gang that loses a pod so is broken: what the others' code makes of that is not a cause.
_TAKEN = (FailureKind.MEMORY, FailureKind.EVICTED, FailureKind.DISRUPTED, FailureKind.DELETED)


@dataclass(frozen=True, slots=True)
class Ending:
    """How one pod ended. `code` and `log` are of the user's command, where that is what failed."""

    index: int
    at: str
    kind: FailureKind
    reason: Reason
    final: bool = False
    """No pod after it would do better: the worker has said so."""
    code: int | None = None
    log: tuple[str, ...] = ()
    seconds: int | None = None
    """How long its main container ran, where that is known."""
    replaced: bool = False
    """A later pod of the same node has run."""


def endings(seen: Observation, target: KubernetesTarget, title: str) -> list[Ending]:
    """One for each pod that did not end well, those that are gone too, the first one first."""
    failed = seen.job is not None and any(is_true(seen.job, c) for c in ("Failed", "FailureTarget"))
    found = [
        _ending(seen, pod, target, title)
        for pod in seen.pods
        if phase(pod) == "Failed"
        or _failed_container(pod) is not None
        or _disrupted(pod)
        or (failed and leaves(pod) and phase(pod) != "Succeeded")
    ]
    found += [_departed(seen, each, target, title) for each in departures(seen)]
    return sorted(found, key=lambda ending: ending.at)


def decisive(found: Sequence[Ending]) -> Ending | None:
    """The one that says why the gang ended: the last of each node, the most telling of those."""
    final = [ending for ending in found if ending.final]
    last = [e for e in {e.index: e for e in found}.values() if e.kind is not FailureKind.WITH_JOB]
    cause = min(final or last, key=lambda ending: (ending.kind, ending.at), default=None)
    if cause is None or cause.kind not in _CODE:
        return cause
    taken = [e for e in last if e.kind in _TAKEN and not e.replaced and e.at <= cause.at]
    return min(taken, key=lambda ending: ending.at, default=cause)


def most_failures(found: Sequence[Ending]) -> int:
    """How often the node that failed most has failed."""
    counts = Counter(ending.index for ending in found if ending.kind is not FailureKind.WITH_JOB)
    return max(counts.values(), default=0)


def never_ran(seen: Observation) -> list[int]:
    """The nodes of the gang of which no pod has ever started its main container."""
    ran = {index(pod) for pod in seen.pods if ever_ran(pod) or _had_others(seen, pod)}
    ran |= {departure.index for departure in departures(seen)}
    return [each for each in range(gang(seen)) if each not in ran]


def _had_others(seen: Observation, pod: Object) -> bool:
    """Whether pods of the same node failed before this one, and are gone."""
    annotations = pod["metadata"].get("annotations") or {}
    there = sum(index(p) == index(pod) and phase(p) == "Failed" for p in seen.pods)
    return int(annotations.get(FAILURES_ANNOTATION, 0)) > there


# --- one pod ------------------------------------------------------------------------------------


def _ending(seen: Observation, pod: Object, target: KubernetesTarget, title: str) -> Ending:
    container, state = _failed_container(pod) or ("", {})
    report = _report(str(state.get("message") or ""))
    final = state.get("exitCode") == EXIT_FAILED
    at = str(state.get("finishedAt") or pod["metadata"].get("deletionTimestamp") or "")
    speaker = index(pod) if report.get("node") is None else report["node"]
    where = _where(seen, speaker, place(pod) if speaker == index(pod) else "")
    log: tuple[str, ...] = ()
    code = None
    if state.get("reason") == "OOMKilled":
        kind, reason = FailureKind.MEMORY, _out_of_memory(pod, container, report, where, title)
    elif report.get("phase") == "code" and report["fix"]:
        kind, reason = (
            FailureKind.KNOWN,
            Reason(f"{clipped(report['message'])} ({where})", report["fix"]),
        )
    elif report.get("phase") == "code":
        kind = (
            FailureKind.CODE_ELSEWHERE if report["message"] == ANOTHER_FAILED else FailureKind.CODE
        )
        code, log = report["code"], tuple(report["log"])
        reason = _code(seen, report, where, title)
    elif pod.get("status", {}).get("reason") == "Evicted":
        kind, reason = FailureKind.EVICTED, _evicted(pod, where, title)
    elif _disrupted(pod):
        why = str((condition(pod, "DisruptionTarget") or {}).get("reason"))
        text = f"{where} {_DISRUPTED.get(why, f'was ended ({why})')}"
        fix = _disruption_fix(seen, why, place(pod), target, title)
        kind, reason = FailureKind.DISRUPTED, Reason(text, fix)
    elif report.get("phase") == "rendezvous":
        text = f"the nodes did not find or keep each other: {clipped(report['message'])} ({where})"
        kind, reason = FailureKind.RENDEZVOUS, Reason(text, _logs(seen))
    elif report.get("phase") in _DOING:
        text = f"{where} {_DOING[report['phase']]}: {clipped(report['message'])}"
        fix = f"mlp doctor --target {title} checks what the pods can reach"
        kind, reason = FailureKind.PREPARING, Reason(text, fix)
    elif leaves(pod) and state.get("exitCode") in _ENDED_FROM_OUTSIDE:
        return _departed(seen, departing(seen, pod), target, title)
    else:
        kind, reason = FailureKind.OTHER, _other(seen, pod, container, state, where, title)
    replaced = _replaced(seen, index(pod), at)
    return Ending(index(pod), at, kind, reason, final, code, log, _seconds(state), replaced)


def _departed(
    seen: Observation, departure: Departure, target: KubernetesTarget, title: str
) -> Ending:
    """How a pod ended that did not end by itself."""
    where = _where(seen, departure.index, departure.place)
    pod = f"the pod of {where}" if gang(seen) > 1 else where
    if departure.because:
        kind, text = FailureKind.DISRUPTED, f"{where} {_DISRUPTED[departure.because]}"
    elif departure.at:
        kind = FailureKind.DELETED
        text = f"{pod} was deleted at {clock(departure.at)}, by hand or to empty its node"
    else:
        kind, text = FailureKind.OTHER, f"{pod} failed, and is gone with all that it said"
    fix = _disruption_fix(seen, departure.because, departure.place, target, title)
    replaced = _replaced(seen, departure.index, departure.at)
    kind = FailureKind.WITH_JOB if departure.with_job else kind
    return Ending(departure.index, departure.at, kind, Reason(text, fix), replaced=replaced)


def _where(seen: Observation, index: int, place: str) -> str:
    where = f"node {index}" if gang(seen) > 1 else "the pod"
    return f"{where} on {place}" if place else where


def _replaced(seen: Observation, node: int, at: str) -> bool:
    """Whether another pod of that node of the gang began to work later."""
    return any(began(pod) > at for pod in seen.pods if index(pod) == node)


def _seconds(state: Mapping[str, Any]) -> int | None:
    if "startedAt" not in state or "finishedAt" not in state:
        return None
    return int((instant(state["finishedAt"]) - instant(state["startedAt"])).total_seconds())


def _failed_container(pod: Object) -> tuple[str, dict[str, Any]] | None:
    """Its name, and its state at the end."""
    for container, state in states(pod):
        terminated = state.get("terminated")
        if terminated is not None and terminated.get("exitCode") != 0:
            return container, terminated
    return None


def _disrupted(pod: Object) -> bool:
    return (condition(pod, "DisruptionTarget") or {}).get("status") == "True" and (
        leaves(pod) or phase(pod) == "Failed"
    )


def _report(message: str) -> dict[str, Any]:
    """What `mlp.runtime.launch.pod.report` wrote; nothing where something else is in its place."""
    try:
        words = json.loads(message)
        log = [str(line) for line in words.get("log") or ()]
    except (ValueError, AttributeError, TypeError):  # the user's code can write there, too
        return {}
    code, node = words.get("code"), words.get("node")
    return {
        **words,
        "phase": str(words.get("phase")),
        "message": str(words.get("message", "")),
        "fix": clipped(str(words.get("fix") or "")),
        "node": node if isinstance(node, int) else None,
        "code": code if isinstance(code, int) else None,
        "log": log,
    }


def _logs(seen: Observation) -> str:
    return f"mlp jobs logs {name(seen.job)}" if seen.job is not None else "mlp jobs list"


def _code(seen: Observation, report: dict[str, Any], where: str, title: str) -> Reason:
    code = report["code"]
    fix = f"{_logs(seen)} shows all that it printed"
    hint = ""
    if code in _SIGKILL:
        hint = "; something killed it, which is mostly want of memory"
        fix = f"raise targets.{title}.resources.memory in mlp.yaml, or use less; {fix}"
    if code in _SIGBUS:
        hint = "; a bus error, which is mostly want of /dev/shm"
        fix = f"raise targets.{title}.resources.shm in mlp.yaml; {fix}"
    return Reason(f"{clipped(report['message'])} ({where}){hint}", fix)


def _out_of_memory(
    pod: Object, container: str, report: dict[str, Any], where: str, title: str
) -> Reason:
    spec = next((c for c in containers(pod["spec"]) if c["name"] == container), {})
    limit = spec.get("resources", {}).get("limits", {}).get("memory")
    what = "" if container in (MAIN_CONTAINER, "") else f" (container {container})"
    text = f"{where}{what} ran out of memory: "
    text += f"the limit is {limit}" if limit else "the node itself has no more, and no limit is set"
    if isinstance(peak := report.get("peak_memory"), int | float):
        text += f", the peak was {target_fit.words('memory', peak).removesuffix(' memory')}"
    verb = f"raise targets.{title}.resources.memory" if limit else "set resources.memory"
    return Reason(text, f"{verb} in mlp.yaml, or use less (smaller batches, fewer workers)")


def _evicted(pod: Object, where: str, title: str) -> Reason:
    said = clipped(str(pod["status"].get("message") or "it does not say why"))
    fix = "write less, or to a volume: targets.{title}.volumes in mlp.yaml"
    if "memory" in said:
        fix = "set targets.{title}.resources.memory in mlp.yaml to what the pods need"
    elif "shm" in said:
        fix = "raise targets.{title}.resources.shm in mlp.yaml"
    return Reason(f"{where} was evicted: {said}", fix.format(title=title))


def _disruption_fix(
    seen: Observation, why: str, node: str, target: KubernetesTarget, title: str
) -> str:
    if why == "PreemptionByScheduler":
        has = f" (now {target.priority_class})" if target.priority_class else ""
        return f"set a higher targets.{title}.priority_class in mlp.yaml{has}, or start it again"
    job = seen.job or {}
    stage = (job.get("metadata", {}).get("labels") or {}).get(LABEL_STAGE, "STAGE")
    now = job.get("spec", {}).get("backoffLimitPerIndex", 0)
    look = f"; `kubectl describe node {node}`" if node else ""
    return (
        f"start it again; with a higher launch.{stage}.max_restarts in mlp.yaml (now {now}) it goes"
        f" on from its last checkpoint by itself{look}"
    )


def _other(
    seen: Observation, pod: Object, container: str, state: dict[str, Any], where: str, title: str
) -> Reason:
    """A container that ended without a word of ours, or a pod that its node refused."""
    said = str(state.get("message") or "").strip()
    if state.get("reason") in ("StartError", "ContainerCannotRun"):
        return Reason(
            f"{where} cannot start container {container}: {clipped(said.split('process: ')[-1])}",
            f"the image must hold python and mlp: mlp build {title}",
        )
    if "No module named 'mlp" in said or "No module named mlp" in said:
        return Reason(f"the image does not hold mlp ({where})", f"mlp build {title}")
    if not state:
        status = pod.get("status", {})
        text = f"{where} failed: {status.get('reason') or 'the cluster does not say why'}"
        more = clipped(str(status.get("message") or ""))
        fix = f"kubectl --namespace {pod['metadata'].get('namespace', '')} describe pod {name(pod)}"
        return Reason(f"{text}: {more}" if more else text, fix)
    last = clipped(said.splitlines()[-1]) if said else ""
    text = f"container {container} ended with exit code {state.get('exitCode')} ({where})"
    return Reason(f"{text}: {last}" if last else text, f"{_logs(seen)} shows all that it printed")
