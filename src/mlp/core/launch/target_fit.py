"""Whether a gang of pods fits into a cluster: its nodes, the quotas and limits of its namespace."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlp.core.checkup.health import Check, CheckVerdict
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.quantities import amount

Object = Mapping[str, Any]

_REFUSING = ("NoSchedule", "NoExecute")
# What the vendors' device plugins offer: nvidia.com/mig-1g.5gb, amd.com/gpu, habana.ai/gaudi, ...
_ACCELERATOR = re.compile(r"gpu|gaudi|tpu|npu|neuron|ascend|^nvidia\.com/", re.IGNORECASE)
# Labels of nodes that a cloud made, which may make more of them, of other kinds too.
_POOL = re.compile(
    r"^(karpenter\.sh/|cloud\.google\.com/gke-nodepool|eks\.amazonaws\.com/)|agentpool"
)
_SCALES = (("Ti", 1024.0**4), ("Gi", 1024.0**3), ("Mi", 1024.0**2), ("Ki", 1024.0))


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster. `allocatable` is what all its pods together may ask for;
    `ready` is whether it takes pods at all, `cordoned` whether it was closed to new ones."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, float] = field(default_factory=dict)
    taints: Sequence[Mapping[str, Any]] = ()
    ready: bool = True
    cordoned: bool = False


def node(item: Object) -> Node:
    """A node as the API sends it."""
    conditions = {c["type"]: c["status"] for c in item["status"].get("conditions") or ()}
    cordoned = bool(item["spec"].get("unschedulable"))
    return Node(
        item["metadata"]["name"],
        labels=item["metadata"].get("labels") or {},
        allocatable={k: amount(v) for k, v in item["status"].get("allocatable", {}).items()},
        taints=tuple(item["spec"].get("taints") or ()),
        ready=conditions.get("Ready") == "True" and not cordoned,
        cordoned=cordoned,
    )


def reopened(node: Node) -> Node:
    """A node as it is once it is back or uncordoned, without the taints that the cluster gave."""
    own = [t for t in node.taints if not str(t.get("key", "")).startswith("node.kubernetes.io/")]
    return node if node.ready else dataclasses.replace(node, ready=True, cordoned=False, taints=own)


def cordoned(target: KubernetesTarget, found: Iterable[Node]) -> list[str]:
    """The names of the nodes that would take a pod of the target, and are closed to new ones."""
    closed = [node for node in found if node.cordoned and _selected(node, target)]
    return sorted(
        node.name
        for node in map(reopened, closed)
        if _places(asked(target), node.allocatable)
        and not refusing_taints(node, target.tolerations)
    )


def uncordon(names: Sequence[str]) -> str:
    """The command that opens nodes again."""
    return f"kubectl uncordon {' '.join(names)}"


def are_cordoned(names: Sequence[str], most: int = 5) -> str:
    """node-0 and 3 more are cordoned."""
    shown = ", ".join(names[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'} cordoned"


def asked(target: KubernetesTarget) -> dict[str, float]:
    """What one pod asks for, by the resource's name."""
    resources = target.resources
    found = {"cpu": resources.cpu, "memory": resources.memory}
    amounts = {name: amount(value) for name, value in found.items() if value is not None}
    return {**amounts, resources.gpu_resource: float(resources.gpu)} if resources.gpu else amounts


def words(resource: str, value: float) -> str:
    """An amount for people: 4 nvidia.com/gpu, 500m cpu, 64Gi memory."""
    if resource == "memory" or resource.endswith((".memory", "storage")):
        for unit, scale in _SCALES:
            if value >= scale:
                return f"{value / scale:.4g}{unit} {resource}"
    if value != int(value):
        return f"{value * 1000:.0f}m {resource}"
    return f"{value:.0f} {resource}"


# --- nodes --------------------------------------------------------------------------------------


def nodes(
    name: str,
    target: KubernetesTarget,
    gang: int,
    found: Sequence[Node],
    used: Mapping[str, Mapping[str, float]] | None = None,
) -> Check:
    """Whether any node can hold one pod of target `name`, and all of them the gang.

    `used` is what pods ask for already, by node; None where that is not known. Affinity is not
    looked at. Where nodes come and go with what is asked for, a problem is only a guess.
    """
    check = _with_cordoned(name, target, gang, found, _nodes(name, target, gang, found, used))
    if check.verdict == CheckVerdict.PROBLEM and any(
        _POOL.search(k) for n in found for k in n.labels
    ):
        told = f"{check.message}, unless the cluster adds nodes"
        return dataclasses.replace(check, verdict=CheckVerdict.UNKNOWN, message=told)
    return check


