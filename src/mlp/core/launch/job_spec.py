"""One stage as a job of a cluster: frozen data that is printed, hashed, and sent to the pods."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from mlp.core.launch.launch import Launch

MANAGED_BY = "mlp"

# Labels of everything that mlp makes in a cluster; the values are DNS-safe.
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_PROJECT = "mlp/project"
LABEL_STAGE = "mlp/stage"
LABEL_RUN = "mlp/run"
# Kueue's, of a job that is in a queue.
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
# Kubernetes' own, of the pods of a job.
JOB_LABEL = "batch.kubernetes.io/job-name"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
# Annotation of a pod: how many pods of the same index have failed before it.
FAILURES_ANNOTATION = "batch.kubernetes.io/job-index-failure-count"
# Annotation of the Job: the JobSpec as JSON, so that any clone can come back to it.
ANNOTATION_SPEC = "mlp/spec"
# Annotation of the Job: who submitted it, and from where.
ANNOTATION_USER = "mlp/user"

# What the worker's container ends with. Another code than these means that something killed it.
EXIT_FAILED = 76  # the code failed, for good: what with is in the termination message
EXIT_LOST = 75  # the gang was lost (another node went away): try again

# Where things are in a pod.
POD_ROOT = "/mlp"  # an empty directory that init and main container share
POD_CODE = f"{POD_ROOT}/code"  # the bundle, unpacked; the pipeline's data beside it
POD_RUNS = f"{POD_ROOT}/.mlp/runs"  # as `.mlp/runs` in a project
POD_CHECKPOINTS = "/checkpoints"  # the mounted claim, where checkpoints lie on one
MAIN_CONTAINER = "stage"
INIT_CONTAINER = "prepare"
RENDEZVOUS_PORT = 29400
FINISH_PORT = 29401
# What a job leaves behind, in its folder of the DVC remote.
RESULT = "result.json"  # of one that succeeded: its outputs
FAILED = "failed.json"  # of one that failed for good: how
FILES = "files.tar.gz"  # outputs that DVC does not keep
CHECKPOINTS = "checkpoints"
RECORD = "record"  # what the tracking server has not got

# The variable that holds the JobSpec in the pods.
SPEC_VARIABLE = "MLP_JOB"
UID_VARIABLE = "MLP_JOB_UID"

_NAME_LENGTH = 40  # of the 63 that a pod's host name may have, with "-INDEX" and Kueue's own


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One stage to be launched as a gang of processes.

    Node n of the launch is the pod with that completion index. No secret is in it: it is readable
    by whoever may read the Job.
    """

    name: str
    project: str
    stage: str
    commands: Sequence[str]
    workdir: str
    """Where the commands run, from the bundle's root."""
    root: str
    """The DVC project, from the bundle's root."""
    launch: Launch
    inputs: Sequence[str]
    """What DVC has of the stage's dependencies, by path from the DVC project's root."""
    bundle: str
    """SHA-256 of the code bundle, hexadecimal."""
    image: str
    run_id: str
    experiment: str
    remote: Mapping[str, str]
    """Settings of the DVC remote, nothing secret among them."""
    states: Mapping[str, str] = field(default_factory=dict)
    """A digest of each input's content and of the params, for whoever attaches to compare with."""
    rendezvous_timeout: int = 600
    storage_patience: int = 600
    """How long a pod tries again where the DVC remote does not answer, in seconds."""
    checkpoints: str | None = None
    """Below what checkpoints lie: a directory of the pods or an s3:// address; None: in the pod."""
    tracking_uri: str | None = None
    show_all_ranks: bool = False

    def folder(self, uid: str) -> str:
        """Where the Job with this uid leaves things behind, from the top of the DVC remote.

        By uid: a later Job of the same name is to find nothing of an earlier one.
        """
        return f"mlp/jobs/{self.name}/{uid}"

    def to_json(self) -> str:
        """One line that `from_json` reads back."""
        values = {**asdict(self), "launch": self.launch.to_dict()}
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "JobSpec":
        """The spec that `to_json` wrote. Raises ValueError or TypeError for anything else."""
        data = json.loads(text)
        for name in ("commands", "inputs"):
            data[name] = tuple(data[name])
        data["launch"] = Launch.from_dict(data["launch"])
        return cls(**data)


def state(value: object) -> str:
    """A digest of the content of an input, or of params: short, for there may be many of them."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def pods_of(job: str, node: int | None = None) -> str:
    """The label selector of a job's pods, or of those that were one node of it."""
    selector = f"{JOB_LABEL}={job}"
    return selector if node is None else f"{selector},{INDEX_LABEL}={node}"


def bundle_path(digest: str) -> str:
    """Where a code bundle is, from the top of the DVC remote."""
    return f"mlp/bundles/{digest}.tar.gz"


def job_name(project: str, stage: str, identity: Mapping[str, object]) -> str:
    """The Job's name: the same for the same work, so that nothing is submitted twice.

    `identity` is all that decides what comes out: bundle, command, inputs, launch, image.
    """
    text = json.dumps(identity, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{dns(f'{project}-{stage}')[: _NAME_LENGTH - 11].strip('-')}-{digest}"


def dns(text: str) -> str:
    """`text` as a DNS label may have it: lower case, digits and dashes, letters first."""
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return label if label[:1].isalpha() else f"s-{label}".strip("-")


def label(text: str) -> str:
    """`text` as a label's value may have it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:63].strip("._-")
