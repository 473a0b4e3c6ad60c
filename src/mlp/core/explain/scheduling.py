"""Why the cluster's scheduler finds no node for a job's pods, and what to do about it."""

import re
from dataclasses import dataclass
from typing import Any

from mlp.core.checkup.health import CheckVerdict
from mlp.core.explain.observation import (
    Object,
    Observation,
    Reason,
    clipped,
    condition,
    containers,
    current,
    gang,
    lost_nodes,
    name,
    newest_events,
    place,
    template,
    times,
)
from mlp.core.launch import target_fit
from mlp.core.launch.target_fit import Node
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.quantities import amount

_ANY_TAINT = {"operator": "Exists"}


@dataclass(frozen=True, slots=True)
class Case:
    """A job that waits on the target called `title`."""

    seen: Observation
    target: KubernetesTarget
    title: str

    def key(self, path: str) -> str:
        """Where something of the target is in mlp.yaml."""
        return f"targets.{self.title}.{path}"

    @property
    def kubectl(self) -> str:
        """How a command for kubectl begins."""
        return f"kubectl --namespace {self.target.namespace}"


def unscheduled(pod: Object) -> Object | None:
    """The condition that says so, None for a pod that has a node or was not looked at."""
    found = condition(pod, "PodScheduled")
    return found if found is not None and found.get("status") == "False" else None


def no_node(case: Case, pod: Object) -> Reason:
    """Why a pod that is `unscheduled` is."""
    found = unscheduled(pod) or {}
    said = str(found.get("message") or "")
    if found.get("reason") == "SchedulingGated":
        return Reason("the pods are held back by a scheduling gate", "tell who runs the cluster")
    return _claim(case, said) or _fits_nowhere(case, said) or _turned_away(case, said)


def _claim(case: Case, said: str) -> Reason | None:
    if found := re.search(r'persistentvolumeclaim "([^"]+)" (not found|is being deleted)', said):
        state = "is being deleted" if "deleted" in found[2] else "is not there"
        return Reason(
            f"volume claim {found[1]} {state} in namespace {case.target.namespace}",
            f"make it, or correct {case.key('volumes')} in mlp.yaml; `{case.kubectl} get pvc`",
        )
    if "unbound" not in said and "persistent volumes to bind" not in said:
        return None
    wanted = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in template(case.seen).get("volumes", ())
        if "persistentVolumeClaim" in volume
    }
    unbound = [
        name(claim)
        for claim in case.seen.claims
        if name(claim) in wanted and claim.get("status", {}).get("phase") != "Bound"
    ] or sorted(wanted)
    events = newest_events(case.seen, "PersistentVolumeClaim", "ProvisioningFailed")
    told = [clipped(events[claim]["message"]) for claim in unbound if claim in events]
    names = ", ".join(unbound)
    text = f"volume claim {names} is not bound: {'; '.join(told) or 'no volume is there for it'}"
    return Reason(text, f"{case.kubectl} describe pvc {' '.join(unbound)}")


def _fits_nowhere(case: Case, said: str) -> Reason | None:
    """Why not even an empty cluster would hold the gang."""
    if not case.seen.nodes:
        return None
    found = [target_fit.node(item) for item in case.seen.nodes]
    target = _as_submitted(case)
    check = target_fit.nodes(case.title, target, gang(case.seen), found)
    if check.verdict is not CheckVerdict.PROBLEM:
        return _affinity(case, said)
    tolerant = target.model_copy(update={"tolerations": (_ANY_TAINT,)})
    if target_fit.nodes(case.title, tolerant, gang(case.seen), found).verdict is CheckVerdict.OK:
        return _tainted(case, target, tolerant, found)
    lost = ", ".join(lost_nodes(case.seen))
    return Reason(check.message + (f"; not ready: {lost}" if lost else ""), check.fix)


def _tainted(
    case: Case, target: KubernetesTarget, tolerant: KubernetesTarget, found: list[Node]
) -> Reason:
    """The taints of the nodes that would do."""
    taints = [
        taint
        for node in found
        if target_fit.nodes(case.title, tolerant, 1, [node]).verdict is CheckVerdict.OK
        for taint in target_fit.refusing_taints(node, target.tolerations)
    ]
    words = sorted({f"{_pair(t.get('key'), t.get('value'))}:{t.get('effect')}" for t in taints})
    example = f"{{key: {taints[0].get('key')}, operator: Exists}}" if taints else ""
    return Reason(
        f"the nodes that could hold the pods keep them away by a taint: {', '.join(words)}",
        f"add {example} to {case.key('tolerations')} in mlp.yaml",
    )