def _with_cordoned(
    name: str, target: KubernetesTarget, gang: int, found: Sequence[Node], check: Check
) -> Check:
    """What keeps pods from running, with the nodes that could take them and are closed."""
    names = cordoned(target, found)
    if check.verdict == CheckVerdict.OK or not names:
        return check
    closed = are_cordoned(names)
    open_ones = any(node.ready and _selected(node, target) for node in found)
    message = f"{check.message}; {closed}" if open_ones else f"no node takes pods: {closed}"
    opened = [reopened(node) if node.cordoned else node for node in found]
    enough = _nodes(name, target, gang, opened, None).verdict == CheckVerdict.OK
    fix = uncordon(names) if enough or not check.fix else check.fix
    return dataclasses.replace(check, message=message, fix=fix)


def _nodes(
    name: str,
    target: KubernetesTarget,
    gang: int,
    found: Sequence[Node],
    used: Mapping[str, Mapping[str, float]] | None,
) -> Check:
    wanted = asked(target)
    text = ", ".join(words(*item) for item in wanted.items()) or "nothing in particular"
    open_nodes = [n for n in found if n.ready and _selected(n, target)]
    if not open_nodes:
        return _no_node(name, target, found)
    tolerated = [n for n in open_nodes if not refusing_taints(n, target.tolerations)]
    if not tolerated:
        taints = sorted({_taint(t) for n in open_nodes for t in refusing_taints(n, ())})
        return Check(
            "nodes",
            CheckVerdict.PROBLEM,
            f"every node that could take the pods has a taint: {', '.join(taints)}",
            fix=f"add tolerations to targets.{name} in mlp.yaml",
        )
    places = sum(_places(wanted, n.allocatable) for n in tolerated)
    if places == 0:
        return _too_large(name, target, wanted, tolerated)
    if places < gang:
        return Check(
            "nodes",
            CheckVerdict.PROBLEM,
            f"all nodes together hold {places} of the {gang} pods (each asks for {text})",
            fix=f"lower --nodes to {places}, or targets.{name}.resources in mlp.yaml",
        )
    room = f"room for {places} pods that ask for {text}, in {len(tolerated)} nodes"
    if used is not None:
        free = sum(_places(wanted, _free(n, used.get(n.name, {}))) for n in tolerated)
        if free < gang:
            return Check(
                "nodes",
                CheckVerdict.NOTE,
                f"{room}; now there is room for {free}: a job of {gang} waits",
                fix="mlp jobs list shows yours; lower --nodes to start now" if free else "",
            )
        room += f"; {free} could start now"
    return Check("nodes", CheckVerdict.OK, room)


