"""The section `deploy` of mlp.yaml, and the values of the chart that follow from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mlp.core.errors import ConfigurationError
from mlp.core.launch.job_spec import LABEL_PROJECT, label
from mlp.core.launch.manifests import merge_patch
from mlp.core.launch.targets_section import DnsName, KubernetesTarget, Quantity
from mlp.core.quantities import amount
from mlp.core.section import Section
from mlp.core.serving.serve_section import Serve

STATE_VARIABLE = "MLP_STATE"
# In a pod: where the chart mounts `deploy.journal`, and what is served under it.
_LOG = "/var/lib/mlp/predictions"
_PORT = 8080
_SERVERS = ("http://", "https://", "postgresql", "mysql")

ReleaseName = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=53)]


class Autoscale(Section):
    """How many pods there are, by what they use of the CPU that they ask for."""

    min: Annotated[int, Field(ge=1)] = 2
    max: Annotated[int, Field(ge=1)] = 10
    cpu: Annotated[int, Field(ge=1)] = 70  # percent

    @model_validator(mode="after")
    def _ordered(self) -> "Autoscale":
        if self.min > self.max:
            raise ValueError("min should be at most max")
        return self


class ServerResources(Section):
    """What a pod asks for; its CPU has no limit."""

    cpu: Quantity = "500m"
    memory: Quantity = "1Gi"
    memory_limit: Quantity | None = None  # memory + serve.challenger_memory unless given


class Deploy(Section):
    """How the model is served on a target."""

    release: ReleaseName | None = None  # Helm's name of it; the model's unless given
    replicas: Annotated[int, Field(ge=1)] = 2
    autoscale: Autoscale | None = None
    resources: ServerResources = ServerResources()
    service: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    port: Annotated[int, Field(ge=1, le=65535)] = 80
    node_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    # The Secret with the address of the state database as the pods see it, under MLP_STATE.
    state_secret: DnsName | None = None
    token_secret: DnsName | None = None  # with the token of serve.token_env, under that name
    journal: DnsName | None = None  # a volume claim that all nodes can mount
    # Laid over the chart's values, as a JSON merge patch (RFC 7386).
    values: Mapping[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WantedRelease:
    """All that the values follow from."""

    project: str
    model: str
    image: str
    tracking_uri: str
    target_name: str
    target: KubernetesTarget
    serve: Serve
    deploy: Deploy


def release_name(deploy: Deploy, model: str) -> str:
    """Helm's name of the deployment: given, or the model's in the letters that names may have.

    Raises ConfigurationError for a model whose name has none.
    """
    if deploy.release is not None:
        return deploy.release
    letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in model.lower())
    name = letters.lstrip("-0123456789")[:53].strip("-")
    if not name:
        raise ConfigurationError(
            f"the model's name {model!r} makes no name of a release",
            fix="add to mlp.yaml:  deploy: {release: NAME}",
        )
    return name


def values(wanted: WantedRelease) -> dict[str, Any]:
    """The chart's values. Raises ConfigurationError for what cannot work in a cluster."""
    target, deploy = wanted.target, wanted.deploy
    spec = {
        "model": wanted.model,
        "tracking_uri": _reachable(wanted),
        "serve": _serve(wanted).model_dump(mode="json", exclude={"host"}),
        "labels": {},
    }
    made = {
        "image": wanted.image,
        "imagePullSecrets": list(target.image_pull_secrets),
        "labels": {**target.labels, LABEL_PROJECT: label(wanted.project)},
        "annotations": dict(target.annotations),
        "server": {
            "replicas": deploy.replicas,
            "autoscale": deploy.autoscale and deploy.autoscale.model_dump(),
            "spec": spec,
            "state": _state(wanted),
            "token": _token(wanted),
            "env": dict(target.env),
            "secrets": list(target.secrets),
            "secretFiles": dict(target.secret_files),
            "service": {
                "type": deploy.service,
                "port": deploy.port,
                "nodePort": deploy.node_port,
            },
            "journal": {"claim": deploy.journal or ""},
            "resources": _resources(wanted),
            "priorityClass": target.priority_class or "",
            "nodeSelector": dict(target.node_selector),
            "tolerations": [dict(each) for each in target.tolerations],
            "affinity": dict(target.affinity),
        },
    }
    return merge_patch(made, deploy.values)


def _serve(wanted: WantedRelease) -> Serve:
    serve = wanted.serve.model_copy(update={"port": _PORT})
    if serve.log is None or "://" in serve.log:
        return serve
    if wanted.deploy.journal is not None:
        place = serve.log if serve.log.startswith("/var/lib/mlp/") else _LOG
        return serve.model_copy(update={"log": place})
    raise ConfigurationError(
        f"predictions would be lost with each pod: serve.log is the folder {serve.log!r}",
        fix="serve: {log: s3://BUCKET/PATH} in mlp.yaml (under envs.NAME for one environment);"
        " or deploy: {journal: CLAIM}, a volume claim that all nodes can mount; or log: null",
    )


def _reachable(wanted: WantedRelease) -> str:
    uri = wanted.target.tracking_uri or wanted.tracking_uri
    if not uri.startswith(_SERVERS):
        raise ConfigurationError(
            f"pods cannot reach MLflow at {uri}",
            fix=f"targets: {{{wanted.target_name}: {{tracking_uri: http://HOST:5000}}}} in"
            " mlp.yaml: the server that the project's tracking.uri names, as pods see it",
        )
    return uri


def _state(wanted: WantedRelease) -> dict[str, str]:
    if wanted.deploy.state_secret is not None:
        return {"secret": wanted.deploy.state_secret, "key": STATE_VARIABLE}
    if wanted.target.secrets:  # it is in one of them; nobody but the pods may look
        return {"secret": "", "key": STATE_VARIABLE}
    name = f"{release_name(wanted.deploy, wanted.model)}-state"
    raise ConfigurationError(
        "the pods do not know the state database: mlp.yaml names no Secret with its address",
        fix=f"kubectl --namespace {wanted.target.namespace} create secret generic {name}"
        f" --from-literal={STATE_VARIABLE}=postgresql://…  and in mlp.yaml "
        f" deploy: {{state_secret: {name}}}",
    )


def _token(wanted: WantedRelease) -> dict[str, str]:
    secret, variable = wanted.deploy.token_secret, wanted.serve.token_env
    if secret is None:
        return {"secret": "", "key": variable or "token"}
    if variable is None:
        raise ConfigurationError(
            "deploy.token_secret has a token, and serve.token_env does not say in which variable",
            fix="serve: {token_env: MLP_TOKEN} in mlp.yaml",
        )
    return {"secret": secret, "key": variable}


def _resources(wanted: WantedRelease) -> dict[str, Any]:
    asked = wanted.deploy.resources
    both = math.ceil((amount(asked.memory) + amount(wanted.serve.challenger_memory)) / 2**20)
    limit = asked.memory_limit or f"{both}Mi"
    return {"requests": {"cpu": asked.cpu, "memory": asked.memory}, "limits": {"memory": limit}}
