"""How the stages of a run are launched, and on which targets."""

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlp.adapters import data
from mlp.adapters.base import lock, machine, statefile
from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.launch.launch import LOCAL, Launch, launch_of
from mlp.core.launch.launch_section import LaunchSection
from mlp.core.layout import RunLayout
from mlp.core.nearest import did_you_mean
from mlp.core.runs.pipeline import launch_names
from mlp.core.runs.run_header import RunHeader, RunLaunch
from mlp.core.runs.run_request import RunRequest
from mlp.flows.project import Project
from mlp.flows.runs import recording


@dataclass(frozen=True, slots=True)
class Resolved:
    """How a request is launched, and the run that it goes on with, which was killed or left while a
    job of it went on; None for a new one."""

    launching: RunLaunch
    continues: str | None


def resolve(project: Project, request: RunRequest) -> Resolved:
    """How `request` is launched: mlp.yaml, with the command line over it.

    Raises ConfigurationError for a launch of no stage, UsageError for a target that is none.
    """
    launches = _launches(project, request)
    _require_launched(project, launches)
    names = {launch.target for launch in launches.values() if not launch.is_local}
    launching = RunLaunch(
        launches=launches,
        targets={name: _target(project, name) for name in sorted(names)},
        stages=tuple(request.targets),
        overrides=tuple(request.overrides),
        detach=request.detach,
        show_all_ranks=request.show_all_ranks,
        force=request.force,
        attach=request.attach,
    )
    continues = request.continues or (_unfinished(project, launching) if names else None)
    return Resolved(launching, continues)


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A stage that would run in a cluster: what would be made there, in words and as manifests.

    `unknown` says why that cannot be told yet, where an earlier stage has to run first.
    """

    stage: str
    target: str
    text: str = ""
    manifests: Sequence[Mapping[str, Any]] = ()
    unknown: str = ""


def planned_jobs(
    project: Project, launching: RunLaunch, stages: Iterable[str]
) -> tuple[PlannedJob, ...]:
    """The jobs that `stages` would become. Nothing is pushed or made."""
    header = RunHeader(
        run_id="0" * 32,  # drawn when the run begins
        experiment=project.config.experiment,
        tracking_uri=None,
        project=project.config.project,
        launching=launching,
    )
    found = []
    for stage in stages:
        launch = launch_of(launching.launches, stage)
        if launch is not None and not launch.is_local:
            found.append(_planned_job(project, header, stage, launch))
    return tuple(found)


def _planned_job(project: Project, header: RunHeader, stage: str, launch: Launch) -> PlannedJob:
    from mlp.core.launch.manifests import manifests
    from mlp.core.launch.targets_section import KubernetesTarget, with_gpus
    from mlp.flows.launch import submission

    section = header.launching.targets[launch.target]
    target = with_gpus(KubernetesTarget.model_validate(section), launch.gpus)
    root = data.root(project.root) or project.root
    place = submission.JobPlace.of(root, root / data.working_directory(root, stage))
    try:
        shipment = submission.pack(place, stage, target)
    except ConfigurationError as e:
        return PlannedJob(stage, launch.target, unknown=e.one_line())
    spec = submission.describe(place, shipment, target, header, stage, launch)
    text = submission.plan_text(spec, shipment, launch.target)
    return PlannedJob(stage, launch.target, text, manifests(spec, target))


def _launches(project: Project, request: RunRequest) -> dict[str, Launch]:
    sections = dict(project.config.launch)
    for stage, over in request.launches.items():
        section = (launch_of(sections, stage) or LaunchSection()).under(over)
        if over.strategy == "single" and section.several and request.attach is None:
            raise _one_process(stage, section)
        sections[stage] = section
    return {name: _complete(project, section) for name, section in sections.items()}


def _complete(project: Project, section: LaunchSection) -> Launch:
    """What is said of a launch, and the rest: several processes train by DDP, one for each GPU."""
    said = section.model_dump(exclude_none=True)
    target = project.config.targets.get(section.target or LOCAL)
    if target is not None:
        said.setdefault("gpus", target.resources.gpu)
    if section.several:  # whatever a template's mlp.yaml says: Lightning would take DDP, too
        said["strategy"] = "ddp"
    if said.get("strategy", Launch().strategy) != "single" and said.get("gpus"):
        said.setdefault("processes_per_node", said["gpus"])
    return Launch(**said)


def _one_process(stage: str, section: LaunchSection) -> UsageError:
    """Of `--strategy single` that meets several processes, of mlp.yaml perhaps."""
    nodes, processes = section.nodes or 1, section.processes_per_node or 1
    return UsageError(
        f"--strategy single trains in one process, and {stage} is launched on {nodes} node(s)"
        f" with {processes} process(es) each",
        fix="leave --strategy out, or add --nodes 1 --processes 1",
    )


def _require_launched(project: Project, launches: Mapping[str, Launch]) -> None:
    """Raise ConfigurationError for a launch of no stage: it would change nothing, unnoticed."""
    known = launch_names(stage.name for stage in data.stages(project.root)) if launches else ()
    for name, launch in launches.items():
        if name not in known:
            raise ConfigurationError(
                f"launch.{name} in mlp.yaml: dvc.yaml has no such stage "
                f"(have: {', '.join(sorted(known))}){did_you_mean(name, known)}",
                fix="correct the name under `launch` in mlp.yaml",
            )
        if launch.is_local and launch.nodes > 1:
            raise UsageError(
                f"{name} is to run on {launch.nodes} nodes, and this machine is one",
                fix=f"--target NAME, or set launch.{name}.target in mlp.yaml",
            )


def _target(project: Project, name: str) -> dict[str, Any]:
    """A target as mlp.yaml has it, with the image that `mlp build` makes."""
    from mlp.flows.launch import image_building

    target = project.target(name)
    tracking_uri = target.tracking_uri
    if tracking_uri is None and project.tracking_uri.startswith("http"):
        tracking_uri = project.tracking_uri
    return target.model_dump() | {
        "image": image_building.image(project, name),
        "tracking_uri": tracking_uri,
    }


def _unfinished(project: Project, launching: RunLaunch) -> str | None:
    """The newest run, where it was the same request, its process is gone, and a job of it is not
    finished: to start it again is to go on with it."""
    newest = recording.newest(project.layout)
    if newest is None:
        return None
    header, run = newest
    if lock.is_held(run.alive) or not header.launching.same_request(launching):
        return None
    marker = _unfinished_job(run)
    return run.run_id if marker and _is_still(project, launching, marker) else None


def _unfinished_job(run: RunLayout) -> Mapping[str, Any] | None:
    """The job that a stage of the run is, or was to be, and whose end was not seen here."""
    for path in run.path.glob("stages/*/job.json"):
        stage_run = path.parent.name
        marker = job_marker(run, stage_run)
        failed = run.failure(stage_run).exists() and not run.detached(stage_run).exists()
        if not marker.get("ended", True) and not failed:
            return marker
    return None


def _is_still(project: Project, launching: RunLaunch, marker: Mapping[str, Any]) -> bool:
    """Whether the stage would be the same job now: code, data and params are what they were."""
    [planned] = planned_jobs(project, launching, [marker["stage"]]) or [None]
    if planned is None or not planned.manifests:
        return False
    return bool(planned.manifests[0]["metadata"]["name"] == marker["name"])


def job_marker(run: RunLayout, stage_run_id: str) -> Mapping[str, Any]:
    """What is known here of the job that a stage of a run is; {} where it is none."""
    return statefile.read(run.job(stage_run_id))


def user() -> str:
    """Who submits, and from which machine."""
    return f"{machine.user()}@{platform.node()}"


def checked(project: Project, request: RunRequest, resolved: Resolved) -> Resolved:
    """`resolved`, with the targets looked at where a stage runs here before one runs there.

    Where the first one that runs has a target, it looks itself, while it packs. Raises
    ConfigurationError for what would keep a stage from running.
    """
    launching = resolved.launching
    if request.attach is not None or not launching.targets:
        return resolved
    from mlp.core.launch.targets_section import with_gpus
    from mlp.flows.checkup import target_checks

    plan = data.plan(project.root, request.targets, force=request.force)
    launches = [launch_of(launching.launches, stage.name) for stage in plan if stage.runs]
    remote = [launch for launch in launches if launch is not None and not launch.is_local]
    if not remote or remote[0] is launches[0]:
        return resolved
    data.remote_settings(project.root)
    for launch in dict.fromkeys(remote):
        settings = with_gpus(project.target(launch.target), launch.gpus)
        target_checks.require(project, launch.target, settings, launch.nodes)
    return replace(resolved, launching=launching._replace(checked=time.time()))
