import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlp.core.launch import job_spec as jobs
from mlp.core.launch import manifests
from mlp.core.launch.job_spec import JobSpec
from mlp.core.launch.launch import Launch
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.runs import environment

SPEC = JobSpec(
    name="demo-train-0123456789",
    project="demo",
    stage="train",
    commands=("python train.py",),
    workdir=".",
    root=".",
    launch=Launch("gpu", "ddp", nodes=2, max_restarts=3),
    inputs=("data.csv",),
    bundle="0" * 64,
    image="r.example/env:1",
    run_id="0" * 32,
    experiment="demo",
    remote={"name": "storage", "url": "s3://bucket/path"},
)
# Everything that a target can ask for; the tests on a cluster send it to a real API server.
ALL: dict[str, Any] = {
    "kind": "kubernetes",
    "namespace": "ml",
    "image": "r.example/env:1",
    "resources": {"gpu": 2, "cpu": "500m", "memory": "1Gi", "shm": "256Mi"},
    "secrets": ["s3", "more"],
    "secret_files": {"ssh-key": "/home/key"},
    "image_pull_secrets": ["registry"],
    "env": {"NCCL_DEBUG": "INFO"},
    "volumes": [
        {"claim": "data", "path": "/data", "read_only": True},
        {"claim": "scratch", "path": "/scratch"},
    ],
    "checkpoints": "scratch",
    "queue": "team",
    "priority_class": "system-node-critical",
    "node_selector": {"nvidia.com/gpu.product": "A100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                ]
            }
        }
    },
    "labels": {"team": "vision"},
    "annotations": {"contact": "me@example.com"},
    "ttl": "1h",
    "grace": "90s",
    "node_lost_after": "30s",
    "patch": {
        "metadata": {"labels": {"patched": "yes"}},
        "spec": {"activeDeadlineSeconds": 3600, "template": {"spec": {"hostUsers": False}}},
    },
}


def job(**settings: Any) -> Any:
    target = {"kind": "kubernetes", "image": "r.example/env:1", **settings}
    return manifests.job(SPEC, KubernetesTarget.model_validate(target), "me@here")


def pod(**settings: Any) -> Any:
    return job(**settings)["spec"]["template"]["spec"]


def containers(**settings: Any) -> list[Any]:
    spec = pod(**settings)
    return [*spec["initContainers"], *spec["containers"]]


