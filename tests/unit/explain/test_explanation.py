"""What is said of situations that a test cluster cannot be brought into, or not quickly."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.core.explain.explanation import JobExplanation, JobPhase, Observation, explain
from mlp.core.launch.job_spec import EXIT_FAILED, EXIT_LOST
from mlp.core.launch.targets_section import KubernetesTarget

NOW = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
GPU = "nvidia.com/gpu"


def at(seconds_ago: float) -> str:
    """As Kubernetes writes times."""
    return (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def cond(kind: str, status: str = "True", **more: str) -> dict[str, str]:
    return {"type": kind, "status": status, **more}


def job(
    nodes: int = 1,
    *conditions: Mapping[str, str],
    requests: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    pod: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    resources = {"requests": requests or {}, "limits": requests or {}}
    container = {"name": "stage", "image": "r.example/env:1", "resources": resources}
    return {
        "metadata": {"name": "train", "uid": "u", "labels": labels or {}},
        "spec": {
            "completions": nodes,
            "backoffLimitPerIndex": 3,
            "template": {"spec": {"containers": [container], **(pod or {})}},
            **spec,
        },
        "status": {"conditions": conditions},
    }


def pod(
    index: int = 0,
    phase: str = "Pending",
    *conditions: Mapping[str, str],
    attempt: str = "a",
    node: str = "",
    init: Mapping[str, Any] | None = None,
    main: Mapping[str, Any] | None = None,
    leaves: bool = False,
    failures: int = 0,
    limit: str = "2Gi",
    **status: Any,
) -> dict[str, Any]:
    metadata = {
        "name": f"train-{index}-{attempt}",
        "annotations": {
            "batch.kubernetes.io/job-completion-index": str(index),
            "batch.kubernetes.io/job-index-failure-count": str(failures),
        },
        **({"deletionTimestamp": at(10)} if leaves else {}),
    }
    resources = {"limits": {"memory": limit}}
    names = ("prepare", "stage")
    spec = [{"name": n, "image": "r.example/env:1", "resources": resources} for n in names]
    return {
        "metadata": metadata,
        "spec": {"nodeName": node, "initContainers": spec[:1], "containers": spec[1:]},
        "status": {
            "phase": phase,
            "conditions": conditions,
            "initContainerStatuses": [{"name": "prepare", "state": init}] if init else [],
            "containerStatuses": [{"name": "stage", "state": main}] if main else [],
            **status,
        },
    }


def ended(
    code: int, message: object = "", reason: str = "Error", ago: float = 60, ran: float = 600
) -> Any:
    text = message if isinstance(message, str) else json.dumps(message)
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": text,
            "startedAt": at(ago + ran),
            "finishedAt": at(ago),
        }
    }


def running(since: float = 35) -> dict[str, Any]:
    return {"running": {"startedAt": at(since)}}


def waits(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def homeless(index: int, message: str) -> dict[str, Any]:
    found = cond("PodScheduled", "False", reason="Unschedulable", message=message)
    return pod(index, "Pending", found)


def node(
    name: str,
    ready: str = "True",
    since: float = 0,
    taints: Sequence[Mapping[str, str]] = (),
    cordoned: bool = False,
    **allocatable: str,
) -> dict[str, Any]:
    amounts = {"cpu": "8", "memory": "64Gi", "pods": "110", **allocatable}
    if "gpu" in amounts:
        amounts[GPU] = amounts.pop("gpu")
    closed = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    spec = {"taints": [*taints, closed], "unschedulable": True} if cordoned else {"taints": taints}
    return {
        "metadata": {"name": name},
        "spec": spec,
        "status": {
            "conditions": [cond("Ready", ready, lastTransitionTime=at(since))],
            "allocatable": amounts,
        },
    }


def warning(kind: str, name: str, reason: str, message: str, ago: float = 5) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}.1"},
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "message": message,
        "lastTimestamp": at(ago),
        "firstTimestamp": at(ago),
    }


def killed(pod: str, ago: float, host: str = "n0") -> dict[str, Any]:
    """What a kubelet says when it ends a pod that was deleted."""
    event = warning("Pod", pod, "Killing", "Stopping container stage", ago)
    return {**event, "source": {"component": "kubelet", "host": host}}


def deleted_by_the_job(pod: str, ago: float) -> dict[str, Any]:
    return warning("Job", "train", "SuccessfulDelete", f"Deleted pod: {pod}", ago)


def ask(found: Mapping[str, Any] | None, *pods: Any, **more: Any) -> JobExplanation:
    target = {"kind": "kubernetes", "image": "r.example/env", "namespace": "ml"}
    settings = more.pop("target", {})
    seen = Observation(found, pods=pods, at=NOW, **more)
    why = explain(seen, KubernetesTarget.model_validate({**target, **settings}), "gpu")
    assert "\n" not in why.reason + why.fix
    assert not why.reason.endswith(".")
    return why


# --- no room ------------------------------------------------------------------------------------

INSUFFICIENT = (
    "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient nvidia.com/gpu. no new claims to"
    " deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
)


def test_taints_of_the_only_nodes_that_would_do_are_named() -> None:
    taint = {"key": GPU, "effect": "NoSchedule"}
    nodes = [node("cpu-0"), node("gpu-0", gpu="4", taints=[taint])]
    why = ask(job(requests={GPU: "2"}), homeless(0, INSUFFICIENT), nodes=nodes)
    assert why.reason.endswith("keep them away by a taint: nvidia.com/gpu:NoSchedule")
    assert (
        why.fix == "add {key: nvidia.com/gpu, operator: Exists} to targets.gpu.tolerations in"
        " mlp.yaml"
    )


def test_nodes_that_others_use_are_not_called_too_small() -> None:
    pods = [pod(0, "Running", node="gpu-0", main=running()), homeless(1, INSUFFICIENT)]
    nodes = [node("gpu-0", gpu="2"), node("gpu-1", gpu="2")]
    why = ask(job(2, requests={GPU: "2"}), *pods, nodes=nodes)
    assert why.state is JobPhase.WAITING
    assert "1 of 2 pods have room; no node has" in why.reason
    assert "2 nvidia.com/gpu free now: other pods use them (1 of 2 pods)" in why.reason


def test_what_was_submitted_counts_not_what_mlp_yaml_says_now() -> None:
    why = ask(
        job(requests={GPU: "4"}),
        homeless(0, INSUFFICIENT),
        nodes=[node("gpu-0", gpu="2")],
        target={"resources": {"gpu": 1}},
    )
    assert "it asks for 4 nvidia.com/gpu; the largest has 2 nvidia.com/gpu" in why.reason


def test_a_gang_for_which_a_node_is_missing_that_is_not_ready() -> None:
    nodes = [node("gpu-0", gpu="2"), node("gpu-1", "Unknown", gpu="2")]
    why = ask(job(2, requests={GPU: "2"}), homeless(1, INSUFFICIENT), nodes=nodes)
    assert "all nodes together hold 1 of the 2 pods" in why.reason
    assert "not ready: gpu-1" in why.reason


UNSCHEDULABLE = (
    "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) were unschedulable."
    " no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption victims"
    " found for incoming pod, 1 Preemption is not helpful for scheduling."
)


def test_cordoned_nodes_are_named_and_not_called_in_use() -> None:
    nodes = [node("gpu-0", gpu="2"), node("gpu-1", gpu="2", cordoned=True)]
    waits = homeless(0, UNSCHEDULABLE)
    busy = ask(job(requests={GPU: "2"}), waits, nodes=nodes)
    assert busy.reason.endswith("other pods use them, and gpu-1 is cordoned")
    assert busy.fix.startswith("kubectl uncordon gpu-1; or it starts when they end")
    few = ask(
        job(2, requests={GPU: "2"}), pod(0, "Running"), homeless(1, UNSCHEDULABLE), nodes=nodes
    )
    assert "all nodes together hold 1 of the 2 pods" in few.reason
    assert "; gpu-1 is cordoned" in few.reason
    assert few.fix == "kubectl uncordon gpu-1"
    all_closed = [node(name, gpu="2", cordoned=True) for name in ("gpu-0", "gpu-1")]
    none = ask(job(requests={GPU: "2"}), waits, nodes=all_closed)
    assert none.reason == "no node takes pods: gpu-0, gpu-1 are cordoned"
    assert none.fix == "kubectl uncordon gpu-0 gpu-1"


@pytest.mark.parametrize(
    ("said", "words", "fix"),
    [
        (INSUFFICIENT, "2 nodes without 4 nvidia.com/gpu free", "targets.gpu.resources"),
        (
            "0/3 nodes are available: 3 node(s) had untolerated taint {dedicated: ml}. preemption:",
            "3 nodes with the taint dedicated=ml",
            "targets.gpu.tolerations",
        ),
        (
            "0/3 nodes are available: 3 node(s) had untolerated taint(s) {nvidia.com/gpu: }.",
            "3 nodes with the taint nvidia.com/gpu",
            "targets.gpu.tolerations",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            "1 node not of node_selector or affinity",
            "targets.gpu.node_selector",
        ),
        (
            "0/1 nodes are available: 1 node(s) were unschedulable.",
            "1 node closed for new pods (cordoned)",
            "kubectl uncordon NODE",
        ),
        ("0/1 nodes are available: 1 Too many pods.", "1 node: Too many pods", "kubectl"),
    ],
)
def test_without_nodes_the_schedulers_words_do(said: str, words: str, fix: str) -> None:
    found = job(requests={GPU: "4"})
    why = ask(found, homeless(0, said), unknown={"nodes": "nodes is forbidden"})
    assert words in why.reason
    assert fix in why.fix


# --- images -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "words", "fix"),
    [
        (
            'failed to resolve reference "r.example/env:1": pull access denied, repository does'
            " not exist or may require authorization: authorization failed: no basic auth",
            "r.example does not let the cluster pull image r.example/env:1",
            "targets.gpu.image_pull_secrets",
        ),
        (
            'failed to do request: Head "https://r.example/v2/": dial tcp 10.0.0.1: i/o timeout',
            "r.example cannot be reached for image r.example/env:1",
            "targets.gpu.image",
        ),
        (
            "failed to unpack: no match for platform in manifest: not found",
            "image r.example/env:1 is not made for the nodes' processors",
            "targets.gpu.image",
        ),
        ("write /var/lib/x: no space left on device", "n0 has no disk space", "who runs it"),
    ],
)
def test_images_that_cannot_be_pulled(said: str, words: str, fix: str) -> None:
    message = f'Back-off pulling image "r.example/env:1": ErrImagePull: {said}'
    why = ask(job(), pod(node="n0", init=waits("ImagePullBackOff", message)))
    assert (why.state, words in why.reason) == (JobPhase.WAITING, True), why
    assert fix in why.fix


def test_a_volume_that_another_node_holds() -> None:
    said = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other'
    event = warning("Pod", "train-0-a", "FailedAttachVolume", said)
    why = ask(job(), pod(node="n0", init=waits("PodInitializing")), events=[event])
    assert "in use on another node" in why.reason
    assert "ReadWriteMany" in why.fix


# --- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "words", "fix"),
    [
        (
            "exceeded quota: team, requested: limits.cpu=8,requests.nvidia.com/gpu=4, used:"
            " limits.cpu=0,requests.nvidia.com/gpu=0, limited:"
            " limits.cpu=4,requests.nvidia.com/gpu=4",
            "quota team is exceeded: 0 of 4 limits.cpu used, a pod needs 8",
            "lower targets.gpu.resources",
        ),
        (
            "failed quota: team: must specify limits.cpu for: prepare,stage; requests.cpu for: x",
            "quota team counts limits.cpu, and the pods do not say",
            "targets.gpu.resources",
        ),
        (
            "[maximum cpu usage per Container is 1, but limit is 2, maximum cpu usage per Pod is 1"
            ", but limit is 2]",
            "a LimitRange of the namespace refuses the pods: [maximum cpu usage",
            "describe limits",
        ),
    ],
)
def test_pods_that_are_refused(said: str, words: str, fix: str) -> None:
    message = f'Error creating: pods "train-0-x" is forbidden: {said}'
    why = ask(job(), events=[warning("Job", "train", "FailedCreate", message)])
    assert words in why.reason
    assert fix in why.fix


@pytest.mark.parametrize(
    ("hard", "nodes", "fix"),
    [
        ("8", 2, "it starts when others have ended"),
        ("8", 3, "lower --nodes to 2, or ask for a larger quota"),
        ("3", 1, "lower targets.gpu.resources in mlp.yaml, or ask for a larger quota"),
    ],
)
def test_what_a_quota_leaves_room_for(hard: str, nodes: int, fix: str) -> None:
    resource = "requests.nvidia.com/gpu"
    said = f"exceeded quota: team, requested: {resource}=4, used: {resource}=8, limited:"
    event = warning("Job", "train", "FailedCreate", f"{said} {resource}={hard}")
    quota = {"metadata": {"name": "team"}, "status": {"used": {resource: "6"}}}
    why = ask(job(nodes), events=[event], quotas=[quota])
    assert f"quota team is exceeded: 6 of {hard} {resource} used, a pod needs 4" in why.reason
    assert why.fix.startswith(fix)


def test_a_policy_that_refuses() -> None:
    said = 'admission webhook "policy.example" denied the request: label team is missing'
    event = warning("Job", "train", "FailedCreate", f"Error creating: {said}")
    why = ask(job(), events=[event])
    assert (
        why.reason == "the cluster's policy policy.example refuses the pods: label team is missing"
    )


def test_an_old_refusal_is_not_the_reason_once_the_pods_are_there() -> None:
    event = warning("Job", "train", "FailedCreate", "exceeded quota: team")
    why = ask(job(), pod(0, node="n0", init=running(3)), events=[event])
    assert (why.state, why.reason) == (
        JobPhase.STARTING,
        "1 of 1 pods fetches code and data, since 3 s",
    )


# --- queues: Workloads as Kueue's documentation and its source have them ------------------------

QUEUED = job(labels={"kueue.x-k8s.io/queue-name": "gpus"}, suspend=True)


def workload(*conditions: Mapping[str, str], **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "job-train-1"},
        "spec": {"queueName": "gpus", "active": more.pop("active", True)},
        "status": {"conditions": conditions, **more},
    }


@pytest.mark.parametrize(
    ("found", "words", "fix"),
    [
        (
            workload(
                cond(
                    "QuotaReserved",
                    "False",
                    reason="Pending",
                    message="couldn't assign flavors to pod set main: insufficient unused quota"
                    " for nvidia.com/gpu in flavor default-flavor, 3 more needed",
                )
            ),
            "waiting for queue gpus: couldn't assign flavors to pod set main: insufficient unused",
            "it starts when there is room",
        ),
        (
            workload(
                cond(
                    "QuotaReserved",
                    "False",
                    reason="Pending",
                    message="couldn't assign flavors to pod set main: insufficient quota for"
                    " nvidia.com/gpu in flavor a100, request > maximum capacity (24 > 16)",
                )
            ),
            "maximum capacity (24 > 16)",
            "it never fits",
        ),
        (
            workload(
                cond(
                    "QuotaReserved",
                    "False",
                    reason="Inadmissible",
                    message="LocalQueue gpus doesn't exist",
                )
            ),
            "queue gpus does not exist in namespace ml",
            "targets.gpu.queue",
        ),
        (
            workload(
                cond("QuotaReserved"),
                admissionChecks=[{"name": "capacity", "state": "Pending", "message": "asked for"}],
            ),
            "queue gpus has kept room for it; it waits for capacity (asked for)",
            "",
        ),
        (
            workload(
                cond("QuotaReserved", "False", message="no room"),
                cond("Evicted", reason="Preempted", message="Preempted to accommodate a workload"),
            ),
            "took it out again (Preempted to accommodate a workload); now: no room",
            "",
        ),
        (
            workload(
                cond("QuotaReserved", "False", message="The workload is deactivated"), active=False
            ),
            "queue gpus has given it up: The workload is deactivated",
            "mlp jobs cancel",
        ),
        (None, "queue gpus has not looked at it yet", "localqueues"),
    ],
)
def test_what_a_queue_waits_for(found: Any, words: str, fix: str) -> None:
    why = ask(QUEUED, workload=found)
    assert why.state is JobPhase.SUSPENDED
    assert words in why.reason
    assert fix in why.fix


def test_a_queue_that_may_not_be_read() -> None:
    why = ask(QUEUED, unknown={"workload": "workloads is forbidden"})
    assert why.reason == "it waits for queue gpus; why cannot be known: workloads is forbidden"


def test_suspended_by_hand() -> None:
    why = ask(job(suspend=True))
    assert (why.state, why.reason) == (JobPhase.SUSPENDED, "it was suspended by hand")


# --- running, starting --------------------------------------------------------------------------


def test_running() -> None:
    pods = [pod(n, "Running", node=f"n{n}", main=running(35 + n)) for n in range(2)]
    why = ask(job(2), *pods)
    assert why == JobExplanation(JobPhase.RUNNING, "2 of 2 nodes run, since 35 s")


def test_starting() -> None:
    pods = [
        pod(0, "Pending", node="n0", init=running(12), main=waits("PodInitializing")),
        pod(1, "Pending", cond("PodScheduled", lastTransitionTime=at(20)), node="n1"),
    ]
    why = ask(job(2), *pods)
    assert why.state is JobPhase.STARTING
    assert why.reason == (
        "1 of 2 pods pulls its image and volumes, since 20 s;"
        " 1 of 2 pods fetches code and data, since 12 s"
    )


def test_a_job_whose_pods_are_not_made_yet() -> None:
    assert ask(job()).reason == "the cluster has not made its pods yet"


# --- nodes that are lost ------------------------------------------------------------------------


def test_a_node_that_does_not_answer() -> None:
    pods = [pod(n, "Running", node=f"n{n}", main=running()) for n in range(2)]
    nodes = [node("n0"), node("n1", "Unknown", 1200)]
    why = ask(job(2), *pods, nodes=nodes)
    assert why.state is JobPhase.WAITING
    assert why.reason == (
        "n1 has not been reachable since 02:10 UTC; its pod is replaced 60 s after that"
    )
    assert why.fix == "kubectl describe node n1"


def test_a_node_that_was_given_up_and_no_room_for_the_pod_that_follows() -> None:
    lost = cond("DisruptionTarget", reason="DeletionByTaintManager")
    pods = [
        pod(0, "Running", node="n0", main=running()),
        pod(1, "Running", lost, node="n1", main=running(), leaves=True),
        homeless(1, INSUFFICIENT) | {"metadata": pod(1, attempt="b")["metadata"]},
    ]
    nodes = [node("n0", gpu="2"), node("n1", "Unknown", 1200, gpu="2")]
    why = ask(job(2, requests={GPU: "2"}), *pods, nodes=nodes)
    assert why.reason.startswith("n1 has not been reachable since 02:10 UTC; its pod is replaced; ")
    assert "all nodes together hold 1 of the 2 pods" in why.reason
    assert "was restarted once: node 1 on n1 was given up: its node was lost" in why.reason


def test_a_lost_node_without_the_right_to_list_nodes() -> None:
    found = pod(0, "Running", cond("Ready", "False"), node="n0", main=running())
    event = warning("Pod", "train-0-a", "NodeNotReady", "Node is not ready", 1200)
    why = ask(job(), found, events=[event], unknown={"nodes": "forbidden"})
    assert why.reason.startswith("n0 has not been reachable since 02:10 UTC")


# --- failed -------------------------------------------------------------------------------------


def failed(reason: str = "MaxFailedIndexesExceeded", nodes: int = 1, **spec: Any) -> Any:
    return job(nodes, cond("Failed", reason=reason, message="Job has exceeded"), **spec)


def report(phase: str, message: str, code: int | None = None, *log: str, **more: Any) -> Any:
    return {"phase": phase, "code": code, "message": message, "log": log, **more}


CODE = report("code", "the command ended with exit code 3", 3, "Traceback", "ValueError: x")


def test_the_node_whose_code_failed_speaks_not_those_that_it_took_along() -> None:
    elsewhere = report("code", "another node has failed", 143, "nothing of interest")
    pods = [
        pod(0, "Failed", node="n0", main=ended(EXIT_FAILED, elsewhere, ago=90)),
        pod(1, "Failed", node="n1", main=ended(EXIT_FAILED, CODE, ago=60)),
    ]
    why = ask(failed(nodes=2), *pods)
    assert why.reason == "the command ended with exit code 3 (node 1 on n1)"
    assert (why.code, why.log) == (3, ("Traceback", "ValueError: x"))


def test_an_error_of_mlps_own_speaks_not_the_exit_code_that_it_left() -> None:
    room = "no room for checkpoint last.ckpt on volume claim scratch, mounted at /checkpoints"
    known = report("code", room, None, "Traceback", fix="name a larger claim")
    pods = [
        pod(0, "Failed", node="n0", main=ended(EXIT_FAILED, known, ago=60)),
        pod(1, "Failed", node="n1", main=ended(EXIT_FAILED, CODE, ago=61)),
    ]
    why = ask(failed(nodes=2), *pods)
    assert (why.reason, why.fix) == (f"{room} (node 0 on n0)", "name a larger claim")
    assert (why.code, why.log) == (None, ())


def test_a_node_that_is_gone_speaks_through_those_that_it_took_along() -> None:
    said = report("code", "the command ended with exit code 3", 3, "ValueError: x", node=0)
    why = ask(failed(nodes=2), pod(1, "Failed", node="n1", main=ended(EXIT_FAILED, said)))
    assert why.reason == "the command ended with exit code 3 (node 0)"
    assert (why.code, why.log) == (3, ("ValueError: x",))


def test_the_end_is_known_before_the_cluster_knows_it() -> None:
    why = ask(
        job(), pod(0, "Failed", node="n0", main=ended(EXIT_FAILED, CODE)), pod(0, attempt="b")
    )
    assert (why.state, why.final, why.code) == (JobPhase.FAILED, True, 3)


def test_what_is_said_to_be_final_comes_before_what_else_went_wrong() -> None:
    pods = [
        pod(0, "Failed", node="n0", init=ended(EXIT_FAILED, report("bundle", "it was changed"))),
        pod(1, "Failed", node="n1", main=ended(137, "", "OOMKilled")),
    ]
    why = ask(job(2), *pods)
    assert why.reason == "node 0 on n0 could not fetch the code: it was changed"
    assert (why.final, why.code) == (True, None)


def test_a_pod_that_is_lost_is_not_the_end() -> None:
    lost = pod(0, "Failed", node="n0", main=ended(EXIT_LOST, report("rendezvous", "node 1 left")))
    again = pod(0, "Running", attempt="b", node="n0", main=running())
    why = ask(job(), lost, again)
    assert (why.state, why.final) == (JobPhase.RUNNING, False)
    assert "; it was restarted once: the nodes did not find or keep each other" in why.reason


@pytest.mark.parametrize(
    ("code", "key"), [(137, "targets.gpu.resources.memory"), (135, "targets.gpu.resources.shm")]
)
def test_signals_that_mean_want_of_memory(code: int, key: str) -> None:
    words = report("code", f"the command ended with exit code {code}", code, "Killed")
    why = ask(failed(), pod(0, "Failed", main=ended(EXIT_FAILED, words)))
    assert key in why.fix


def test_out_of_memory_with_limit_and_peak() -> None:
    words = report("code", "killed", peak_memory=2 * 1024**3)
    found = pod(0, "Failed", node="n0", main=ended(137, words, "OOMKilled"), limit="2Gi")
    why = ask(failed(), found)
    assert why.reason == "the pod on n0 ran out of memory: the limit is 2Gi, the peak was 2Gi"
    assert "targets.gpu.resources.memory" in why.fix
    assert why.code is None


def test_evicted() -> None:
    said = "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi."
    found = pod(0, "Failed", cond("DisruptionTarget"), node="n0", reason="Evicted", message=said)
    why = ask(failed(), found)
    assert (
        "the pod on n0 was evicted: The node was low on resource: ephemeral-storage" in why.reason
    )
    assert "targets.gpu.volumes" in why.fix


def test_preempted() -> None:
    gave_way = cond("DisruptionTarget", reason="PreemptionByScheduler", message="preempting")
    why = ask(failed(), pod(0, "Failed", gave_way, node="n0", main=ended(143)))
    assert why.reason == "the pod on n0 had to give way to a pod of higher priority"
    assert "targets.gpu.priority_class" in why.fix


def test_the_last_failure_of_a_node_counts_not_an_earlier_one() -> None:
    pods = [
        pod(0, "Failed", attempt="a", main=ended(137, "", "OOMKilled", 90)),
        pod(0, "Failed", attempt="b", node="n0", reason="Evicted", message="low on memory"),
    ]
    pods[1]["metadata"]["deletionTimestamp"] = at(5)
    why = ask(failed(), *pods)
    assert "evicted" in why.reason
    assert "it failed 2 times" in why.reason


def test_fails_again_and_again_and_goes_on() -> None:
    lost = [
        pod(0, "Failed", attempt=a, node="n0", main=ended(1, "boom", ago=90)) for a in ("a", "b")
    ]
    why = ask(job(), *lost)
    assert why.state is JobPhase.WAITING
    assert why.reason == (
        "the cluster will start its next pods in a moment; it has failed 2 times, of the 4 that are"
        " allowed, each time: container stage ended with exit code 1 (the pod on n0): boom"
    )


def test_nodes_that_were_waited_for_are_named_with_the_reason() -> None:
    lost = ended(EXIT_LOST, report("rendezvous", "timed out"))
    pods = [
        pod(0, "Failed", node="n0", main=lost),
        pod(1, "Failed", node="n1", main=lost),
        pod(2, node="n2", init=waits("ImagePullBackOff", "403 Forbidden")),
    ]
    why = ask(failed(nodes=3), *pods)
    assert why.reason.startswith(
        "the nodes waited 600 s for node 2, which never ran: r.example does not let the cluster"
    )
    assert "image_pull_secrets" in why.fix


def test_the_seconds_that_are_told_are_those_that_passed() -> None:
    lost = ended(EXIT_LOST, report("rendezvous", "RendezvousConnectionError"), ran=163)
    why = ask(failed(nodes=2), pod(0, "Failed", node="n0", main=lost), pod(1, node="n1"))
    assert why.reason == "the nodes waited 163 s for node 1, which never ran"
    assert "rendezvous_timeout" not in why.fix, "it was not reached"


# --- pods that are gone -------------------------------------------------------------------------

REST = {
    "nothing": [],
    "ended with the job": [pod(1, "Running", node="n1", main=ended(143), leaves=True)],
    "lost its peer": [
        pod(1, "Failed", node="n1", main=ended(EXIT_LOST, report("rendezvous", "closed"), ran=75))
    ],
    "failed for want of its peer": [
        pod(1, "Failed", node="n1", main=ended(EXIT_FAILED, report("code", "closed", 1, "gloo")))
    ],
}


@pytest.mark.parametrize("rest", REST.values(), ids=REST)
def test_a_node_whose_pod_was_deleted_speaks_not_those_that_it_took_along(rest: Any) -> None:
    events = [
        killed("train-0-a", 61),
        killed("train-1-a", 60, "n1"),
        deleted_by_the_job("train-1-a", 60),
    ]
    gone = failed(nodes=2, backoffLimitPerIndex=0)
    gone["metadata"]["labels"]["mlp/stage"] = "train"
    why = ask(gone, *rest, events=events)
    assert why.reason == (
        "the pod of node 0 on n0 was deleted at 02:28 UTC, by hand or to empty its node"
    )
    assert "launch.train.max_restarts in mlp.yaml (now 0)" in why.fix
    assert "kubectl describe node n0" in why.fix
    assert (why.code, why.log) == (None, ())


def test_a_pod_that_is_being_deleted_is_the_reason_while_it_saves_its_checkpoint() -> None:
    leaving = pod(0, "Running", node="n0", main=running(), leaves=True)
    leaving["metadata"]["deletionGracePeriodSeconds"] = 30
    why = ask(failed(nodes=2), leaving, pod(1, "Running", node="n1", main=running(), leaves=True))
    assert why.reason.startswith("the pod of node 0 on n0 was deleted at 02:29 UTC")


def test_a_pod_that_was_replaced_is_not_what_the_gang_ended_of() -> None:
    pods = [
        pod(0, "Running", attempt="b", node="n0", main=running(200), failures=1),
        pod(1, "Failed", node="n1", main=ended(EXIT_FAILED, CODE, ago=60)),
    ]
    why = ask(job(2), *pods, events=[killed("train-0-a", 300)])
    assert why.reason == "the command ended with exit code 3 (node 1 on n1)"


def test_a_job_that_goes_on_tells_which_pod_was_deleted() -> None:
    pods = [pod(i, "Running", attempt="b", node=f"n{i}", main=running()) for i in (0, 1)]
    lost = ended(EXIT_LOST, report("rendezvous", "closed"))
    before = pod(1, "Failed", node="n1", main=lost)
    why = ask(job(2), *pods, before, events=[killed("train-0-a", 61)])
    assert why.state is JobPhase.RUNNING
    assert "it was restarted once: the pod of node 0 on n0 was deleted at 02:28 UTC" in why.reason


def test_a_pod_that_gave_way_and_is_gone() -> None:
    events = [
        warning("Pod", "train-0-a", "Preempted", "Preempted by pod 7f3c on node n0", 70),
        killed("train-0-a", 69),
    ]
    why = ask(failed(nodes=2), events=events)
    assert why.reason == "node 0 on n0 had to give way to a pod of higher priority"


def test_a_pod_that_left_nothing_but_a_count() -> None:
    gone = failed(nodes=8)
    gone["status"]["failedIndexes"] = "3-4"
    lost = ended(EXIT_LOST, report("rendezvous", "closed"))
    others = [pod(i, "Failed", node=f"n{i}", main=lost) for i in (0, 1, 2, 5, 6, 7)]
    why = ask(gone, *others)
    assert why.reason == "the pod of node 3 failed, and is gone with all that it said"


def test_a_node_that_ran_before_is_not_said_to_have_never_run() -> None:
    lost = ended(EXIT_LOST, report("rendezvous", "closed"), ran=163)
    pods = [pod(0, attempt="b", node="n0", failures=1), pod(1, "Failed", node="n1", main=lost)]
    why = ask(failed(nodes=2), *pods)
    assert "never ran" not in why.reason


def test_what_the_job_ended_itself_is_no_reason() -> None:
    late = job(1, cond("Failed", reason="DeadlineExceeded"), activeDeadlineSeconds=5)
    events = [killed("train-0-a", 60), deleted_by_the_job("train-0-a", 60)]
    why = ask(late, events=events)
    assert "longer than activeDeadlineSeconds allows (5 s)" in why.reason


def test_an_image_without_mlp() -> None:
    said = (
        "/usr/bin/python: Error while finding module specification for 'mlp.runtime.launch.prepare'"
        " (ModuleNotFoundError: No module named 'mlp')"
    )
    why = ask(failed(), pod(0, "Failed", node="n0", init=ended(1, said)))
    assert (why.reason, why.fix) == ("the image does not hold mlp (the pod on n0)", "mlp build gpu")


def test_a_pod_that_its_node_refuses() -> None:
    said = "Allocate failed due to no healthy devices"
    why = ask(
        failed(), pod(0, "Failed", node="n0", reason="UnexpectedAdmissionError", message=said)
    )
    assert why.reason == f"the pod on n0 failed: UnexpectedAdmissionError: {said}"


def test_a_deadline_that_left_no_pods() -> None:
    why = ask(failed("DeadlineExceeded", activeDeadlineSeconds=60))
    assert "(60 s)" in why.reason
    assert why.final


def test_done_and_gone() -> None:
    found = job(2, cond("Complete"))
    found["status"] |= {"startTime": at(300), "completionTime": at(0)}
    why = ask(found)
    assert (why.state, why.final) == (JobPhase.DONE, True)
    assert why.reason == "all 2 nodes have done the work, in 5 min"
    assert (ask(None).state, ask(None).final) == (JobPhase.GONE, True)


# --- whatever comes -----------------------------------------------------------------------------


ANY_JSON = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner))
REPORTS = st.dictionaries(st.sampled_from(["phase", "message", "code", "log"]), ANY_JSON)


@given(said=st.text(), code=st.integers(0, 255), words=st.just(CODE) | REPORTS)
def test_any_words_of_the_cluster_give_one_sentence(said: str, code: int, words: Any) -> None:
    ask(job(), homeless(0, f"0/2 nodes are available: {said}"))
    ask(job(), pod(node="n", init=waits("ImagePullBackOff", said)))
    ask(job(), pod(node="n", init=waits("CreateContainerConfigError", said)))
    ask(job(), events=[warning("Job", "train", "FailedCreate", said)])
    ask(failed(), pod(0, "Failed", main=ended(code, words)))
    ask(failed(), pod(0, "Failed", main=ended(code, said)))
    ask(QUEUED, workload=workload(cond("QuotaReserved", "False", message=said)))