def refusing_taints(
    node: Node, tolerations: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The taints of a node that keep a pod with these tolerations away."""
    refusing = (taint for taint in node.taints if taint.get("effect") in _REFUSING)
    return [t for t in refusing if not any(_tolerates(each, t) for each in tolerations)]


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint.get("key")):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def _taint(taint: Mapping[str, Any]) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key')}{value}:{taint.get('effect')}"


def _selected(node: Node, target: KubernetesTarget) -> bool:
    return all(node.labels.get(key) == value for key, value in target.node_selector.items())


def _places(wanted: Mapping[str, float], amounts: Mapping[str, float]) -> int:
    """How many pods the amounts are enough for."""
    counts = [amounts.get("pods", 0.0)]
    counts += [amounts.get(name, 0.0) / value for name, value in wanted.items() if value > 0]
    return max(0, int(min(counts) + 1e-9))


def _free(node: Node, used: Mapping[str, float]) -> dict[str, float]:
    return {name: value - used.get(name, 0.0) for name, value in node.allocatable.items()}


def _no_node(name: str, target: KubernetesTarget, found: Sequence[Node]) -> Check:
    if any(node.ready for node in found) and target.node_selector:
        selector = ", ".join(f"{key}={value}" for key, value in target.node_selector.items())
        return Check(
            "nodes",
            CheckVerdict.PROBLEM,
            f"no node has the labels {selector}",
            fix=f"correct targets.{name}.node_selector in mlp.yaml;"
            " `kubectl get nodes --show-labels`",
        )
    return Check("nodes", CheckVerdict.PROBLEM, "no node is ready", fix="kubectl get nodes")


def _too_large(
    name: str, target: KubernetesTarget, wanted: Mapping[str, float], open_nodes: Sequence[Node]
) -> Check:
    """No node is large enough: which resource it is that none has enough of."""
    largest = {
        resource: max(node.allocatable.get(resource, 0.0) for node in open_nodes)
        for resource in wanted
    }
    short = {r: v for r, v in wanted.items() if largest[r] < v} or wanted
    asks = ", ".join(words(*item) for item in short.items())
    have = ", ".join(words(resource, largest[resource]) for resource in short)
    fix = f"lower targets.{name}.resources in mlp.yaml"
    if target.resources.gpu_resource in short:
        most = int(largest[target.resources.gpu_resource])
        fix = (
            f"lower targets.{name}.resources.gpu to {most} (mlp.yaml) and raise --nodes"
            if most
            else f"correct targets.{name}.resources.gpu_resource in mlp.yaml"
            f"{_gpu_names(open_nodes)}"
        )
    return Check(
        "nodes",
        CheckVerdict.PROBLEM,
        f"no node can hold one pod (it asks for {asks}; the largest has {have})",
        fix=fix,
    )


def _gpu_names(found: Sequence[Node]) -> str:
    names = sorted({name for node in found for name in gpus(node)})
    return f" (the nodes have: {', '.join(names)})" if names else ": the nodes have no GPU"


def gpus(node: Node) -> dict[str, int]:
    """How many accelerators a node has, by the resource's name."""
    return {
        name: int(value)
        for name, value in node.allocatable.items()
        if "/" in name and value >= 1 and _ACCELERATOR.search(name)
    }


# --- quotas and limits --------------------------------------------------------------------------


def quota(
    name: str, target: KubernetesTarget, gang: int, quotas: Sequence[Object]
) -> Iterable[Check]:
    """What the namespace's ResourceQuotas say to a gang of target `name`."""
    wanted = _counted(target, gang)
    found = [check for each in quotas for check in _quota(name, target, each, wanted)]
    if found:
        return found
    count = f"enough is left of {len(quotas)}" if quotas else "none"
    return [Check("quota", CheckVerdict.OK, count)]


def _counted(target: KubernetesTarget, gang: int) -> dict[str, float]:
    """What a job takes of a quota, by the name that quotas have for it."""
    counts: dict[str, float] = {"pods": gang, "count/pods": gang, "count/jobs.batch": 1}
    if gang > 1:
        counts |= {"services": 1, "count/services": 1}
    for resource, value in asked(target).items():
        counts |= {f"requests.{resource}": value * gang, f"limits.{resource}": value * gang}
        counts[resource] = value * gang
    return counts


def _quota(
    name: str, target: KubernetesTarget, quota: Object, wanted: Mapping[str, float]
) -> Iterable[Check]:
    title = quota["metadata"]["name"]
    hard = quota.get("status", {}).get("hard") or quota["spec"].get("hard", {})
    used = quota.get("status", {}).get("used", {})
    # A quota may count some pods only, of a priority class, say.
    some = quota["spec"].get("scopes") or quota["spec"].get("scopeSelector")
    for resource, text in hard.items():
        kind = resource.removeprefix("requests.").removeprefix("limits.")
        if kind in ("cpu", "memory") and getattr(target.resources, kind) is None:
            if not some:
                yield _must_be_said(name, title, resource, kind)
            continue
        need, limit = wanted.get(resource, 0.0), amount(text)
        left = limit - amount(used.get(resource, 0))
        if need <= left:
            continue
        message = f"{title} leaves {words(resource, max(0.0, left))} of {words(resource, limit)}"
        message += f"; the job needs {words(resource, need)}"
        never = need > limit or resource.startswith("count/jobs")
        yield Check(
            "quota",
            CheckVerdict.UNKNOWN if some else CheckVerdict.PROBLEM if never else CheckVerdict.NOTE,
            f"{message}, if it counts its pods"
            if some
            else message
            if never
            else f"{message}: it waits until others have ended",
            fix=f"lower --nodes or targets.{name}.resources in mlp.yaml, or ask for more quota"
            if never
            else "",
        )


def _must_be_said(name: str, title: str, resource: str, kind: str) -> Check:
    return Check(
        "quota",
        CheckVerdict.PROBLEM,
        f"{title} counts {resource}, so pods that do not say how much they need are refused",
        fix=f"set targets.{name}.resources.{kind} in mlp.yaml",
    )


def limits(name: str, target: KubernetesTarget, ranges: Sequence[Object]) -> Iterable[Check]:
    """What the namespace's LimitRanges say to one pod of target `name`."""
    found = [
        check
        for each in ranges
        for limit in each["spec"].get("limits", ())
        if limit.get("type") in ("Container", "Pod")
        for check in _limit(name, target, each["metadata"]["name"], limit)
    ]
    return found or [
        Check("limits", CheckVerdict.OK, "one pod is within them" if ranges else "none")
    ]


def _limit(name: str, target: KubernetesTarget, title: str, limit: Object) -> Iterable[Check]:
    wanted = asked(target)
    which = str(limit["type"]).lower()
    for bound, beyond in (("max", 1), ("min", -1)):
        for resource, text in limit.get(bound, {}).items():
            if resource in wanted and (wanted[resource] - amount(text)) * beyond > 0:
                word = "at most" if beyond > 0 else "at least"
                yield Check(
                    "limits",
                    CheckVerdict.PROBLEM,
                    f"{title} allows a {which} {word} {words(resource, amount(text))};"
                    f" the pods ask for {words(resource, wanted[resource])}",
                    fix=f"set targets.{name}.resources to {text} {resource} in mlp.yaml",
                )
    for resource, text in limit.get("default", {}).items():
        if resource in ("cpu", "memory") and resource not in wanted:
            yield Check(
                "limits",
                CheckVerdict.NOTE,
                f"{title} gives the pods no more than {words(resource, amount(text))}",
                fix=f"set targets.{name}.resources.{resource} in mlp.yaml to what they need",
            )
