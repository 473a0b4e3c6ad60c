"""A JobSpec as Kubernetes objects: pure functions from data to dictionaries.

https://kubernetes.io/docs/concepts/workloads/controllers/job/ (Indexed Job, backoffLimitPerIndex)
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlp.core.launch import job_spec as jobs
from mlp.core.launch import pods
from mlp.core.launch.job_spec import JobSpec, label
from mlp.core.launch.pods import Manifest
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.runs import environment

# What the worker needs of the grace period for itself.
_LAST_S = 5
_SECRET_PREFIX = "MLP_SECRET_"
_GONE_NODE_TAINTS = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")


def job(spec: JobSpec, target: KubernetesTarget, user: str = "") -> Manifest:
    """An Indexed Job whose pod i is node i of the gang.

    No podFailurePolicy: with one, a pod on a node that is lost would be replaced only when that
    node is back. The worker says by its exit code what is final.
    """
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": spec.name,
            "namespace": target.namespace,
            "labels": labels(spec, target),
            "annotations": {
                **target.annotations,
                jobs.ANNOTATION_SPEC: spec.to_json(),
                jobs.ANNOTATION_USER: user,
            },
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": spec.launch.nodes,
            "parallelism": spec.launch.nodes,
            "backoffLimitPerIndex": spec.launch.max_restarts,
            "maxFailedIndexes": 0,
            "ttlSecondsAfterFinished": target.ttl,
            **({"suspend": True} if target.queue else {}),
            "template": {
                "metadata": {
                    "labels": labels(spec, target),
                    "annotations": dict(target.annotations),
                },
                "spec": _pod(spec, target),
            },
        },
    }
    return merge_patch(manifest, target.patch)


def service(spec: JobSpec, target: KubernetesTarget, job_uid: str | None = None) -> Manifest:
    """The headless Service that gives each pod the name NAME-INDEX.NAME; the Job owns it."""
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": spec.name,
        "uid": job_uid,
        "controller": True,
        "blockOwnerDeletion": False,  # true needs the right to change the Job's finalizers
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": spec.name,
            "namespace": target.namespace,
            "labels": {k: v for k, v in labels(spec, target).items() if k != jobs.QUEUE_LABEL},
            **({"ownerReferences": [owner]} if job_uid else {}),
        },
        "spec": {
            "clusterIP": "None",
            "selector": {jobs.JOB_LABEL: spec.name},
            # The ranks meet before any of them is ready.
            "publishNotReadyAddresses": True,
            "ports": [{"name": "rendezvous", "port": jobs.RENDEZVOUS_PORT}],
        },
    }


def manifests(spec: JobSpec, target: KubernetesTarget, user: str = "") -> list[Manifest]:
    """All that is made for a job, in the order in which it is made."""
    made = [job(spec, target, user)]
    return [*made, service(spec, target)] if spec.launch.nodes > 1 else made


def labels(spec: JobSpec, target: KubernetesTarget) -> dict[str, str]:
    """By these, what belongs to mlp, to a project, a stage and a run is found."""
    return {
        **target.labels,
        jobs.LABEL_MANAGED_BY: jobs.MANAGED_BY,
        jobs.LABEL_PROJECT: label(spec.project),
        jobs.LABEL_STAGE: label(spec.stage),
        jobs.LABEL_RUN: spec.run_id,
        **({jobs.QUEUE_LABEL: target.queue} if target.queue else {}),
    }


def merge_patch(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`patch` laid over `base` as RFC 7386 has it: null removes a key, lists are replaced."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            inner = merged.get(key)
            merged[key] = merge_patch(inner if isinstance(inner, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _pod(spec: JobSpec, target: KubernetesTarget) -> Manifest:
    pod = {
        **pods.unprivileged(target, target.grace),
        "initContainers": [
            _container(jobs.INIT_CONTAINER, "mlp.runtime.launch.prepare", spec, target)
        ],
        "containers": [
            _container(jobs.MAIN_CONTAINER, "mlp.runtime.launch.pod_worker", spec, target)
        ],
        "volumes": _volumes(target),
        "tolerations": [*_tolerations(target)],
    }
    return {**pod, "subdomain": spec.name} if spec.launch.nodes > 1 else pod


def _container(name: str, module: str, spec: JobSpec, target: KubernetesTarget) -> Manifest:
    variables = {
        jobs.SPEC_VARIABLE: spec.to_json(),
        # torchrun gives its ranks as long as the pod has, to save a checkpoint.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(max(1, target.grace - _LAST_S)),
    }
    if claims := _claims_by_path(target):
        variables[environment.VOLUMES] = json.dumps(claims)
    return {
        "name": name,
        "image": spec.image,
        "command": ["python", "-m", module],
        "workingDir": jobs.POD_ROOT,
        "env": [
            *pods.variables(target, variables),
            {"name": "MLP_NODE", "valueFrom": _field("spec.nodeName")},
            {"name": "MLP_POD", "valueFrom": _field("metadata.name")},
            {
                "name": jobs.UID_VARIABLE,
                "valueFrom": _field("metadata.labels['batch.kubernetes.io/controller-uid']"),
            },
        ],
        "envFrom": _secret_variables(target),
        "resources": _resources(target),
        "volumeMounts": _mounts(target),
        "securityContext": pods.CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _secret_variables(target: KubernetesTarget) -> list[Manifest]:
    """The target's Secrets as environment; and again under names that say so, by which what is in
    them is masked wherever it turns up."""
    return [
        source
        for secret in target.secrets
        for source in (
            {"secretRef": {"name": secret}},
            {"secretRef": {"name": secret}, "prefix": _SECRET_PREFIX},
        )
    ]


def _field(path: str) -> Manifest:
    return {"fieldRef": {"fieldPath": path}}


def _resources(target: KubernetesTarget) -> Manifest:
    """Requests equal limits. Init and main container ask for the same, which costs nothing: the
    scheduler takes the larger of the two."""
    asked = target.resources
    amounts = {"cpu": asked.cpu, "memory": asked.memory}
    if asked.gpu:
        amounts[asked.gpu_resource] = str(asked.gpu)
    found = {name: value for name, value in amounts.items() if value is not None}
    return {"requests": found, "limits": found} if found else {}


def _volumes(target: KubernetesTarget) -> list[Manifest]:
    shm: Manifest = {"medium": "Memory"}
    if target.resources.shm:
        shm["sizeLimit"] = target.resources.shm
    return [
        *pods.volumes(target),
        {"name": "shm", "emptyDir": shm},
        *(
            {"name": name, "persistentVolumeClaim": {"claimName": claim}}
            for claim, name in _claims(target).items()
        ),
    ]


def _claims(target: KubernetesTarget) -> dict[str, str]:
    """The claims that are mounted, with the volume of each: its name may have no dot."""
    claims = set(_claims_by_path(target).values())
    return {claim: f"claim-{i}" for i, claim in enumerate(sorted(claims))}


def _claims_by_path(target: KubernetesTarget) -> dict[str, str]:
    claims = {volume.path: volume.claim for volume in target.volumes}
    if target.checkpoints and "://" not in target.checkpoints:
        claims[jobs.POD_CHECKPOINTS] = target.checkpoints
    return claims


def _mounts(target: KubernetesTarget) -> list[Manifest]:
    mounts: list[Manifest] = [
        *pods.mounts(target),
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    claims = _claims(target)
    for volume in target.volumes:
        mounts.append(
            {
                "name": claims[volume.claim],
                "mountPath": volume.path,
                **({"readOnly": True} if volume.read_only else {}),
            }
        )
    if target.checkpoints and "://" not in target.checkpoints:
        mounts.append({"name": claims[target.checkpoints], "mountPath": jobs.POD_CHECKPOINTS})
    return mounts


def _tolerations(target: KubernetesTarget) -> list[Mapping[str, Any]]:
    """The target's, and that a node that is gone is given up sooner than after 300 s."""
    gone = [
        {
            "key": taint,
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": target.node_lost_after,
        }
        for taint in _GONE_NODE_TAINTS
    ]
    return [*target.tolerations, *gone]


def as_yaml(documents: Sequence[Mapping[str, Any]], remarks: Sequence[str]) -> str:
    """Manifests that `kubectl apply -f -` takes, under `remarks` as comments."""
    import yaml

    # Through JSON: YAML has aliases for what occurs twice, which nobody wants to read.
    plain = [json.loads(json.dumps(document)) for document in documents]
    text = yaml.safe_dump_all(plain, sort_keys=False, width=100)
    return "".join(f"# {remark}".rstrip() + "\n" for remark in remarks) + "---\n" + text