def _pair(key: object, value: object) -> str:
    return f"{key}={value}" if value else str(key)


def _affinity(case: Case, said: str) -> Reason | None:
    if "node affinity" not in said or "affinity" not in template(case.seen):
        return None
    parts = _parts(said)
    if any("Insufficient" in what for _, what in parts):
        return None
    return Reason("no node matches the affinity", f"correct {case.key('affinity')} in mlp.yaml")


def _turned_away(case: Case, said: str) -> Reason:
    """The scheduler's own words, where the nodes are not known or others use them."""
    lacking = [w.removeprefix("Insufficient ") for _, w in _parts(said) if "Insufficient" in w]
    if lacking and case.seen.nodes:
        placed = sum(bool(place(pod)) for pod in current(case.seen))
        have = f"{placed} of {gang(case.seen)} pods have room; " if placed else ""
        busy = f"{have}no node has {_asks(case, lacking)} free now: other pods use them"
        wait = "it starts when they end; `mlp jobs list` shows yours"
        nodes = [target_fit.node(item) for item in case.seen.nodes]
        if closed := target_fit.cordoned(_as_submitted(case), nodes):
            busy += f", and {target_fit.are_cordoned(closed)}"
            wait = f"{target_fit.uncordon(closed)}; or {wait}"
        return Reason(busy, wait)
    words = [_turned_away_by(case, number, what) for number, what in _parts(said)]
    text = "; ".join(words) or clipped(said) or "the scheduler has not looked at the pods yet"
    return Reason(f"no node takes the pods: {text}", _turned_away_fix(case, said))


def _asks(case: Case, resources: list[str]) -> str:
    requests: dict[str, Any] = {}
    for container in containers(template(case.seen))[:1]:
        requests = container.get("resources", {}).get("requests") or {}
    return ", ".join(
        target_fit.words(each, amount(requests[each])) if each in requests else each
        for each in resources
    )


def _turned_away_by(case: Case, number: int, what: str) -> str:
    nodes = times(number, "node")
    if what.startswith("Insufficient "):
        return f"{nodes} without {_asks(case, [what.removeprefix('Insufficient ')])} free"
    if found := re.search(r"taint(?:\(s\))? \{([^:}]+): ?([^}]*)\}", what):
        return f"{nodes} with the taint {_pair(found[1], found[2])}"
    if "affinity/selector" in what:
        return f"{nodes} not of node_selector or affinity"
    if "unschedulable" in what:
        return f"{nodes} closed for new pods (cordoned)"
    return f"{nodes}: {what.removeprefix('node(s) ')}"


def _turned_away_fix(case: Case, said: str) -> str:
    if "unschedulable" in said:
        return "kubectl uncordon NODE; `kubectl get nodes` shows which are closed"
    if "taint" in said:
        return f"add tolerations to {case.key('tolerations')} in mlp.yaml"
    if "affinity/selector" in said:
        return f"correct {case.key('node_selector')} or {case.key('affinity')} in mlp.yaml"
    if "Insufficient" in said:
        return f"wait for others to end, or lower {case.key('resources')} and raise --nodes"
    return f"{case.kubectl} describe pods"


def _parts(said: str) -> list[tuple[int, str]]:
    """What the scheduler says of the nodes: how many, and what is wrong with them."""
    _, _, text = said.partition("nodes are available: ")
    text = re.split(r"\.?\s+(?:no new claims|preemption:)", text)[0].removesuffix(".")
    found = (re.fullmatch(r"(\d+) (.+)", part.strip()) for part in text.split(", "))
    return [(int(match[1]), match[2]) for match in found if match is not None]


def _as_submitted(case: Case) -> KubernetesTarget:
    """The target as the job was made from it: with `--gpus`, before mlp.yaml was changed."""
    pod = template(case.seen)
    requests: dict[str, Any] = {}
    for container in containers(pod)[:1]:
        requests = container.get("resources", {}).get("requests") or {}
    kinds = [case.target.resources.gpu_resource, *(key for key in requests if "/" in key)]
    gpu = next((kind for kind in kinds if kind in requests), kinds[0])
    resources = {
        "cpu": requests.get("cpu"),
        "memory": requests.get("memory"),
        "gpu_resource": gpu,
        "gpu": int(requests.get(gpu, 0)),
    }
    return case.target.model_copy(
        update={
            "resources": case.target.resources.model_copy(update=resources),
            "node_selector": pod.get("nodeSelector", {}),
            "tolerations": pod.get("tolerations", ()),
        }
    )
