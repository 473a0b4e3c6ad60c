"""Asks from inside of a cluster: a small Job whose pod says what works there."""

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from mlp.adapters import cluster, data
from mlp.adapters.cluster import Cluster
from mlp.core.checkup import probe_job
from mlp.core.checkup.health import Check, CheckVerdict
from mlp.core.checkup.probe_job import ProbeAnswer, ProbeQuestion
from mlp.core.errors import ConfigurationError, MlpError
from mlp.core.explain.explanation import explain
from mlp.core.launch import addresses
from mlp.core.launch.job_spec import pods_of
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.secrets import mask_urls
from mlp.flows.project import Project

_MAX_SKEW_S = 30.0
# The watch ends so often, to look for what has kept the pod from being made.
_LOOK_S = 3
# A container that waits for one of these will not start.
_HOPELESS = {
    "ErrImagePull": "the node cannot get the image",
    "ImagePullBackOff": "the node cannot get the image",
    "InvalidImageName": "the image's name is none",
    "ErrImageNeverPull": "the node may not fetch the image",
    "CreateContainerConfigError": "something that the pod refers to is missing",
    "CreateContainerError": "the container cannot be made",
    "RunContainerError": "the container cannot be started",
}


def probe(
    project: Project, name: str, target: KubernetesTarget, image: str, connection: Cluster
) -> list[Check]:
    """What a pod of target `name` finds: whether it starts, reaches the tracking server and the
    DVC remote, and agrees on the time. Everything that is made is removed. Takes up to a minute."""
    made = f"mlp-probe-{uuid.uuid4().hex[:10]}"
    question = ProbeQuestion(_tracking_uri(project, target), _remote(project), f"mlp/probes/{made}")
    started = time.time()
    try:
        cluster.create_job(connection, probe_job.job(made, target, image, question))
        try:
            pod = _finished(connection, made, target, name)
            log = _log(connection, pod) if isinstance(pod, dict) else ""
        finally:
            cluster.delete_job(connection, made)
    except MlpError as e:
        return [Check("pod", CheckVerdict.PROBLEM, e.message, e.fix, e.cause)]
    if isinstance(pod, Check):
        return [pod]
    answer = probe_job.in_log(log)
    if answer is None:
        return [_no_answer(name, image, pod, log)]
    return [*judge(name, question, answer, started)]


def _tracking_uri(project: Project, target: KubernetesTarget) -> str | None:
    """The tracking server as the pods see it, None where it is nothing that they could reach."""
    uri = target.tracking_uri or project.tracking_uri
    return uri if uri.startswith(("http://", "https://")) else None


def _remote(project: Project) -> Mapping[str, str] | None:
    root = data.root(project.root)
    try:
        return data.remote_settings(root) if root else None
    except ConfigurationError:
        return None  # another check says so


def _finished(
    connection: Cluster, name: str, target: KubernetesTarget, title: str
) -> dict[str, Any] | Check:
    """The pod, once it has ended; or a problem: why there is none in time."""
    until = time.monotonic() + probe_job.LIMIT_S
    pod: dict[str, Any] | None = None
    labels = pods_of(name)
    while time.monotonic() < until:
        for event in connection.watch(
            connection.path("pods"), 30.0, labelSelector=labels, timeoutSeconds=_LOOK_S
        ):
            if event["type"] not in ("ADDED", "MODIFIED"):
                continue
            pod = dict(event["object"])
            if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
                return pod
            hopeless = _hopeless(pod)
            if hopeless is not None:
                return hopeless
        if pod is None and (refused := _refused(connection, name)):
            fix = explain(cluster.observe(connection, name), target, title).fix
            return Check("pod", CheckVerdict.PROBLEM, "the probe's pod is refused", fix, refused)
    why = explain(cluster.observe(connection, name), target, title)
    message = f"no answer from a pod in {probe_job.LIMIT_S} s: {why.reason}"
    return Check("pod", CheckVerdict.PROBLEM, message, why.fix)


