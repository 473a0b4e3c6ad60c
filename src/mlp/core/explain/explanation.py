"""Why a job waits, how it runs or how it ended: one sentence, with what to do about it."""

from dataclasses import dataclass
from enum import StrEnum

from mlp.core.explain import failure, waiting
from mlp.core.explain.failure import Ending, FailureKind
from mlp.core.explain.observation import (
    Object,
    Observation,
    Reason,
    ago,
    clipped,
    clock,
    condition,
    current,
    gang,
    index,
    instant,
    is_true,
    leaves,
    lost_nodes,
    name,
    newest_events,
    phase,
    place,
    runs_since,
    states,
    times,
)
from mlp.core.launch.targets_section import KubernetesTarget

__all__ = ["JobExplanation", "JobPhase", "Observation", "explain"]


class JobPhase(StrEnum):
    """Where a job is."""

    SUSPENDED = "suspended"
    WAITING = "waiting"
    STARTING = "starting"  # it has what it needs, and its command does not run yet
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class JobExplanation:
    """`reason` is one sentence, `fix` a command or a key of mlp.yaml, "" where nothing is wrong.

    `final`: nothing more will come of the job, though the cluster may not have noticed yet. `code`
    and `log` are the exit code and the last lines of the user's own command, where that failed.
    """

    state: JobPhase
    reason: str
    fix: str = ""
    log: tuple[str, ...] = ()
    code: int | None = None
    final: bool = False


def explain(observation: Observation, target: KubernetesTarget, target_name: str) -> JobExplanation:
    """What `observation` of a job on `target`, `target_name` in mlp.yaml, says of it."""
    seen, job = observation, observation.job
    again = "`mlp run` submits it again; `mlp jobs list` shows those that there are"
    if job is None:
        why = "the cluster does not have it: it was deleted, or its ttl is over"
        return JobExplanation(JobPhase.GONE, why, again, final=True)
    if is_true(job, "Complete") or is_true(job, "SuccessCriteriaMet"):
        return JobExplanation(JobPhase.DONE, _done(job, seen), final=True)
    ended = failure.endings(seen, target, target_name)
    refused = next((c for kind in ("Failed", "FailureTarget") if (c := _true(job, kind))), None)
    if refused is not None or any(ending.final for ending in ended):
        return _failed(seen, target, target_name, ended, refused)
    if leaves(job):
        return JobExplanation(JobPhase.GONE, "it is being deleted", again, final=True)
    if job.get("spec", {}).get("suspend"):
        reason = waiting.queued(seen, target, target_name)
        return JobExplanation(JobPhase.SUSPENDED, reason.text, reason.fix)
    return _alive(seen, target, target_name, ended)


def _true(item: Object, kind: str) -> Object | None:
    return condition(item, kind) if is_true(item, kind) else None


def _done(job: Object, seen: Observation) -> str:
    status = job["status"]
    nodes = gang(seen)
    who = "its node has" if nodes == 1 else f"all {nodes} nodes have"
    if "completionTime" not in status or "startTime" not in status:
        return f"{who} done the work"
    end = instant(status["completionTime"])
    return f"{who} done the work, in {ago(status['startTime'], end)}"


# --- failed -------------------------------------------------------------------------------------


def _failed(
    seen: Observation,
    target: KubernetesTarget,
    title: str,
    ended: list[Ending],
    refused: Object | None,
) -> JobExplanation:
    ending = failure.decisive(ended)
    if ending is None:
        reason = _without_pods(seen, refused or {})
        return JobExplanation(JobPhase.FAILED, reason.text, reason.fix, final=True)
    reason = _rendezvous(seen, target, title, ending) or ending.reason
    number = failure.most_failures(ended)
    often = "" if ending.final or number < 2 else f"; it failed {times(number, 'time')}"
    return JobExplanation(
        JobPhase.FAILED, f"{reason.text}{often}", reason.fix, ending.log, ending.code, final=True
    )


def _without_pods(seen: Observation, refused: Object) -> Reason:
    """A job that failed, and no pod says why: the pods are deleted, or there were none."""
    if refused.get("reason") == "DeadlineExceeded":
        deadline = (seen.job or {})["spec"].get("activeDeadlineSeconds")
        return Reason(
            f"it was ended, as it ran longer than activeDeadlineSeconds allows ({deadline} s)",
            "raise it where it was set, in the target's patch or by the cluster",
        )
    said = clipped(str(refused.get("message") or refused.get("reason") or "nobody says why"))
    pods = f"; pods cannot be read: {seen.unknown['pods']}" if "pods" in seen.unknown else ""
    return Reason(f"it failed: {said}{pods}", "start it again")


def _rendezvous(
    seen: Observation, target: KubernetesTarget, title: str, ending: Ending
) -> Reason | None:
    """Which nodes the others waited for in vain, and why those did not run."""
    absent = failure.never_ran(seen)
    if ending.kind is not FailureKind.RENDEZVOUS or not absent:
        return None
    who = f"{'node' if len(absent) == 1 else 'nodes'} {_some(absent)}"
    why = waiting.why(seen, target, title)
    limit = target.rendezvous_timeout
    waited = limit if ending.seconds is None else ending.seconds
    longer = f"raise targets.{title}.rendezvous_timeout in mlp.yaml"
    fix = why.fix if why else longer if waited >= limit else ending.reason.fix
    because = f": {why.text}" if why else ""
    return Reason(f"the nodes waited {waited} s for {who}, which never ran{because}", fix)


