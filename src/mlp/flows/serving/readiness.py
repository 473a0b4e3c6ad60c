"""Where a model is to be served, and what has to be right before it can be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlp.adapters import cluster, images
from mlp.adapters.cluster import Cluster, ForbiddenError, NotFoundError
from mlp.adapters.helm import Helm
from mlp.core.errors import ConfigurationError
from mlp.core.launch import image
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.models.ledger import CHALLENGER, CHAMPION
from mlp.core.secrets import Masker
from mlp.core.serving import deploy_section
from mlp.flows.project import Project


@dataclass(frozen=True, slots=True)
class ServingPlace:
    """Where a release is: the target, and the tools there."""

    name: str
    target: KubernetesTarget
    release: str
    helm: Helm
    cluster: Cluster


def place(project: Project, target_name: str | None, release: str | None = None) -> ServingPlace:
    """The place of the project's release on a target, the only one unless it is named.

    Raises UsageError for a target that mlp.yaml does not have, or several and none named.
    """
    target_name = target_name or project.only_target()
    target = project.target(target_name)
    name = release or deploy_section.release_name(project.config.deploy, project.model.name)
    helm = Helm(target.context, target.namespace)
    return ServingPlace(target_name, target, name, helm, Cluster(target.context, target.namespace))


def served(model: str, aliases: Mapping[str, str], canary: float | None) -> tuple[str, str | None]:
    """The champion and the challenger; ConfigurationError where one is needed and not there."""
    champion, challenger = aliases.get(CHAMPION), aliases.get(CHALLENGER)
    if champion is None:
        raise ConfigurationError(
            f"model {model!r} has no champion: there is nothing to serve",
            fix=f"mlp models list shows its versions; mlp models promote VERSION --to {CHAMPION}",
        )
    if canary is not None and challenger in (None, champion):
        raise ConfigurationError(
            f"model {model!r} has no challenger that could be given a share",
            fix="mlp models promote VERSION --to challenger",
        )
    return champion, challenger


def require_shared_state(project: Project) -> None:
    """Raise where the ledger is one that the pods could not read."""
    if project.state.startswith("sqlite:"):
        raise ConfigurationError(
            "the ledger of models is a file of this machine: pods would not learn of a promotion,"
            " a rollback or a share",
            fix="state: postgresql://HOST/DATABASE in mlp.yaml (under envs.NAME), or MLP_STATE;"
            " the pods get theirs from the Secret deploy.state_secret",
        )


def require_no_secret(values: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Raise ConfigurationError, with the place, where a value of the chart is or has a secret."""
    masker = Masker(environ)
    for path, text in _leaves(values, ""):
        if masker.text(text) != text:
            raise ConfigurationError(
                f"{path} would put a secret into a ConfigMap or the release, where anybody who may"
                " look into the namespace reads it",
                fix="put it into a Secret: kubectl create secret generic NAME"
                " --from-literal=VARIABLE=VALUE, and name that under targets.NAME.secrets in"
                " mlp.yaml (for MLflow: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD)",
            )


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{i}]")
    elif isinstance(value, str):
        yield path, value


def require_place(at: ServingPlace) -> None:
    """Raise where the namespace is not there, or we may not do there what is to be done."""
    name = at.target.namespace
    try:
        cluster.require_namespace(at.cluster)
    except NotFoundError as e:
        raise ConfigurationError(
            f"the cluster has no namespace {name!r}",
            fix=f"kubectl create namespace {name}, or correct targets.{at.name}.namespace in"
            " mlp.yaml",
        ) from e
    except ForbiddenError:
        pass  # most people may not look: what is missing shows below
    missing = cluster.missing(at.cluster, cluster.DEPLOYING)
    if missing:
        raise ConfigurationError(
            f"you may not do all that deploying needs in {name}:"
            f" {', '.join(str(right) for right in missing)}",
            fix="ask whoever runs the cluster for the Role in docs/role-deploy.yaml",
        )
    for secret in (at.target.secrets, at.target.secret_files):
        for each in secret:
            _require_secret(at, each)


def _require_secret(at: ServingPlace, name: str) -> None:
    try:
        cluster.require_secret(at.cluster, name)
    except NotFoundError as e:
        raise ConfigurationError(
            f"there is no Secret {name!r} in namespace {at.target.namespace}",
            fix=f"kubectl create secret generic {name} --namespace {at.target.namespace}"
            " --from-literal=KEY=VALUE",
        ) from e
    except ForbiddenError:
        pass  # who may not look is told by the pod that waits for it


def require_image(wanted: deploy_section.WantedRelease) -> None:
    """Raise where the registry says that it does not have the image."""
    flags = wanted.target.build.push_flags
    if images.published(wanted.image, image.reference(wanted.image), flags) is False:
        built = not image.reference(wanted.target.image).fixed
        name = wanted.target_name
        raise ConfigurationError(
            f"the registry does not have {wanted.image}",
            fix=f"mlp build {name}" if built else f"push it, or correct targets.{name}.image",
        )
