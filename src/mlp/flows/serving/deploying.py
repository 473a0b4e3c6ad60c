"""Serving the model on a target: a release of mlp's chart, planned, made, looked at, removed."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlp.adapters import cluster
from mlp.adapters.helm import Release
from mlp.adapters.tracking import registry
from mlp.core import assets
from mlp.core.ab.traffic import Traffic
from mlp.core.errors import MlpError, RemoteError
from mlp.core.models.ledger import Action, LedgerEntry
from mlp.core.serving import deploy_section, replicas
from mlp.core.serving.replicas import Pod, Replicas
from mlp.flows.ab import traffic_shares
from mlp.flows.launch import image_building
from mlp.flows.models.opened_model import opened
from mlp.flows.project import Project
from mlp.flows.serving import readiness
from mlp.flows.serving.readiness import ServingPlace, place

_LOOK_S = 1.0
_LINES = 20
_LAST_ENTRIES = 5

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """What `apply` is going to do. `values` are the chart's; `manifests` is what they make, YAML.

    `before` is the release that there is, None where it is to be installed.
    """

    target: str
    context: str | None
    namespace: str
    release: str
    model: str
    champion: str
    image: str
    values: Mapping[str, Any]
    manifests: str
    before: Release | None
    changes: Sequence[str]
    canary: float | None = None
    challenger: str | None = None


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """What is deployed and what it serves. `replicas` is None where the cluster has none."""

    target: str
    namespace: str
    release: Release | None
    replicas: Replicas | None
    autoscaler: str
    model: str
    traffic: Traffic
    entries: Sequence[LedgerEntry]


def plan(
    project: Project,
    target_name: str | None,
    *,
    canary: float | None = None,
    release: str | None = None,
) -> DeploymentPlan:
    """What is to be deployed; looks at registry, image and cluster, and changes nothing.

    `canary` is the share that the challenger is to get. Raises ConfigurationError where there is no
    champion, the image is not there, or the cluster would not let us.
    """
    model = project.model.name
    aliases = registry.aliases(project.tracking_uri, model)
    champion, challenger = readiness.served(model, aliases, canary)
    readiness.require_shared_state(project)
    at = place(project, target_name, release)
    wanted = deploy_section.WantedRelease(
        project.config.project,
        model,
        image_building.image(project, at.name),
        project.tracking_uri,
        at.name,
        at.target,
        project.config.serve,
        project.config.deploy,
    )
    values = deploy_section.values(wanted)
    readiness.require_no_secret(values, os.environ)
    readiness.require_place(at)
    readiness.require_image(wanted)
    before = at.helm.release(at.release)
    return DeploymentPlan(
        at.name,
        at.target.context,
        at.target.namespace,
        at.release,
        model,
        champion,
        wanted.image,
        values,
        at.helm.template(at.release, assets.chart(), values),
        before,
        changes(before.values, values) if before else (),
        canary,
        challenger,
    )


def apply(project: Project, planned: DeploymentPlan) -> None:
    """Install the release, or make it what was planned. Its pods may not be ready yet.

    The challenger's share is set before, so that no pod starts with another one.
    """
    at = place(project, planned.target, planned.release)
    if planned.canary is not None:
        reason = f"mlp deploy --target {planned.target}"
        traffic_shares.set_share(project, planned.canary, reason=reason)
    at.helm.upgrade(planned.release, assets.chart(), planned.values)


def await_ready(
    project: Project,
    target_name: str | None,
    seconds: float,
    progress: Progress,
    release: str | None = None,
) -> Replicas:
    """Until all pods are of the last deployment and ready.

    Raises RemoteError, with why and what a pod printed, where one gets stuck or time is over; the
    cluster goes on trying, and the old pods go on answering.
    """
    at = place(project, target_name, release)
    until = time.monotonic() + seconds
    told = ""
    while True:
        seen = _replicas(at)
        if seen is not None and seen.settled:
            return seen
        if seen is not None and (seen.stuck or seen.problem or time.monotonic() > until):
            raise _not_ready(at, seen, seconds)
        if seen is None and time.monotonic() > until:
            raise RemoteError(f"deployment {at.release} is not in {at.target.namespace}")
        now = "" if seen is None else _progress(seen)
        if now and now != told:
            progress(now)
            told = now
        time.sleep(_LOOK_S)


def status(
    project: Project, target_name: str | None, release: str | None = None
) -> DeploymentStatus:
    """What is deployed, how its pods are, and which versions answer."""
    at = place(project, target_name, release)
    answers = traffic_shares.current(project)
    with opened(project) as model:
        entries = model.entries()
    scaler = cluster.autoscaler(at.cluster, at.release)
    return DeploymentStatus(
        at.name,
        at.target.namespace,
        at.helm.release(at.release),
        _replicas(at),
        _scaling(scaler) if scaler else "",
        project.model.name,
        answers,
        [entry for entry in entries if entry.action != Action.INTENDED][-_LAST_ENTRIES:],
    )


def remove(project: Project, target_name: str | None, release: str | None = None) -> bool:
    """Remove the release with all that belongs to it; False where there is none.

    Model versions, ledger and predictions that are put away stay.
    """
    at = place(project, target_name, release)
    return at.helm.uninstall(at.release)


# --- what there is --------------------------------------------------------------------------------


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two sets of values, a line each: `server.replicas: 2 -> 3`."""
    old, new = dict(_flat(before, "")), dict(_flat(after, ""))
    return tuple(
        f"{path}: {json.dumps(old.get(path))} -> {json.dumps(new.get(path))}"
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path)
    )


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif value not in ({}, [], (), "", None):
        yield path, value


