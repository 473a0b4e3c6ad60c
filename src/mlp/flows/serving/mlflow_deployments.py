"""Deploying for `mlflow deployments … -t mlp`: the module that MLflow's entry point names."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlp.adapters.tracking import deployments_plugin, registry
from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.models.ledger import CHAMPION
from mlp.core.nearest import did_you_mean
from mlp.flows import project as projects
from mlp.flows.project import Project
from mlp.flows.serving import deploying, readiness
from mlp.flows.serving.readiness import ServingPlace

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_SETTINGS = ("target", "env", "canary", "wait")
_READY_S = 900.0
_HELP = """\
Deploys the model of the project (mlp.yaml) around the working directory with Helm, as `mlp deploy`.

  mlflow deployments create -t mlp -m models:/NAME@champion --name RELEASE -C target=prod

-t mlp           the only target of mlp.yaml, or the one of -C target=NAME
-t mlp:/NAME     target NAME
-m               models:/NAME@champion: the servers follow this alias, without a deployment
-C target=NAME   a key of `targets` in mlp.yaml
-C env=NAME      an environment of mlp.yaml
-C canary=10     percent of the keys that the challenger answers
-C wait=false    do not wait until the pods answer"""


def target_help() -> str:
    """What `mlflow deployments help -t mlp` shows."""
    return _HELP


def run_local(
    name: str,
    model_uri: str,
    flavor: str | None = None,
    config: Mapping[str, str] | None = None,
) -> None:
    """Serving on this machine is another command. Raises UsageError that names it."""
    raise UsageError("on this machine a model is served without a deployment", fix="mlp serve")


class _Deployments:  # the names are the protocol's
    """MLflow's verbs as calls of `flows/deploying`."""

    def create(
        self, target: str | None, name: str, uri: str, settings: Mapping[str, str]
    ) -> dict[str, Any]:
        project, place = _opened(target, name, settings)
        if place.helm.release(name) is not None:
            raise UsageError(
                f"deployment {name!r} is there already",
                fix="mlflow deployments update, or delete it first",
            )
        return _deploy(project, place, uri, settings)

    def update(
        self, target: str | None, name: str, uri: str | None, settings: Mapping[str, str]
    ) -> dict[str, Any]:
        project, place = _opened(target, name, settings)
        _existing(place)
        return _deploy(project, place, uri, settings)

    def delete(self, target: str | None, name: str, settings: Mapping[str, str]) -> None:
        project, place = _opened(target, name, settings)
        deploying.remove(project, place.name, name)

    def list(self, target: str | None) -> Sequence[Mapping[str, Any]]:
        _, place = _opened(target, None, {})
        return [
            {"name": each["name"], "status": each["status"], "revision": each["revision"]}
            for each in place.helm.releases()
            if str(each["chart"]).startswith("mlp-")
        ]

    def get(self, target: str | None, name: str) -> dict[str, Any]:
        project, place = _opened(target, name, {})
        _existing(place)
        found = deploying.status(project, place.name, name)
        pods = found.replicas
        return {
            "name": name,
            "namespace": found.namespace,
            "status": found.release.status if found.release else None,
            "model": found.model,
            "champion": found.traffic.champion,
            "challenger": found.traffic.challenger,
            "share": found.traffic.share,
            "ready": f"{pods.ready} of {pods.wanted}" if pods else "no pods",
        }

    def predict(
        self, target: str | None, name: str, request: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        _, place = _opened(target, name, {})
        path = place.cluster.path("services", f"{name}:http") + "/proxy/invocations"
        return place.cluster.create(path, request)


def _opened(
    target: str | None, name: str | None, settings: Mapping[str, str]
) -> tuple[Project, ServingPlace]:
    for setting in settings:
        if setting not in _SETTINGS:
            raise UsageError(
                f"-C {setting}: not known (have: {', '.join(_SETTINGS)})"
                f"{did_you_mean(setting, _SETTINGS)}"
            )
    project = projects.load(env=settings.get("env"))
    return project, readiness.place(project, settings.get("target") or target, name)


def _existing(place: ServingPlace) -> None:
    if place.helm.release(place.release) is None:
        raise ConfigurationError(
            f"there is no deployment {place.release!r} in namespace {place.target.namespace}",
            fix="mlflow deployments list shows those that there are",
        )


def _deploy(
    project: Project, place: ServingPlace, uri: str | None, settings: Mapping[str, str]
) -> dict[str, Any]:
    if uri is not None:
        _require_champion(project, uri)
    planned = deploying.plan(
        project, place.name, canary=canary_share(settings), release=place.release
    )
    deploying.apply(project, planned)
    if settings.get("wait", "true").lower() != "false":
        deploying.await_ready(project, place.name, _READY_S, lambda _: None, place.release)
    return {"name": place.release, "model": planned.model, "version": planned.champion}


def canary_share(settings: Mapping[str, str]) -> float | None:
    """The challenger's share that `canary`, in percent, asks for; UsageError where it is none."""
    text = settings.get("canary")
    try:
        share = None if text is None else float(text) / 100
    except ValueError:
        share = -1.0
    if share is not None and not 0 <= share <= 1:
        raise UsageError(f"-C canary={text}: it is a percentage, from 0 to 100")
    return share


def _require_champion(project: Project, uri: str) -> None:
    """What is served is always the champion: another version has to be promoted first."""
    model = project.model.name
    found = _URI.fullmatch(uri)
    if found is None or found["name"] != model:
        raise UsageError(
            f"{uri!r} is not the model of this project", fix=f"-m models:/{model}@{CHAMPION}"
        )
    aliases = registry.aliases(project.tracking_uri, model)
    wanted = found["version"] or aliases.get(found["alias"])
    if found["alias"] != CHAMPION and (wanted is None or wanted != aliases.get(CHAMPION)):
        raise UsageError(
            f"{uri} is not the champion, which is what a deployment serves",
            fix=f"mlp models promote {found['version'] or found['alias']} --to {CHAMPION}",
        )


Client = deployments_plugin.client_class(_Deployments())
