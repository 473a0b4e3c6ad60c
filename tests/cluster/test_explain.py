"""What `explain` says of jobs that a real cluster cannot run, or that fail there."""

import json
import os
import shlex
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlp.adapters.cluster import Cluster, observe
from mlp.core.explain.explanation import JobExplanation, JobPhase, explain
from mlp.core.launch import job_spec as jobs
from mlp.core.launch.targets_section import Build, KubernetesTarget
from tests.cluster.conftest import PATIENCE_S, RESTRICTED, Namespace, await_

pytestmark = pytest.mark.cluster

IMAGE = os.environ.get("MLP_TEST_BASE_IMAGE", Build().base)  # any that has a shell
LOCKED_DOWN = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
USER = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}


def make(
    name: str,
    script: str = "exec sleep 600",
    *,
    init: str = "true",
    nodes: int = 1,
    resources: Mapping[str, str] | None = None,
    image: str = IMAGE,
    restarts: int = 0,
    pod: Mapping[str, Any] | None = None,
    container: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A Job as mlp makes it, but for what its containers run."""

    def one(called: str, text: str) -> dict[str, Any]:
        return {
            "name": called,
            "image": image,
            "command": ["sh", "-c", text],
            "securityContext": LOCKED_DOWN,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": {"requests": resources or {}, "limits": resources or {}},
            **(container or {}),
        }

    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {jobs.LABEL_MANAGED_BY: jobs.MANAGED_BY}},
        "spec": {
            "completionMode": "Indexed",
            "completions": nodes,
            "parallelism": nodes,
            "backoffLimitPerIndex": restarts,
            "maxFailedIndexes": 0,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "securityContext": USER,
                    "terminationGracePeriodSeconds": 1,
                    "initContainers": [one(jobs.INIT_CONTAINER, init)],
                    "containers": [one(jobs.MAIN_CONTAINER, script)],
                    **(pod or {}),
                }
            },
        },
    }


def reports(phase: str, message: str, code: int | None, *log: str) -> str:
    """A script that ends as `mlp.runtime.launch.pod_worker` does."""
    words = {"phase": phase, "code": code, "message": message, "log": log}
    ends = jobs.EXIT_FAILED if phase == "code" else jobs.EXIT_LOST
    return f"echo {shlex.quote(json.dumps(words))} > /dev/termination-log; exit {ends}"


def ask(cluster: Cluster, name: str, **target: Any) -> JobExplanation:
    described = {"kind": "kubernetes", "image": "registry/env", "namespace": cluster.namespace}
    found = KubernetesTarget.model_validate({**described, **target})
    return explain(observe(cluster, name), found, "gpu")


def eventually(
    namespace: Namespace, job: Mapping[str, Any], state: JobPhase, words: str, **target: Any
) -> JobExplanation:
    """Make the job, and ask why until the answer is in this state and has these words."""
    namespace.apply(job)
    until = time.monotonic() + PATIENCE_S
    while True:
        why = ask(namespace.cluster, job["metadata"]["name"], **target)
        if (why.state, words in why.reason) == (state, True):
            assert "\n" not in why.reason
            return why
        assert time.monotonic() < until, why
        time.sleep(0.2)


def delete_jobs(namespace: Namespace) -> None:
    """Before the namespace: pods that outlive their Job there keep its finalizer, and stay."""
    namespace.kubectl("delete", "jobs", "--all", "--cascade=foreground")


@pytest.fixture(scope="module", autouse=True)
def ending(namespace: Namespace) -> Iterator[None]:
    yield
    delete_jobs(namespace)


@pytest.fixture(scope="module")
def limited() -> Iterator[Namespace]:
    """A namespace with a quota of one GPU and a LimitRange."""
    made = Namespace(f"mlp-{uuid.uuid4().hex[:8]}")
    quota = {"hard": {"requests.nvidia.com/gpu": "1"}}
    limits = {"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]}
    made.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": made.name, "labels": RESTRICTED},
        },
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}, "spec": quota},
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "most"}, "spec": limits},
    )
    await_(lambda: "hard" in made.get("resourcequota", "team")["status"], "counting the quota")
    yield made
    delete_jobs(made)
    made.kubectl("delete", "namespace", made.name, "--wait=false")


# --- no node ------------------------------------------------------------------------------------


def test_more_gpus_than_any_node_has(namespace: Namespace) -> None:
    job = make("gpus", resources={"nvidia.com/gpu": "99"})
    why = eventually(namespace, job, JobPhase.WAITING, "no node can hold one pod")
    assert "it asks for 99 nvidia.com/gpu; the largest has 2 nvidia.com/gpu" in why.reason
    assert why.fix == "lower targets.gpu.resources.gpu to 2 (mlp.yaml) and raise --nodes"
    assert not why.final


def test_more_memory_than_any_node_has(namespace: Namespace) -> None:
    job = make("memory", resources={"memory": "900Ti"})
    why = eventually(namespace, job, JobPhase.WAITING, "it asks for 900Ti memory")
    assert "targets.gpu.resources" in why.fix


def test_more_pods_than_there_is_room_for(namespace: Namespace) -> None:
    job = make("many", nodes=60, resources={"nvidia.com/gpu": "2"})
    why = eventually(namespace, job, JobPhase.WAITING, "of the 60 pods")
    assert "--nodes" in why.fix
    namespace.kubectl("delete", "job", "many")


def test_a_selector_that_no_node_matches(namespace: Namespace) -> None:
    job = make("selected", pod={"nodeSelector": {"disk": "fast"}})
    why = eventually(namespace, job, JobPhase.WAITING, "no node has the labels disk=fast")
    assert "targets.gpu.node_selector" in why.fix


def test_an_affinity_that_no_node_matches(namespace: Namespace) -> None:
    terms = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
    node = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    job = make("affine", pod={"affinity": {"nodeAffinity": node}})
    why = eventually(namespace, job, JobPhase.WAITING, "no node matches the affinity")
    assert "targets.gpu.affinity" in why.fix


# --- images, Secrets, claims --------------------------------------------------------------------


def test_an_image_that_is_not_there(namespace: Namespace) -> None:
    image = f"{IMAGE.rpartition('/')[0]}/mlp-tests-have-no-such-image:1"
    why = eventually(namespace, make("image", image=image), JobPhase.WAITING, image)
    assert f"image {image} is not in" in why.reason
    assert "mlp build gpu" in why.fix


def test_a_registry_that_cannot_be_reached(namespace: Namespace) -> None:
    job = make("registry", image="registry.invalid/env:1")
    why = eventually(namespace, job, JobPhase.WAITING, "registry.invalid cannot be reached")
    assert "no such host" in why.reason or "dial" in why.reason


def test_a_name_that_no_image_can_have(namespace: Namespace) -> None:
    why = eventually(
        namespace, make("name", image="UPPER::x"), JobPhase.WAITING, "is not the name of an image"
    )
    assert "targets.gpu.image" in why.fix


def test_a_secret_that_is_not_there(namespace: Namespace) -> None:
    job = make("secret", container={"envFrom": [{"secretRef": {"name": "s3"}}]})
    why = eventually(namespace, job, JobPhase.WAITING, "Secret s3 is not in namespace")
    assert f"kubectl --namespace {namespace.name} create secret generic s3" in why.fix
    assert "targets.gpu.secrets" in why.fix


def test_a_secret_for_files_that_is_not_there(namespace: Namespace) -> None:
    job = make(
        "files",
        pod={"volumes": [{"name": "secret-x", "secret": {"secretName": "x"}}]},
        container={"volumeMounts": [{"name": "secret-x", "mountPath": "/x"}]},
    )
    words = "Secret x is not in namespace"
    why = eventually(namespace, job, JobPhase.WAITING, words, secret_files={"x": "/x"})
    assert "targets.gpu.secret_files" in why.fix


def with_claim(name: str, claim: str) -> dict[str, Any]:
    return make(
        name, pod={"volumes": [{"name": "c", "persistentVolumeClaim": {"claimName": claim}}]}
    )


def test_a_claim_that_is_not_there(namespace: Namespace) -> None:
    job = with_claim("no-claim", "data")
    why = eventually(namespace, job, JobPhase.WAITING, "volume claim data is not there")
    assert "targets.gpu.volumes" in why.fix


def test_a_claim_that_gets_no_volume(namespace: Namespace) -> None:
    spec = {
        "storageClassName": "no-such-class",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    kind = "PersistentVolumeClaim"
    namespace.apply(
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": "unbound"}, "spec": spec}
    )
    words = 'volume claim unbound is not bound: storageclass.storage.k8s.io "no-such-class"'
    why = eventually(namespace, with_claim("unbound", "unbound"), JobPhase.WAITING, words)
    assert why.fix.endswith("describe pvc unbound")


# --- refused ------------------------------------------------------------------------------------


def test_a_quota_that_is_used_up(limited: Namespace) -> None:
    job = make("quota", nodes=2, resources={"nvidia.com/gpu": "1", "memory": "64Mi"})
    why = eventually(limited, job, JobPhase.WAITING, "quota team is exceeded")
    assert "1 of 1 requests.nvidia.com/gpu used, a pod needs 1" in why.reason
    assert why.fix.startswith("lower --nodes to 1")


def test_a_limit_of_the_namespace(limited: Namespace) -> None:
    job = make("limit", resources={"memory": "2Gi"})
    why = eventually(limited, job, JobPhase.WAITING, "maximum memory usage per Container is 1Gi")
    assert "targets.gpu.resources" in why.fix


def test_pods_that_are_not_locked_down(namespace: Namespace) -> None:
    job = make("loose", container={"securityContext": {}})
    why = eventually(namespace, job, JobPhase.WAITING, "pod security refuses the pods")
    assert "allowPrivilegeEscalation" in why.reason
    assert "targets.gpu.patch" in why.fix


def test_a_priority_class_that_is_not_there(namespace: Namespace) -> None:
    job = make("priority", pod={"priorityClassName": "urgent"})
    why = eventually(namespace, job, JobPhase.WAITING, "priority class urgent is not there")
    assert "targets.gpu.priority_class" in why.fix


def test_a_service_account_that_is_not_there(namespace: Namespace) -> None:
    job = make("account", pod={"serviceAccountName": "robot"})
    why = eventually(namespace, job, JobPhase.WAITING, "ServiceAccount robot is not there")
    assert "create serviceaccount robot" in why.fix


def test_a_queue_where_there_is_no_kueue(namespace: Namespace) -> None:
    job = make("queued")
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team"
    job["spec"]["suspend"] = True
    if "kueue.x-k8s.io/" in namespace.kubectl("api-versions"):
        pytest.skip("Kueue is installed")
    why = eventually(namespace, job, JobPhase.SUSPENDED, "queue team, and Kueue is not installed")
    assert "targets.gpu.queue" in why.fix


# --- running, done, failed ----------------------------------------------------------------------


def test_running_and_done(namespace: Namespace) -> None:
    job = make("good", "while [ ! -e /tmp/end ]; do sleep 0.2; done")
    why = eventually(namespace, job, JobPhase.RUNNING, "1 of 1 nodes run, since ")
    assert (why.fix, why.final) == ("", False)
    namespace.kubectl("exec", "job/good", "--container=stage", "--", "touch", "/tmp/end")
    why = eventually(namespace, job, JobPhase.DONE, "its node has done the work, in ")
    assert why.final


def test_the_users_code_fails(namespace: Namespace) -> None:
    script = reports("code", "the command ended with exit code 3", 3, "ValueError: no rows")
    why = eventually(namespace, make("code", script, restarts=3), JobPhase.FAILED, "exit code 3")
    assert (why.code, why.log, why.final) == (3, ("ValueError: no rows",), True)
    assert "mlp jobs logs code" in why.fix


def test_out_of_memory(namespace: Namespace) -> None:
    job = make("oom", "head -c 200000000 /dev/zero | tail", resources={"memory": "32Mi"})
    why = eventually(namespace, job, JobPhase.FAILED, "ran out of memory: the limit is 32Mi")
    assert "targets.gpu.resources.memory" in why.fix
    assert (why.code, why.log) == (None, ())


def test_fails_again_and_again(namespace: Namespace) -> None:
    job = make("again", "exit 9", restarts=1)
    why = eventually(namespace, job, JobPhase.FAILED, "it failed 2 times")
    assert "container stage ended with exit code 9" in why.reason


def test_code_or_data_cannot_be_fetched(namespace: Namespace) -> None:
    job = make("inputs", init=reports("inputs", "the DVC remote does not answer", None))
    why = eventually(namespace, job, JobPhase.FAILED, "could not pull the inputs")
    assert "the DVC remote does not answer" in why.reason
    assert "mlp doctor --target gpu" in why.fix


def test_an_image_without_python(namespace: Namespace) -> None:
    job = make("bare", container={"command": ["no-such-program"]})
    why = eventually(namespace, job, JobPhase.FAILED, "cannot start container prepare")
    assert "mlp build gpu" in why.fix


def test_the_nodes_do_not_meet(namespace: Namespace) -> None:
    script = reports("rendezvous", "node 0 was not reached", None)
    job = make("meet", nodes=2, script=script, container={"image": IMAGE})
    why = eventually(namespace, job, JobPhase.FAILED, "did not find or keep each other")
    assert why.code is None


def test_a_pod_that_was_force_deleted(namespace: Namespace) -> None:
    eventually(namespace, make("taken", nodes=2), JobPhase.RUNNING, "2 of 2 nodes run")
    first = namespace.pods("taken")[0]
    node, place = first["metadata"]["labels"][jobs.INDEX_LABEL], first["spec"]["nodeName"]
    pod = first["metadata"]["name"]
    namespace.kubectl("delete", "pod", pod, "--force", "--grace-period=0")
    words = f"the pod of node {node} on {place} was deleted at "
    why = eventually(namespace, make("taken", nodes=2), JobPhase.FAILED, words)
    assert "max_restarts in mlp.yaml (now 0)" in why.fix
    await_(lambda: not namespace.pods("taken"), "the other pod's end")
    assert words in ask(namespace.cluster, "taken").reason


def test_a_deadline(namespace: Namespace) -> None:
    job = make("deadline")
    job["spec"]["activeDeadlineSeconds"] = 1
    why = eventually(
        namespace, job, JobPhase.FAILED, "longer than activeDeadlineSeconds allows (1 s)"
    )
    assert why.final


def test_a_job_that_is_gone(namespace: Namespace) -> None:
    why = ask(namespace.cluster, "never-made")
    assert (why.state, why.final) == (JobPhase.GONE, True)


# --- how it is found out ------------------------------------------------------------------------


class Counting(Cluster):
    """A connection that notes what it asks for."""

    def __init__(self, namespace: str) -> None:
        super().__init__(None, namespace)
        self.asked: list[str] = []

    def get(self, path: str, **query: Any) -> Any:
        self.asked.append(path)
        return super().get(path, **query)


def test_the_number_of_requests_does_not_grow_with_the_pods(namespace: Namespace) -> None:
    eventually(
        namespace,
        make("small", resources={"cpu": "99"}),
        JobPhase.WAITING,
        "no node can hold one pod",
    )
    job = make("large", nodes=40, resources={"cpu": "99"})
    eventually(namespace, job, JobPhase.WAITING, "no node can hold one pod")
    asked = []
    for name, pods in (("small", 1), ("large", 40)):
        cluster = Counting(namespace.name)
        assert len(observe(cluster, name).pods) == pods
        asked.append(cluster.asked)
    assert [len(paths) for paths in asked] == [6, 6]
    namespace.kubectl("delete", "job", "large")


def test_without_a_right_to_list_nodes_the_schedulers_words_are_left(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make("blind", resources={"nvidia.com/gpu": "99"})
    eventually(namespace, job, JobPhase.WAITING, "no node can hold one pod")
    namespace.kubectl("create", "serviceaccount", "reader")
    resources = "jobs,pods,events,resourcequotas,persistentvolumeclaims"
    namespace.kubectl("create", "role", "reader", "--verb=get,list", f"--resource={resources}")
    subject = f"--serviceaccount={namespace.name}:reader"
    namespace.kubectl("create", "rolebinding", "reader", "--role=reader", subject)
    config = json.loads(
        namespace.kubectl(*["config", "view", "--minify", "--raw", "--output=json"])
    )
    token = namespace.kubectl("create", "token", "reader").strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    cluster = Cluster(None, namespace.name)

    assert set(observe(cluster, "blind").unknown) == {"nodes"}
    why = ask(cluster, "blind")
    assert "nodes without 99 nvidia.com/gpu free" in why.reason
    assert "targets.gpu.resources" in why.fix