def _some(numbers: list[int], most: int = 8) -> str:
    rest = len(numbers) - most
    shown = ", ".join(str(number) for number in numbers[:most])
    return f"{shown} and {rest} more" if rest > 0 else shown


# --- alive --------------------------------------------------------------------------------------


def _alive(
    seen: Observation, target: KubernetesTarget, title: str, ended: list[Ending]
) -> JobExplanation:
    lost = _cut_off(seen)
    running = [
        since for p in current(seen) if (since := runs_since(p)) is not None and name(p) not in lost
    ]
    done = len({index(pod) for pod in seen.pods if phase(pod) == "Succeeded"})
    before = _history(seen, ended)
    why = waiting.why(seen, target, title)
    if running and len(running) + done >= gang(seen):
        text = f"{len(running)} of {gang(seen)} nodes run, since {ago(max(running), seen.at)}"
        text += f"; {done} are done" if done else ""
        return JobExplanation(JobPhase.RUNNING, f"{text}{before.text}", before.fix)
    if lost:
        reason = _lost(seen, target, lost)
        more, fix = (f"; {why.text}", why.fix) if why else ("", reason.fix)
        return JobExplanation(JobPhase.WAITING, f"{reason.text}{more}{before.text}", fix)
    if why is not None:
        some = f"{len(running)} of {gang(seen)} nodes run; " if running else ""
        return JobExplanation(JobPhase.WAITING, f"{some}{why.text}{before.text}", why.fix)
    if len(current(seen)) + done < gang(seen):
        text = _absent(seen, ended)
        return JobExplanation(JobPhase.WAITING, f"{text}{before.text}", before.fix)
    return JobExplanation(JobPhase.STARTING, f"{_starting(seen)}{before.text}", before.fix)


def _absent(seen: Observation, ended: list[Ending]) -> str:
    if "pods" in seen.unknown:
        return f"its pods cannot be read: {clipped(seen.unknown['pods'])}"
    if ended:  # the wait between two starts grows
        return "the cluster will start its next pods in a moment"
    return "the cluster has not made its pods yet"


def _history(seen: Observation, ended: list[Ending]) -> Reason:
    """What became of earlier pods, for a job that goes on."""
    ending = failure.decisive(ended)
    if ending is None:
        return Reason("")
    number = failure.most_failures(ended)
    kinds = {e.kind for e in ended if e.index == ending.index}
    if number < 2:
        return Reason(f"; it was restarted once: {ending.reason.text}", ending.reason.fix)
    limit = (seen.job or {}).get("spec", {}).get("backoffLimitPerIndex")
    of = f", of the {limit + 1} that are allowed" if limit is not None else ""
    how = "each time" if len(kinds) == 1 else "at last"
    text = f"; it has failed {times(number, 'time')}{of}, {how}: {ending.reason.text}"
    return Reason(text, ending.reason.fix)


def _starting(seen: Observation) -> str:
    """How far the pods are that have what they need."""
    fetching, waits = [], []
    for pod in current(seen):
        began = [s["running"]["startedAt"] for _, s in states(pod) if "running" in s]
        if began and runs_since(pod) is None:
            fetching.append(began[0])
        elif not began:
            waits.append(str((condition(pod, "PodScheduled") or {}).get("lastTransitionTime")))
    parts = []
    if waits:
        since = f", since {ago(min(waits), seen.at)}" if "None" not in waits else ""
        verb = "pulls its image" if len(waits) == 1 else "pull their image"
        parts.append(f"{len(waits)} of {gang(seen)} pods {verb} and volumes{since}")
    if fetching:
        verb = "fetches" if len(fetching) == 1 else "fetch"
        since = ago(min(fetching), seen.at)
        parts.append(f"{len(fetching)} of {gang(seen)} pods {verb} code and data, since {since}")
    return "; ".join(parts) or "its pods are about to start"


# --- a node that is lost ------------------------------------------------------------------------


def _cut_off(seen: Observation) -> dict[str, str]:
    """The pods on nodes that do not answer, and since when, by the pod's name."""
    lost = lost_nodes(seen)
    events = newest_events(seen, "Pod", "NodeNotReady") if "nodes" in seen.unknown else {}
    found = {}
    for pod in seen.pods:
        if phase(pod) != "Running":
            continue
        if place(pod) in lost:
            found[name(pod)] = lost[place(pod)]
        elif name(pod) in events and not is_true(pod, "Ready"):
            found[name(pod)] = str(events[name(pod)].get("firstTimestamp") or "")
    return found


def _lost(seen: Observation, target: KubernetesTarget, lost: dict[str, str]) -> Reason:
    pods = [pod for pod in seen.pods if name(pod) in lost]
    nodes = sorted({place(pod) for pod in pods})
    since = min((lost[name(pod)] for pod in pods if lost[name(pod)]), default="")
    have = "has" if len(nodes) == 1 else "have"
    text = f"{', '.join(nodes[:3])} {have} not been reachable"
    text += f" since {clock(since)}" if since else ""
    its = "its pod is" if len(pods) == 1 else f"the {len(pods)} pods there are"
    then = f"replaced {target.node_lost_after} s after that"
    if all(leaves(pod) for pod in pods):
        then = "replaced"
    return Reason(f"{text}; {its} {then}", f"kubectl describe node {nodes[0]}")
