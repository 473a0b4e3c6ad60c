"""How the stages of a run are launched, and on which targets."""

import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlp.adapters import data
from mlp.adapters.base import lock, machine, statefile
from mlp.core import config
from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.layout import RunLayout
from mlp.core.nearest import did_you_mean
from mlp.core.runs import pipeline
from mlp.core.runs.environment import LOCAL
from mlp.core.runs.pipeline import launch_names
from mlp.core.runs.run_request import RunRequest
from mlp.flows.project import Project
from mlp.flows.runs import recording


@dataclass(frozen=True, slots=True)
class StageLaunch:
    """How the stages of one run are started.

    `launches` is `launch` of mlp.yaml with the command line over it, `header` what the run's header
    says of it, `continues` the run that was killed or left while a job of it went on.
    """

    launches: Mapping[str, Mapping[str, Any]]
    header: Mapping[str, Any]
    continues: str | None


def resolve(project: Project, request: RunRequest) -> StageLaunch:
    """How `request` is launched. Raises ConfigurationError for a launch of no stage, UsageError for
    a target that is none."""
    launches = _launches(project, request)
    _require_launched(project, launches)
    names = {str(launch.get("target", LOCAL)) for launch in launches.values()} - {LOCAL}
    header = {
        "launch": launches,
        "targets": {name: _target(project, name) for name in sorted(names)},
        "request": [list(request.targets), list(request.overrides)],
        "detach": request.detach,
        "show_all_ranks": request.show_all_ranks,
        "force": request.force,
        "attach": request.attach,
    }
    continues = request.continues or (_unfinished(project, header) if names else None)
    return StageLaunch(launches, header, continues)


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
    project: Project, launch_header: Mapping[str, Any], stages: Iterable[str]
) -> tuple[PlannedJob, ...]:
    """The jobs that `stages` would become. Nothing is pushed or made."""
    header = {
        **launch_header,
        "project": project.config.project,
        "experiment": project.config.experiment,
        "run_id": "0" * 32,  # drawn when the run begins
    }
    found = []
    for stage in stages:
        section = pipeline.launch_of(launch_header["launch"], stage)
        name = str(section.get("target", LOCAL))
        if name != LOCAL:
            found.append(_planned_job(project, header, stage, name, section))
    return tuple(found)


def _planned_job(
    project: Project,
    header: Mapping[str, Any],
    stage: str,
    name: str,
    launch: Mapping[str, Any],
) -> PlannedJob:
    from mlp.core.launch.manifests import manifests
    from mlp.core.launch.targets_section import KubernetesTarget, with_gpus
    from mlp.flows.launch import submission

    target = with_gpus(KubernetesTarget.model_validate(header["targets"][name]), launch.get("gpus"))
    root = data.root(project.root) or project.root
    place = submission.JobPlace.of(root, root / data.working_directory(root, stage))
    try:
        shipment = submission.pack(place, stage, target)
    except ConfigurationError as e:
        return PlannedJob(stage, name, unknown=e.one_line())
    spec = submission.describe(place, shipment, target, header, stage, launch)
    text = submission.plan_text(spec, shipment, name)
    return PlannedJob(stage, name, text, manifests(spec, target))


def _launches(project: Project, request: RunRequest) -> dict[str, dict[str, Any]]:
    sections = project.config.launch
    launches = {name: launch.model_dump(exclude_unset=True) for name, launch in sections.items()}
    for stage, over in request.launches.items():
        launches[stage] = {**pipeline.launch_of(launches, stage), **over}
        if over.get("strategy") == "single" and request.attach is None:
            _require_one_process(stage, launches[stage])
    return {name: _complete(project, launch) for name, launch in launches.items()}


