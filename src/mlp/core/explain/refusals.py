"""Why the cluster refuses to make a job's pods: an admission's words, with what to do."""

import re

from mlp.core.explain.observation import Observation, Reason, clipped, gang, name
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.quantities import amount

_QUOTA = re.compile(
    r"exceeded quota: (?P<quota>[^,]+), requested: (?P<asked>.+), used: (?P<used>.+),"
    r" limited: (?P<limited>.+)"
)
_MUST_SAY = re.compile(r"failed quota: (\S+): must specify (.+?)(?: for:|$)")
_LIMIT = re.compile(r"(m(?:ax|in)imum|[\w./-]+ max limit to request ratio) .*per (?:Container|Pod)")
_ACCOUNT = re.compile(r"service ?account (?:\S+/)?\"?([\w.-]+)\"?(?::| not found)")
_WEBHOOK = re.compile(r"admission webhook \"([^\"]+)\" denied the request: ?(.*)", re.DOTALL)


def refusal(message: str, seen: Observation, target: KubernetesTarget, title: str) -> Reason:
    """What a FailedCreate event of the job says, in the terms of target `title`."""
    said = clipped(re.sub(r'^Error creating: (pods "[^"]*" is forbidden: )?', "", message), 500)
    key = f"targets.{title}"
    kubectl = f"kubectl --namespace {target.namespace}"
    if (found := _QUOTA.search(said)) is not None:
        return _quota(found, seen, key, kubectl)
    if (found := _MUST_SAY.search(said)) is not None:
        return Reason(
            f"quota {found[1]} counts {found[2]}, and the pods do not say how much they need",
            f"set cpu and memory of {key}.resources in mlp.yaml",
        )
    if "violates PodSecurity" in said:
        return Reason(
            f"the namespace's pod security refuses the pods: {said}",
            f"mlp's pods keep to it as they are: correct {key}.patch in mlp.yaml",
        )
    if _LIMIT.search(said) is not None:
        return Reason(
            f"a LimitRange of the namespace refuses the pods: {said}",
            f"keep to it with {key}.resources in mlp.yaml; `{kubectl} describe limits`",
        )
    return _other(said, key, kubectl)


def _other(said: str, key: str, kubectl: str) -> Reason:
    if (found := _ACCOUNT.search(said)) is not None:
        return Reason(
            f"ServiceAccount {found[1]} is not there",
            f"{kubectl} create serviceaccount {found[1]}, or correct {key}.patch in mlp.yaml",
        )
    if (found := re.search(r"no PriorityClass with name (\S+)", said)) is not None:
        return Reason(
            f"priority class {found[1]} is not there",
            f"correct {key}.priority_class in mlp.yaml; `kubectl get priorityclasses` shows them",
        )
    if (found := _WEBHOOK.search(said)) is not None:
        return Reason(
            f"the cluster's policy {found[1]} refuses the pods: {clipped(found[2])}",
            f"keep to it with labels, annotations or patch of {key} in mlp.yaml",
        )
    return Reason(f"the cluster refuses to make the pods: {said}", f"{kubectl} get events")


def _quota(found: re.Match[str], seen: Observation, key: str, kubectl: str) -> Reason:
    """What is left of it now; whether it would ever be enough for all pods."""
    asked, used, limited = (_amounts(found[part]) for part in ("asked", "used", "limited"))
    for quota in seen.quotas:  # the event's figures may be old
        if name(quota) == found["quota"]:
            used = {**used, **quota.get("status", {}).get("used", {})}
    shares = ", ".join(
        f"{used.get(each, '0')} of {limit} {each} used, a pod needs {asked.get(each, '?')}"
        for each, limit in limited.items()
    )
    room = min(
        (
            amount(limited[e]) // amount(asked[e])
            for e in asked
            if e in limited and amount(asked[e])
        ),
        default=0.0,
    )
    more = f"ask for a larger quota: `{kubectl} describe quota {found['quota']}`"
    if room < 1:
        fix = f"lower {key}.resources in mlp.yaml, or {more}"
    elif room < gang(seen):
        fix = f"lower --nodes to {int(room)}, or {more}"
    else:
        fix = f"it starts when others have ended; or lower --nodes, or {more}"
    return Reason(f"quota {found['quota']} is exceeded: {shares}", fix)


def _amounts(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(","))
    return {key.strip(): value for key, _, value in pairs}