def _replicas(at: ServingPlace) -> Replicas | None:
    found = cluster.deployment(at.cluster, at.release)
    if found is None:
        return None
    labels = found["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return replicas.replicas(found, cluster.pods_with(at.cluster, selector))


def _progress(seen: Replicas) -> str:
    new = [pod for pod in seen.pods if pod.new and not pod.leaving]
    text = f"{sum(pod.ready for pod in new)} of {seen.wanted} new pods answer"
    old = sum(not pod.new and not pod.leaving for pod in seen.pods)
    text += f"; {old} old ones still do" if old else ""
    waiting = next((pod for pod in new if pod.reason), None)
    return f"{text}; {waiting.name}: {waiting.reason}" if waiting else text


def _not_ready(at: ServingPlace, seen: Replicas, seconds: float) -> MlpError:
    pod = seen.stuck or next((p for p in seen.pods if p.new and not p.ready), None)
    look = f"mlp deploy status --target {at.name} shows how it goes on"
    if pod is None:
        why = seen.problem or f"not all pods were ready after {seconds:.0f} s"
        return RemoteError(f"{at.release} is not served: {why}", fix=look)
    printed = _last_lines(at, pod)
    return RemoteError(
        f"{at.release}: pod {pod.name} does not serve: {pod.reason}",
        fix=f"fix that and run `mlp deploy` again; old pods go on answering; {look}",
        cause="\n".join(printed) or seen.problem,
    )


def _last_lines(at: ServingPlace, pod: Pod) -> tuple[str, ...]:
    previous = "again and again" in pod.reason or "memory" in pod.reason
    return cluster.last_lines(at.cluster, pod.name, _LINES, previous=previous)


def _scaling(scaler: Mapping[str, Any]) -> str:
    spec, now = scaler["spec"], scaler.get("status", {}).get("currentMetrics") or ()
    used = [m["resource"]["current"].get("averageUtilization") for m in now if "resource" in m]
    cpu = f", CPU {used[0]} %" if used and used[0] is not None else ""
    return f"{spec['minReplicas']} to {spec['maxReplicas']} pods{cpu}"