def _complete(project: Project, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given of a launch, and the rest: several processes train by DDP, one for each GPU."""
    launch = dict(given)
    target = project.config.targets.get(launch.get("target", LOCAL))
    if target is not None:
        launch.setdefault("gpus", target.resources.gpu)
    if _several(launch):  # whatever a template's mlp.yaml says: Lightning would take DDP, too
        launch["strategy"] = "ddp"
    if launch.get("strategy", "single") != "single" and launch.get("gpus"):
        launch.setdefault("processes_per_node", launch["gpus"])
    return config.Launch.model_validate(launch).model_dump()


def _several(launch: Mapping[str, Any]) -> bool:
    return bool(launch.get("nodes", 1) > 1 or launch.get("processes_per_node", 1) > 1)


def _require_one_process(stage: str, launch: Mapping[str, Any]) -> None:
    """Raise UsageError where `--strategy single` meets several processes, of mlp.yaml perhaps."""
    if _several(launch):
        nodes, processes = launch.get("nodes", 1), launch.get("processes_per_node", 1)
        raise UsageError(
            f"--strategy single trains in one process, and {stage} is launched on {nodes} node(s)"
            f" with {processes} process(es) each",
            fix="leave --strategy out, or add --nodes 1 --processes 1",
        )


def _require_launched(project: Project, launches: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for a launch of no stage: it would change nothing, unnoticed."""
    known = launch_names(stage.name for stage in data.stages(project.root)) if launches else ()
    for name in launches:
        if name not in known:
            raise ConfigurationError(
                f"launch.{name} in mlp.yaml: dvc.yaml has no such stage "
                f"(have: {', '.join(sorted(known))}){did_you_mean(name, known)}",
                fix="mend the name under `launch` in mlp.yaml",
            )
        launch = launches[name]
        if launch.get("target", LOCAL) == LOCAL and launch.get("nodes", 1) > 1:
            raise UsageError(
                f"{name} is to run on {launch['nodes']} nodes, and this machine is one",
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


def _unfinished(project: Project, header: Mapping[str, Any]) -> str | None:
    """The newest run, where it was the same request, its process is gone, and a job of it is not
    finished: to start it again is to go on with it."""
    layout = project.layout
    runs = sorted(
        (RunLayout(path.parent) for path in layout.runs.glob("*/run.json")),
        key=lambda run: float(recording.header(run).get("started", 0)),
    )
    if not runs or lock.is_held(runs[-1].alive):
        return None
    newest = recording.header(runs[-1])
    same = all(newest.get(key) == header[key] for key in ("request", "launch", "attach"))
    marker = _unfinished_job(runs[-1]) if same else None
    return runs[-1].run_id if marker and _is_still(project, header, marker) else None


def _unfinished_job(run: RunLayout) -> Mapping[str, Any] | None:
    """The job that a stage of the run is, or was to be, and whose end was not seen here."""
    for path in run.path.glob("stages/*/job.json"):
        stage_run = path.parent.name
        marker = job_marker(run, stage_run)
        failed = run.failure(stage_run).exists() and not run.detached(stage_run).exists()
        if not marker.get("ended", True) and not failed:
            return marker
    return None


def _is_still(project: Project, header: Mapping[str, Any], marker: Mapping[str, Any]) -> bool:
    """Whether the stage would be the same job now: code, data and params are what they were."""
    launch = pipeline.launch_of(header["launch"], marker["stage"])
    [planned] = planned_jobs(project, header, [marker["stage"]]) or [None]
    if planned is None or not planned.manifests or not launch:
        return False
    return bool(planned.manifests[0]["metadata"]["name"] == marker["name"])


def job_marker(run: RunLayout, stage_run_id: str) -> Mapping[str, Any]:
    """What is known here of the job that a stage of a run is; {} where it is none."""
    return statefile.read(run.job(stage_run_id))


def user() -> str:
    """Who submits, and from which machine."""
    return f"{machine.user()}@{platform.node()}"


def checked(project: Project, request: RunRequest, launch: StageLaunch) -> StageLaunch:
    """`launch`, with the targets looked at where a stage runs here before one runs there.

    Where the first one that runs has a target, it looks itself, while it packs. Raises
    ConfigurationError for what would keep a stage from running.
    """
    if request.attach is not None or not launch.header["targets"]:
        return launch
    from mlp.core.launch.targets_section import with_gpus
    from mlp.flows.checkup import target_checks

    plan = data.plan(project.root, request.targets, force=request.force)
    sections = [pipeline.launch_of(launch.launches, stage.name) for stage in plan if stage.runs]
    remote = [section for section in sections if section.get("target", LOCAL) != LOCAL]
    if not remote or remote[0] is sections[0]:
        return launch
    data.remote_settings(project.root)
    for section in {json.dumps(section): section for section in remote}.values():
        name = str(section["target"])
        settings = with_gpus(project.target(name), section.get("gpus"))
        target_checks.require(project, name, settings, section.get("nodes", 1))
    return replace(launch, header={**launch.header, "checked": time.time()})
