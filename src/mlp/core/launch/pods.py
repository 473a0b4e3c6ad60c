"""What every pod of ours has in common: no rights, the target's place and Secrets."""

from typing import Any

from mlp.core.launch import job_spec as jobs
from mlp.core.launch.targets_section import KubernetesTarget

Manifest = dict[str, Any]

_USER = 1000
# Every container's, as pod security "restricted" wants it.
CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


def unprivileged(target: KubernetesTarget, grace: int) -> Manifest:
    """A pod without containers and volumes: no API token, a user without rights, placed as the
    target says. It has `grace` seconds from SIGTERM on."""
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        # The group lets the user write to mounted volumes.
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    optional = {
        "nodeSelector": dict(target.node_selector),
        "affinity": dict(target.affinity),
        "tolerations": [dict(each) for each in target.tolerations],
        "priorityClassName": target.priority_class,
        "imagePullSecrets": [{"name": name} for name in target.image_pull_secrets],
    }
    return pod | {key: value for key, value in optional.items() if value}


def variables(target: KubernetesTarget, ours: dict[str, str]) -> list[Manifest]:
    """`ours` as environment of a container, with the target's over it."""
    values = {**ours, "HOME": jobs.POD_ROOT, **target.env}
    return [{"name": key, "value": value} for key, value in values.items()]


def volumes(target: KubernetesTarget) -> list[Manifest]:
    """An empty directory to work in, and the Secrets that are files. A volume's name may have no
    dot, which a Secret's may."""
    return [
        {"name": "mlp", "emptyDir": {}},
        *(
            {"name": f"secret-{i}", "secret": {"secretName": secret, "defaultMode": 0o440}}
            for i, secret in enumerate(sorted(target.secret_files))
        ),
    ]


def mounts(target: KubernetesTarget) -> list[Manifest]:
    """Where a container has these volumes."""
    return [
        {"name": "mlp", "mountPath": jobs.POD_ROOT},
        *(
            {"name": f"secret-{i}", "mountPath": path, "readOnly": True}
            for i, (_, path) in enumerate(sorted(target.secret_files.items()))
        ),
    ]
