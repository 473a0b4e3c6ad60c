"""Why a job's pods do not run, and what to do about it."""

import re
from collections import Counter

from mlp.core.explain.observation import (
    KUEUE_ABSENT,
    Object,
    Observation,
    Reason,
    clipped,
    condition,
    containers,
    current,
    gang,
    name,
    newest_event,
    newest_events,
    nodes_word,
    phase,
    place,
    states,
)
from mlp.core.explain.refusals import refusal
from mlp.core.explain.scheduling import Case, no_node, unscheduled
from mlp.core.launch.job_spec import QUEUE_LABEL
from mlp.core.launch.targets_section import KubernetesTarget

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_UNDER_WAY = ("ContainerCreating", "PodInitializing")
_STUCK_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")


def why(seen: Observation, target: KubernetesTarget, title: str) -> Reason | None:
    """What keeps pods from running; None where nothing is known to.

    What does not go away by itself comes first, then what holds back the most pods.
    """
    case = Case(seen, target, title)
    pods = current(seen)
    events = newest_events(seen, "Pod", *_STUCK_EVENTS)
    stuck = Counter(r for p in pods if (r := _stuck(case, p, events.get(name(p)))) is not None)
    missing = gang(seen) - len(pods) - sum(phase(p) == "Succeeded" for p in seen.pods)
    refused = _refused(case) if missing > 0 else None
    homeless = [pod for pod in pods if unscheduled(pod) is not None]
    if stuck:
        reason, number = stuck.most_common(1)[0]
    elif refused is not None:
        reason, number = refused, missing
    elif homeless:
        reason, number = no_node(case, homeless[0]), len(homeless)
    else:
        return None
    return Reason(f"{reason.text}{nodes_word(seen, number)}", reason.fix)


def _refused(case: Case) -> Reason | None:
    """Why the cluster does not make the pods."""
    if case.seen.job is None:
        return None
    event = newest_event(case.seen, "Job", name(case.seen.job), "FailedCreate")
    return None if event is None else refusal(event["message"], case.seen, case.target, case.title)


# --- queues -------------------------------------------------------------------------------------


def queued(seen: Observation, target: KubernetesTarget, title: str) -> Reason:
    """Why a suspended job has not been let in."""
    case = Case(seen, target, title)
    job = seen.job or {"metadata": {"name": ""}}
    queue = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    if queue is None:
        resume = f'{case.kubectl} patch job {name(job)} --patch \'{{"spec":{{"suspend":false}}}}\''
        return Reason("it was suspended by hand", resume)
    if seen.unknown.get("workload") == KUEUE_ABSENT:
        fix = f"remove {case.key('queue')} from mlp.yaml, or have Kueue installed"
        return Reason(f"it waits for queue {queue}, and {KUEUE_ABSENT}", fix)
    if "workload" in seen.unknown:
        said = clipped(seen.unknown["workload"])
        fix = "docs/role.yaml has the rule for Kueue"
        return Reason(f"it waits for queue {queue}; why cannot be known: {said}", fix)
    if seen.workload is None:
        return Reason(f"queue {queue} has not looked at it yet", f"{case.kubectl} get localqueues")
    return _in_queue(case, seen.workload, queue)


def _in_queue(case: Case, workload: Object, queue: str) -> Reason:
    reserved = condition(workload, "QuotaReserved") or {}
    said = clipped(str(reserved.get("message") or "it has not been looked at yet"), 500)
    if workload.get("spec", {}).get("active") is False:
        return Reason(
            f"queue {queue} has given it up: {said}", "mlp jobs cancel, then submit again"
        )
    if re.search(r"LocalQueue \S* ?doesn't exist", said):
        return Reason(
            f"queue {queue} does not exist in namespace {case.target.namespace}",
            f"correct {case.key('queue')} in mlp.yaml; `{case.kubectl} get localqueues` shows them",
        )
    if reserved.get("status") == "True":
        checks = [
            f"{check['name']} ({clipped(check.get('message') or check['state'])})"
            for check in workload.get("status", {}).get("admissionChecks") or ()
            if check.get("state") != "Ready"
        ]
        waits = f"for {', '.join(checks)}" if checks else "to be started"
        return Reason(f"queue {queue} has kept room for it; it waits {waits}")
    evicted = condition(workload, "Evicted") or {}
    if evicted.get("status") == "True":
        before = clipped(str(evicted.get("message")))
        return Reason(f"queue {queue} took it out again ({before}); now: {said}")
    fix = f"{case.kubectl} describe workload {name(workload)}; it starts when there is room"
    if re.search(r"maximum capacity|insufficient quota|unavailable in ClusterQueue", said):
        fix = f"lower --nodes or {case.key('resources')}, or choose another queue: it never fits"
    return Reason(f"waiting for queue {queue}: {said}", fix)