def _hopeless(pod: Mapping[str, Any]) -> Check | None:
    for status in pod.get("status", {}).get("containerStatuses", ()):
        waiting = status.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _HOPELESS:
            what = _HOPELESS[waiting["reason"]]
            image = pod["spec"]["containers"][0]["image"]
            return Check(
                "pod",
                CheckVerdict.PROBLEM,
                f"a pod does not start: {what} ({image})"
                if "image" in what
                else f"a pod does not start: {what}",
                fix="check the image's name and targets.NAME.image_pull_secrets in mlp.yaml"
                if "image" in what
                else "",
                cause=str(waiting.get("message", waiting["reason"])),
            )
    return None


def _refused(connection: Cluster, name: str) -> str:
    """Why the Job's controller cannot make the pod, as its events tell."""
    found = _events(connection, name)
    return next((str(e.get("message", "")) for e in found if e["reason"] == "FailedCreate"), "")


def _events(connection: Cluster, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = connection.get(
        connection.path("events"), fieldSelector=f"involvedObject.name={name}"
    )["items"]
    return found


def _log(connection: Cluster, pod: Mapping[str, Any]) -> str:
    path = f"{connection.path('pods', pod['metadata']['name'])}/log"
    lines = connection.lines(path, 30.0, container=probe_job.CONTAINER, tailLines=100)
    return b"\n".join(lines).decode(errors="replace")


def _no_answer(name: str, image: str, pod: Mapping[str, Any], log: str) -> Check:
    last = [line for line in log.splitlines() if line.strip()][-3:]
    if "No module named" in log or not last:
        states = pod.get("status", {}).get("containerStatuses", ())
        ends = [s.get("state", {}).get("terminated", {}).get("message", "") for s in states]
        return Check(
            "pod",
            CheckVerdict.PROBLEM,
            f"the image {image} cannot run this version of mlp",
            fix=f"mlp build {name} makes one, where targets.{name}.image has no tag",
            cause="\n".join([*last, *(end for end in ends if end)]),
        )
    return Check("pod", CheckVerdict.PROBLEM, "the probe failed in its pod", cause="\n".join(last))


def judge(
    name: str, question: ProbeQuestion, answer: ProbeAnswer, started: float
) -> Iterator[Check]:
    """What an answer means for target `name`; it was asked at `started`, by our clock."""
    yield Check(
        "pod",
        CheckVerdict.OK,
        f"starts, with Python {answer.python} and mlp {answer.mlp}, as user {answer.user}",
    )
    if answer.tracking is not None:
        where = mask_urls(str(question.tracking_uri))
        yield _reached(
            "pod mlflow",
            where,
            answer.tracking,
            f"start the server so that it answers to this name: {_server(question)}"
            if "host header" in answer.tracking.lower()
            else f"set targets.{name}.tracking_uri in mlp.yaml to its address as pods see it",
        )
    if answer.remote is not None and question.remote is not None:
        yield _reached(
            "pod data",
            question.remote["url"],
            answer.remote,
            "put that package into the image"
            if "to be installed" in answer.remote
            else f"name a Secret with the credentials under targets.{name}.secrets in mlp.yaml,"
            " and check that pods can reach the address",
        )
    yield _clock(answer.time, started, time.time())


def _server(question: ProbeQuestion) -> str:
    parts = urlsplit(str(question.tracking_uri))
    return addresses.mlflow_server(str(parts.hostname), parts.port or 5000)


def _reached(check: str, where: str, wrong: str, fix: str) -> Check:
    if wrong:
        return Check(check, CheckVerdict.PROBLEM, f"a pod cannot use {where}", fix, wrong)
    return Check(check, CheckVerdict.OK, f"a pod can use {where}")


def _clock(there: float, before: float, after: float) -> Check:
    """The pod's clock against ours: its time lies between our two."""
    skew = there - before if there < before else max(0.0, there - after)
    if abs(skew) <= _MAX_SKEW_S:
        return Check("pod clock", CheckVerdict.OK, "agrees with this machine's")
    word = "ahead of" if skew > 0 else "behind"
    return Check(
        "pod clock",
        CheckVerdict.PROBLEM,
        f"the pod's clock is {abs(skew):.0f} s {word} this machine's",
        fix="let both be set over the network (NTP): `timedatectl`",
    )
