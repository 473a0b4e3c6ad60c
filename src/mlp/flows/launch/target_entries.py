"""The targets of mlp.yaml: which there are, and a new one made from what a cluster has."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlp.adapters import data, params
from mlp.adapters.cluster import Cluster
from mlp.adapters.data import NewRemote
from mlp.core import config
from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.launch import image
from mlp.core.launch.launch import LOCAL
from mlp.flows.launch import target_services
from mlp.flows.launch.target_choosing import Chosen, Looking
from mlp.flows.launch.target_proposals import Choices, Choose, Proposal, WantedTarget
from mlp.flows.launch.target_services import NewSecret
from mlp.flows.project import Project
from mlp.flows.runs import tracking_stores

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class TargetListing:
    """A target of mlp.yaml, and the stages that are launched there."""

    name: str
    context: str | None
    namespace: str
    image: str
    gpu: int
    gpu_resource: str
    queue: str | None
    stages: Sequence[str]


def listed(project: Project) -> list[TargetListing]:
    """All targets, as they are written; no cluster is asked."""
    launches = project.config.launch.items()
    return [
        TargetListing(
            name,
            target.context,
            target.namespace,
            target.image,
            target.resources.gpu,
            target.resources.gpu_resource,
            target.queue,
            tuple(stage for stage, launch in launches if launch.target == name),
        )
        for name, target in project.config.targets.items()
    ]


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What is written for a new target: a section of mlp.yaml and the whole file with it, a DVC
    remote, a Secret, and the tracking server where it becomes the project's too."""

    name: str
    section: Mapping[str, Any]
    proposals: Sequence[Proposal]
    text: str
    next: Sequence[str]
    tracking_uri: str | None = None
    remote: NewRemote | None = None
    secret: NewSecret | None = None
    notes: Sequence[str] = ()


def plan(
    project: Project,
    name: str,
    wanted: WantedTarget,
    choose: Choose,
    *,
    force: bool,
    makes_secret: bool = False,
) -> TargetPlan:
    """Look at the cluster and lay out the target `name`; nothing is written.

    `choose` says what is taken of each proposal that is not settled. A Secret that is missing is
    made with `makes_secret`, and otherwise the first of the steps that come next. Raises
    ConfigurationError for a target that is there already (unless `force`) and for what is wanted
    and not in the cluster, UsageError for what cannot be guessed; RemoteError where the cluster
    does not answer.
    """
    _require_name(project, name, force)
    choices = Choices(name, choose)
    chosen = Looking(project, name, wanted, choices).chosen()
    choices.require_complete()
    before = project.layout.config.read_text(encoding="utf-8")
    text = params.with_section(before, "targets", name, chosen.section)
    if chosen.tracking_uri is not None:
        text = params.with_section(text, "tracking", "uri", chosen.tracking_uri)
    _require_effect(project, config.parse(text, env=project.env), chosen)
    return TargetPlan(
        name,
        chosen.section,
        tuple(choices.proposals),
        text,
        _steps(name, chosen, makes_secret),
        chosen.tracking_uri,
        chosen.remote.new if chosen.remote else None,
        chosen.secret if makes_secret else None,
        _notes(project, chosen, choices.proposals),
    )


def write(project: Project, planned: TargetPlan) -> None:
    """Make the Secret and the DVC remote, and put the section into mlp.yaml."""
    if planned.secret is not None:
        connection = Cluster(planned.secret.context, planned.secret.namespace)
        target_services.make_secret(connection, planned.secret)
    if planned.remote is not None:
        data.write_remote(data.root(project.root) or project.root, planned.remote)
    params.write(project.layout.config, planned.text)


def _steps(name: str, chosen: Chosen, makes_secret: bool) -> list[str]:
    package = chosen.remote.package if chosen.remote else None
    steps = [f"pip install {package}"] if package and not data.is_installed(package) else []
    if chosen.secret is not None and not makes_secret:
        steps.append(chosen.secret.command)
    if not image.reference(chosen.section["image"]).fixed:
        steps.append(f"mlp build {name}")
    return [*steps, f"mlp doctor --target {name}", f"mlp train --target {name}"]


def _require_effect(project: Project, parsed: config.Config, chosen: Chosen) -> None:
    """Raises ConfigurationError where an environment of mlp.yaml hides the server."""
    if chosen.tracking_uri is not None and parsed.tracking.uri != chosen.tracking_uri:
        raise ConfigurationError(
            f"envs.{project.env}.tracking.uri in mlp.yaml goes over the server: it is"
            f" {parsed.tracking.uri}",
            fix=f"set it to {chosen.tracking_uri} there",
        )


def _notes(project: Project, chosen: Chosen, proposals: Sequence[Proposal]) -> list[str]:
    notes = [each.hint for each in proposals if each.hint and not each.value]
    if chosen.tracking_uri is None:
        return notes
    stores = tracking_stores.others(project, chosen.tracking_uri)
    shows = [f"{store}: {store.command('mlp runs list')} shows them" for store in stores]
    return [*notes, *shows]


def _require_name(project: Project, name: str, force: bool) -> None:
    if name == LOCAL or not _NAME.fullmatch(name):
        raise UsageError(
            "target 'local' is this machine: it needs no section"
            if name == LOCAL
            else f"{name!r} is not a name for a target: letters, digits, - and _ make one",
            fix="mlp targets add gpu",
        )
    if name in project.config.targets and not force:
        raise ConfigurationError(
            f"target {name!r} is in mlp.yaml already",
            fix=f"mlp targets add {name} --force replaces it; mlp targets check {name} looks at it",
        )
