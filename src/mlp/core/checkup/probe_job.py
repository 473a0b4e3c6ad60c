"""A small Job that looks around inside of a cluster, and what it is asked and answers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlp.core.launch import job_spec as jobs
from mlp.core.launch import pods
from mlp.core.launch.targets_section import KubernetesTarget

# The variable of the pod that holds the Question.
VARIABLE = "MLP_PROBE"
CONTAINER = jobs.MAIN_CONTAINER  # by which why the Job waits is explained as of a stage's
LABEL = "mlp/probe"
LIMIT_S = 60
# Its end is later than that: who asks looks at the pod first.
_DEADLINE_S = 90

# Importing DVC and a library for S3 takes about 200 MB.
_RESOURCES = {"cpu": "250m", "memory": "512Mi"}
_MARK = "mlp probe: "


@dataclass(frozen=True, slots=True)
class ProbeQuestion:
    """What the pod is to find out. `remote` are the settings of the DVC remote, none of them
    secret; `folder` is a name of our own below it, to write to."""

    tracking_uri: str | None
    remote: Mapping[str, str] | None
    folder: str

    def to_json(self) -> str:
        """One line that `from_json` reads back."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ProbeQuestion":
        """The question that `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What the pod found. `tracking` and `remote` are "" where they work, what is wrong where not,
    None where they were not asked. `time` is the pod's clock, in seconds since the epoch."""

    time: float
    user: int
    python: str
    mlp: str
    tracking: str | None
    remote: str | None

    def to_line(self) -> str:
        """One line that `in_log` finds."""
        return _MARK + json.dumps(asdict(self))


def in_log(text: str) -> ProbeAnswer | None:
    """The answer in the pod's log, None where there is none."""
    for line in reversed(text.splitlines()):
        if line.startswith(_MARK):
            try:
                return ProbeAnswer(**json.loads(line.removeprefix(_MARK)))
            except (ValueError, TypeError):
                return None
    return None


def job(name: str, target: KubernetesTarget, image: str, question: ProbeQuestion) -> dict[str, Any]:
    """The Job, whose pod is placed and configured as a stage's, without GPUs and volumes.

    It ends by itself, is gone some time after whatever happens to us, and is accepted where
    pod security is "restricted".
    """
    labels = {
        **target.labels,
        jobs.LABEL_MANAGED_BY: jobs.MANAGED_BY,
        LABEL: "true",
        **({jobs.QUEUE_LABEL: target.queue} if target.queue else {}),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": target.namespace,
            "labels": labels,
            "annotations": dict(target.annotations),
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": _DEADLINE_S,
            "ttlSecondsAfterFinished": LIMIT_S,
            **({"suspend": True} if target.queue else {}),
            "template": {
                "metadata": {"labels": labels, "annotations": dict(target.annotations)},
                "spec": _pod(target, image, question),
            },
        },
    }


def _pod(target: KubernetesTarget, image: str, question: ProbeQuestion) -> dict[str, Any]:
    container = {
        "name": CONTAINER,
        "image": image,
        "command": ["python", "-m", "mlp.runtime.checkup.target_probe"],
        "workingDir": jobs.POD_ROOT,
        "env": pods.variables(target, {VARIABLE: question.to_json()}),
        "envFrom": [{"secretRef": {"name": secret}} for secret in target.secrets],
        "resources": {"requests": _RESOURCES, "limits": _RESOURCES},
        "volumeMounts": pods.mounts(target),
        "securityContext": pods.CONTAINER_SECURITY,
    }
    return {
        **pods.unprivileged(target, grace=1),
        "containers": [container],
        "volumes": pods.volumes(target),
    }
