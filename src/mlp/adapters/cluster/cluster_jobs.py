"""Jobs of a cluster: made, watched, followed, ended."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from mlp.adapters.cluster.connection import (
    Cluster,
    ExistsError,
    Manifest,
    NotFoundError,
    Object,
    UnreachableError,
)
from mlp.core.errors import RemoteError
from mlp.core.launch import job_spec as jobs
from mlp.core.launch.job_spec import JobSpec

_API = "/apis/batch/v1"
# A watch that the server ends and we begin again; a silence beyond it is a lost connection.
_WATCH_S, _SILENCE_S = 10, 25.0
_MIN_WAIT_S, _MAX_WAIT_S = 0.25, 5.0
_GONE_S = 120.0


class Phase(StrEnum):
    """Where a Job is between its creation and its end."""

    SUSPENDED = "suspended"  # a queue has not let it in yet
    WAITING = "waiting"  # not all of its pods run
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class JobState:
    """A Job as it is now. `ready` of its `nodes` pods run; `failed` pods were lost so far."""

    phase: Phase
    nodes: int = 0
    ready: int = 0
    failed: int = 0
    reachable: bool = True
    """False: the cluster does not answer; the rest is what was known last."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in (Phase.COMPLETE, Phase.FAILED, Phase.GONE)


def state_of(job: Object) -> JobState:
    """The state that a Job object shows."""
    spec, status = job.get("spec", {}), job.get("status", {})
    nodes = int(spec.get("completions") or 1)
    true = {c["type"] for c in status.get("conditions", []) if c.get("status") == "True"}
    ready = int(status.get("ready") or 0)
    # The first of each pair comes at once. The second one waits until no pod is terminating, which
    # one on a node that is lost is for as long as that node is.
    phase = (
        Phase.COMPLETE
        if true & {"SuccessCriteriaMet", "Complete"}
        else Phase.FAILED
        if true & {"FailureTarget", "Failed"}
        else Phase.GONE
        if "deletionTimestamp" in job.get("metadata", {})
        else Phase.SUSPENDED
        if spec.get("suspend")
        else Phase.RUNNING
        if ready + int(status.get("succeeded") or 0) >= nodes
        else Phase.WAITING
    )
    return JobState(phase, nodes, ready, int(status.get("failed") or 0))


def spec_of(job: Object) -> JobSpec:
    """What a Job was made from. Raises RemoteError for one that mlp did not make."""
    try:
        return JobSpec.from_json(job["metadata"]["annotations"][jobs.ANNOTATION_SPEC])
    except (KeyError, ValueError, TypeError) as e:
        raise RemoteError(
            f"job {job['metadata']['name']} was made by another version of mlp, or by hand",
            cause=str(e),
        ) from e


def get_job(cluster: Cluster, name: str) -> Object:
    """The Job object. Raises NotFoundError."""
    return cluster.get(cluster.path("jobs", name, _API))


def list_jobs(cluster: Cluster, selector: str) -> list[Object]:
    """The Jobs with these labels."""
    found: list[Object] = cluster.get(cluster.path("jobs", api=_API), labelSelector=selector)[
        "items"
    ]
    return found


def create_job(cluster: Cluster, manifest: Manifest) -> Object:
    """Make a Job. Raises ExistsError where there is one of that name."""
    return cluster.create(cluster.path("jobs", api=_API), manifest)


def create_service(cluster: Cluster, manifest: Manifest) -> None:
    """Make a Service, unless it is there."""
    try:
        cluster.create(cluster.path("services"), manifest)
    except ExistsError:
        return  # made by a submission that was killed before it could go on


def delete_job(cluster: Cluster, name: str, *, wait: bool = False) -> None:
    """Delete a Job and all that it owns; one that is gone already is not an error.

    With `wait`, until its name is free.
    """
    try:
        cluster.delete(cluster.path("jobs", name, _API))
    except NotFoundError:
        return
    until = time.monotonic() + _GONE_S
    while wait:
        try:
            get_job(cluster, name)
        except NotFoundError:
            return
        if time.monotonic() > until:
            raise RemoteError(
                f"job {name} is still being deleted",
                fix=f"kubectl --namespace {cluster.namespace} get job {name} --output=yaml",
            )
        time.sleep(_MIN_WAIT_S)


def end_job(cluster: Cluster, name: str) -> None:
    """Let a Job fail now instead of starting pods that would fail again; it stays to be read."""
    try:
        cluster.patch(cluster.path("jobs", name, _API), {"spec": {"activeDeadlineSeconds": 1}})
    except NotFoundError:
        return


def watch_job(cluster: Cluster, name: str) -> Iterator[JobState]:
    """The Job's state, now and with each change, until it has ended.

    A cluster that does not answer is tried again for as long as it takes: the job goes on.
    """
    last = JobState(Phase.WAITING)
    wait = _MIN_WAIT_S
    while True:
        try:
            job = get_job(cluster, name)
            last = state_of(job)
            yield last
            if last.ended:
                return
            wait = _MIN_WAIT_S
            for event in cluster.watch(
                cluster.path("jobs", api=_API),
                _SILENCE_S,
                fieldSelector=f"metadata.name={name}",
                resourceVersion=job["metadata"]["resourceVersion"],
                timeoutSeconds=_WATCH_S,
            ):
                if event["type"] == "ERROR":  # the version is too old by now
                    break
                if event["type"] == "DELETED":
                    yield JobState(Phase.GONE)
                    return
                last = state_of(event["object"])
                yield last
                if last.ended:
                    return
            yield last  # a sign of life, so that whoever waits can look at the clock
        except NotFoundError:
            yield JobState(Phase.GONE)
            return
        except UnreachableError:
            yield JobState(last.phase, last.nodes, last.ready, last.failed, reachable=False)
            time.sleep(wait)
            wait = min(wait * 2, _MAX_WAIT_S)