def test_a_node_of_the_gang_is_an_index_of_the_job() -> None:
    spec = job()["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (3, 0)
    assert "podFailurePolicy" not in spec
    assert pod()["restartPolicy"] == "Never"


def test_who_made_it_and_from_what_is_in_it() -> None:
    metadata = job()["metadata"]
    assert JobSpec.from_json(metadata["annotations"][jobs.ANNOTATION_SPEC]) == SPEC
    assert metadata["annotations"][jobs.ANNOTATION_USER] == "me@here"
    assert metadata["labels"] == job()["spec"]["template"]["metadata"]["labels"]
    assert metadata["labels"] == {
        "app.kubernetes.io/managed-by": "mlp",
        "mlp/project": "demo",
        "mlp/stage": "train",
        "mlp/run": SPEC.run_id,
    }


def test_a_pod_can_do_nothing_but_its_work() -> None:
    spec = pod()
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


def test_secrets_are_there_by_name_only() -> None:
    settings = {"secrets": ["s3"], "secret_files": {"ssh-key": "/key"}}
    for container in containers(**settings):
        assert {"secretRef": {"name": "s3"}} in container["envFrom"]
        [mount] = [m for m in container["volumeMounts"] if m["mountPath"] == "/key"]
        assert mount["readOnly"] is True
        [volume] = [v for v in pod(**settings)["volumes"] if v["name"] == mount["name"]]
        assert volume["secret"] == {"secretName": "ssh-key", "defaultMode": 0o440}
    assert pod(image_pull_secrets=["r"])["imagePullSecrets"] == [{"name": "r"}]


def test_what_comes_from_a_secret_is_known_as_secret_in_the_pod() -> None:
    """Its name alone may not say so: DATABASE, LICENSE."""
    from mlp.core.secrets import is_secret_name

    [source] = [s for s in containers(secrets=["s3"])[1]["envFrom"] if "prefix" in s]
    assert source["secretRef"] == {"name": "s3"}
    assert is_secret_name(f"{source['prefix']}DATABASE")


def test_a_queue_lets_the_job_in() -> None:
    queued = job(queue="team")
    label = "kueue.x-k8s.io/queue-name"
    assert queued["spec"]["suspend"] is True
    assert queued["metadata"]["labels"][label] == "team"
    assert "suspend" not in job()["spec"]
    target = KubernetesTarget.model_validate(ALL)
    assert label not in manifests.service(SPEC, target)["metadata"]["labels"]


def test_a_service_is_found_by_the_ranks_and_goes_with_the_job() -> None:
    service = manifests.service(SPEC, KubernetesTarget.model_validate(ALL), "the-uid")
    assert service["metadata"]["name"] == SPEC.name == pod()["subdomain"]
    [owner] = service["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", SPEC.name, "the-uid")
    assert owner["controller"] is True
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": SPEC.name}


def test_what_the_pods_ask_for() -> None:
    asked = {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "2"}
    for container in containers(resources=ALL["resources"]):
        assert container["resources"] == {"requests": asked, "limits": asked}
    [shm] = [v for v in pod(resources=ALL["resources"])["volumes"] if v["name"] == "shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "256Mi"}
    assert containers()[0]["resources"] == {}
    amd = {"gpu": 1, "gpu_resource": "amd.com/gpu"}
    assert containers(resources=amd)[0]["resources"]["limits"] == {"amd.com/gpu": "1"}


def test_where_the_pods_may_run() -> None:
    names = ("node_selector", "tolerations", "affinity", "priority_class")
    spec = pod(**{name: ALL[name] for name in names}, node_lost_after="30s")
    assert spec["nodeSelector"] == ALL["node_selector"]
    assert spec["affinity"] == ALL["affinity"]
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["tolerations"][0] == ALL["tolerations"][0]
    lost = {(t["key"], t["tolerationSeconds"]) for t in spec["tolerations"][1:]}
    taints = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
    assert lost == {(taint, 30) for taint in taints}


def test_a_claim_is_mounted_once_for_each_place() -> None:
    spec = pod(volumes=ALL["volumes"], checkpoints="scratch")
    claims = [v for v in spec["volumes"] if "persistentVolumeClaim" in v]
    volume = {v["persistentVolumeClaim"]["claimName"]: v["name"] for v in claims}
    assert (sorted(volume), len(claims)) == (["data", "scratch"], 2)
    mounts = spec["containers"][0]["volumeMounts"]
    places = {m["mountPath"]: m["name"] for m in mounts}
    assert places["/data"] == volume["data"]
    assert places["/scratch"] == places[jobs.POD_CHECKPOINTS] == volume["scratch"]
    assert [m["mountPath"] for m in mounts if m.get("readOnly")] == ["/data"]
    variables = {v["name"]: v.get("value") for v in spec["containers"][0]["env"]}
    assert environment.claim_at("/checkpoints/mlp/jobs", variables) == ("scratch", "/checkpoints")
    assert environment.claim_at("/data", variables) == ("data", "/data")
    assert environment.claim_at("/database", variables) is None
    s3 = pod(checkpoints="s3://bucket/path")
    assert not [v for v in s3["volumes"] if "persistentVolumeClaim" in v]


def test_a_name_with_a_dot_makes_no_volume_that_kubernetes_refuses() -> None:
    spec = pod(
        volumes=[{"claim": "my.data", "path": "/data"}, {"claim": "my-data", "path": "/more"}],
        secret_files={"a.b": "/a", "c" * 200: "/c"},
    )
    names = [volume["name"] for volume in spec["volumes"]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]{1,63}", name) for name in names)


def test_own_labels_and_annotations_are_added_and_ours_are_kept() -> None:
    made = job(labels={"team": "vision", "mlp/run": "x"}, annotations={"mlp/spec": "x", "a": "b"})
    assert made["metadata"]["labels"]["team"] == "vision"
    assert made["metadata"]["labels"]["mlp/run"] == SPEC.run_id
    assert made["metadata"]["annotations"]["a"] == "b"
    assert made["metadata"]["annotations"]["mlp/spec"] == SPEC.to_json()
    assert made["spec"]["template"]["metadata"]["annotations"]["a"] == "b"


def test_a_patch_has_the_last_word() -> None:
    patch = {"spec": {"backoffLimitPerIndex": 7, "ttlSecondsAfterFinished": None}}
    made = job(patch=patch)["spec"]
    assert made["backoffLimitPerIndex"] == 7
    assert "ttlSecondsAfterFinished" not in made
    assert made["completionMode"] == "Indexed"


# The examples of RFC 7386, appendix A, whose two sides are objects.
RFC_7386 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("base", "patch", "merged"), RFC_7386)
def test_a_merge_patch_is_that_of_the_rfc(base: Any, patch: Any, merged: Any) -> None:
    assert manifests.merge_patch(base, patch) == merged


KEYS = st.sampled_from(["a", "b", "c"])
SCALARS = st.none() | st.integers() | st.text(max_size=3)
OBJECTS = st.dictionaries(
    KEYS, st.recursive(SCALARS, lambda inner: st.dictionaries(KEYS, inner)), max_size=3
)


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_laid_over_twice_changes_nothing_more(base: Any, patch: Any) -> None:
    before = json.dumps(base)
    once = manifests.merge_patch(base, patch)
    assert manifests.merge_patch(once, patch) == once
    assert json.dumps(base) == before, "the base stays as it is"
    assert manifests.merge_patch(base, {}) == base


def test_the_printed_yaml_is_the_manifests() -> None:
    made = manifests.manifests(SPEC, KubernetesTarget.model_validate(ALL))
    text = manifests.as_yaml(made, ["two nodes", ""])
    assert text.startswith("# two nodes\n#\n---\n")
    assert "&id" not in text, "no aliases"
    assert list(yaml.safe_load_all(text)) == json.loads(json.dumps(made))