# --- one pod ------------------------------------------------------------------------------------


def _stuck(case: Case, pod: Object, event: Object | None) -> Reason | None:
    """What a pod that has a node cannot get."""
    for container, state in states(pod):
        waiting = state.get("waiting")
        if waiting is None:
            continue
        reason, said = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _IMAGE:
            return _image(case, pod, container, said or reason)
        if reason in _UNDER_WAY:
            return _mounting(case, event["message"]) if event is not None else None
        return _not_found(case, said) or Reason(
            f"container {container} cannot be made: {clipped(said or reason)}",
            f"{case.kubectl} describe pod {name(pod)}",
        )
    return None


def _image(case: Case, pod: Object, container: str, said: str) -> Reason:
    image = next(c["image"] for c in containers(pod["spec"]) if c["name"] == container)
    registry = image.partition("/")[0]
    detail = clipped(said.split(f"{image}: ")[-1].split(f'{image}": ')[-1])
    correct = f"correct {case.key('image')} in mlp.yaml"
    if re.search(r"InvalidImageName|invalid reference|couldn't parse image", said):
        return Reason(f"{image!r} is not the name of an image: {detail}", correct)
    if re.search(r"\b40[13]\b|unauthori[sz]ed|denied|authentication|basic auth", said):
        return Reason(
            f"{registry} does not let the cluster pull image {image}: {detail}",
            f"{case.kubectl} create secret docker-registry NAME --docker-server={registry} …, "
            f"and put NAME in {case.key('image_pull_secrets')}",
        )
    if re.search(r"no match for platform|exec format", said):
        return Reason(f"image {image} is not made for the nodes' processors", correct)
    if "no space left" in said:
        return Reason(f"{place(pod)} has no disk space for image {image}", "tell who runs it")
    if re.search(r"not found|manifest unknown|NotFound|does not exist", said):
        return Reason(
            f"image {image} is not in {registry}", f"mlp build {case.title} makes it, or {correct}"
        )
    return Reason(
        f"{registry} cannot be reached for image {image}: {detail}",
        f"check that {place(pod) or 'the node'} can reach it, or {correct}",
    )


def _not_found(case: Case, said: str) -> Reason | None:
    """A Secret or ConfigMap that is not there, or has not the key."""
    space = case.target.namespace
    if found := re.search(r'secret "([^"]+)" not found', said):
        secret = found[1]
        key = case.key("secret_files" if secret in case.target.secret_files else "secrets")
        make = f"{case.kubectl} create secret generic {secret} --from-literal=KEY=VALUE"
        return Reason(
            f"Secret {secret} is not in namespace {space}", f"{make}, or correct {key} in mlp.yaml"
        )
    if found := re.search(r'configmap "([^"]+)" not found', said):
        return Reason(
            f"ConfigMap {found[1]} is not in namespace {space}",
            f"{case.kubectl} create configmap {found[1]} …, or correct {case.key('patch')}",
        )
    if "runAsNonRoot" in said:
        return Reason(f"the image runs as root: {clipped(said)}", f"correct {case.key('patch')}")
    return None


def _mounting(case: Case, said: str) -> Reason:
    if (reason := _not_found(case, said)) is not None:
        return reason
    if "Multi-Attach" in said:
        return Reason(
            f"a volume is in use on another node: {clipped(said)}",
            f"a claim that several nodes use must be ReadWriteMany: correct {case.key('volumes')}",
        )
    if "sandbox" in said:
        return Reason(f"the node cannot set the pod up: {clipped(said)}", "tell who runs it")
    return Reason(
        f"a volume cannot be mounted: {clipped(said)}",
        f"{case.kubectl} get pvc; correct {case.key('volumes')} in mlp.yaml",
    )
