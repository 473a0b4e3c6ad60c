"""The places under `targets` in mlp.yaml where stages can run: Kubernetes clusters."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from mlp.core.quantities import amount, seconds
from mlp.core.section import Section


def _quantity(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("it should be a quantity, such as 4, 500m or 64Gi")
    amount(value)
    return str(value)


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("it should be an absolute path")
    return path


def _checkpoint_place(place: str) -> str:
    if "://" in place and not place.startswith("s3://"):
        raise ValueError("it should be the name of a volume claim, or s3://BUCKET/PATH")
    return place


Quantity = Annotated[str, BeforeValidator(_quantity)]
Seconds = Annotated[int, BeforeValidator(seconds)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class Resources(Section):
    """What one pod, that is one node of the gang, asks for; limits equal requests."""

    gpu: Annotated[int, Field(ge=0)] = 0
    gpu_resource: str = "nvidia.com/gpu"
    cpu: Quantity | None = None
    memory: Quantity | None = None
    shm: Quantity | None = None  # of /dev/shm, in memory; data loaders use it


class Volume(Section):
    """A PersistentVolumeClaim of the namespace, seen by the pods at `path`."""

    claim: DnsName
    path: AbsolutePath
    read_only: bool = False


class Build(Section):
    """How `mlp build` makes the environment image."""

    base: str = "docker.io/library/python:3.11-slim"
    requirements: str = "requirements.txt"
    # Handed to the builder's build and push as they are.
    flags: Sequence[str] = ()
    push_flags: Sequence[str] = ()


class KubernetesTarget(Section):
    """A namespace of a cluster, and how pods are made there."""

    kind: Literal["kubernetes"]
    context: str | None = None  # of the kubeconfig; its current one unless given
    namespace: DnsName = "default"
    # With a tag or digest it is taken as it is; without one `mlp build` makes and tags it.
    image: Annotated[str, Field(min_length=1)]
    build: Build = Build()
    resources: Resources = Resources()
    tracking_uri: str | None = None  # of the tracking server as the pods see it
    secrets: Sequence[DnsName] = ()  # each key an environment variable
    secret_files: Mapping[DnsName, AbsolutePath] = Field(default_factory=dict)
    image_pull_secrets: Sequence[DnsName] = ()
    env: Mapping[str, str] = Field(default_factory=dict)
    volumes: Sequence[Volume] = ()
    # A volume claim that all nodes can mount, or s3://BUCKET/PATH; beside the data in the DVC
    # remote, if that is S3, unless given.
    checkpoints: Annotated[str, AfterValidator(_checkpoint_place)] | None = None
    queue: str | None = None  # Kueue's LocalQueue
    priority_class: str | None = None
    node_selector: Mapping[str, str] = Field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    affinity: Mapping[str, Any] = Field(default_factory=dict)
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)
    start_timeout: Seconds = 1800  # how long `mlp` waits for the pods to run
    rendezvous_timeout: Seconds = 600  # how long the first node waits for the last one
    storage_patience: Seconds = 600  # how long a DVC remote that does not answer is tried again
    grace: Seconds = 60  # between SIGTERM and SIGKILL: time to save a checkpoint
    node_lost_after: Seconds = 60  # a node that is not reachable for so long is given up
    ttl: Seconds = 86400  # how long a job that has ended stays in the cluster
    max_bundle: Quantity = "100Mi"
    # Laid over the Job's manifest, as a JSON merge patch (RFC 7386).
    patch: Mapping[str, Any] = Field(default_factory=dict)


def with_gpus(target: KubernetesTarget, gpus: int | None) -> KubernetesTarget:
    """The target for a stage that asks for `gpus` of each node; None: for what the target has."""
    if gpus is None:
        return target
    return target.model_copy(
        update={"resources": target.resources.model_copy(update={"gpu": gpus})}
    )
