"""The jobs that stages of a project run as: looking at them, following, ending, finishing them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlp.adapters import cluster, data
from mlp.adapters.base import lock
from mlp.adapters.cluster import Cluster, Object, Phase
from mlp.core.errors import ConfigurationError, MlpError, UsageError
from mlp.core.explain.explanation import JobExplanation
from mlp.core.launch import job_spec as jobs
from mlp.core.launch.job_spec import JobSpec
from mlp.core.launch.launch_section import LaunchSection
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.nearest import did_you_mean
from mlp.core.runs.identity import stage_run_id
from mlp.core.runs.run_header import RunLaunch
from mlp.core.runs.run_request import RunRequest
from mlp.flows.launch import launching, submission
from mlp.flows.project import Project
from mlp.flows.runs import recording
from mlp.flows.runs.running import Observer, RunResult, execute

# So many characters of a run's id are shown everywhere.
_MIN_RUN = 8


@dataclass(frozen=True, slots=True)
class ClusterJob:
    """A stage's job. `created` is when, as the cluster writes it (RFC 3339)."""

    name: str
    target: str
    stage: str
    run_id: str
    phase: Phase
    nodes: int
    ready: int
    created: str
    user: str


@dataclass(frozen=True, slots=True)
class JobListing:
    """The jobs of a project, the newest first, and the targets that could not be asked."""

    jobs: Sequence[ClusterJob]
    unreachable: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Found:
    """One job with the place that it is in."""

    target_name: str
    target: KubernetesTarget
    connection: Cluster
    manifest: Object

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def spec(self) -> JobSpec:
        return cluster.spec_of(self.manifest)


def listed(project: Project, target: str | None = None) -> JobListing:
    """The project's jobs on one target, or all. Raises UsageError for a target that is none."""
    found: list[ClusterJob] = []
    unreachable: list[tuple[str, str]] = []
    for name in _targets(project, target):
        try:
            found += [_job(name, manifest) for manifest in _manifests(project, name)]
        except MlpError as e:
            unreachable.append((name, e.one_line()))
    return JobListing(sorted(found, key=lambda job: job.created, reverse=True), unreachable)


def explain(
    project: Project, reference: str, target: str | None = None
) -> tuple[str, JobExplanation]:
    """The full name of a job, and why it waits or how it ended."""
    from mlp.core.explain.explanation import explain as explained

    found = _find(project, reference, target)
    observation = cluster.observe(found.connection, found.name)
    return found.name, explained(observation, found.target, found.target_name)


def cancel(project: Project, reference: str, target: str | None = None) -> str:
    """Delete a job that has not ended, and all that it owns; its run ends as KILLED. Returns its
    name.

    Raises UsageError for one that has ended, and for somebody else's unless it is named in full.
    """
    found = _find(project, reference, target)
    owner = found.manifest["metadata"].get("annotations", {}).get(jobs.ANNOTATION_USER, "")
    if cluster.state_of(found.manifest).ended:
        raise UsageError(f"job {found.name} has ended already", fix="mlp jobs list")
    if owner != launching.user() and reference != found.name:
        raise UsageError(
            f"job {found.name} was submitted by {owner or 'somebody else'}",
            fix=f"mlp jobs cancel {found.name}, if you mean it",
        )
    cluster.delete_job(found.connection, found.name)
    _end_run(project, found.spec)
    return found.name


def _end_run(project: Project, spec: JobSpec) -> None:
    """End the run of a job that nobody waits for; who waits for it ends it himself."""
    if lock.is_held(project.layout.lock):
        return
    stage_run = stage_run_id(spec.run_id, spec.stage)
    with (
        recording.alone(project),
        recording.started(project, RunLaunch(), ["mlp", "jobs", "cancel"], spec.run_id) as record,
    ):
        record.record(
            "run_started", stage_run, parent=spec.run_id, name=spec.stage, stage=spec.stage
        )
        record.record("run_ended", stage_run, status="KILLED")
        record.record("run_ended", status="KILLED")


def logs(
    project: Project,
    reference: str,
    emit: Callable[[bytes], None],
    *,
    target: str | None = None,
    node: int = 0,
    follow: bool = False,
) -> str:
    """Hand on what node `node` of a job printed, with `follow` until the job has ended; returns the
    job's full name."""
    found = _find(project, reference, target)
    if not 0 <= node < found.spec.launch.nodes:
        raise UsageError(f"job {found.name} has nodes 0 to {found.spec.launch.nodes - 1}")
    if not follow:
        cluster.print_log(found.connection, found.name, node, jobs.MAIN_CONTAINER, emit)
        return found.name
    stop = threading.Event()
    arguments = (found.connection, found.name, node, jobs.MAIN_CONTAINER, emit, stop)
    reader = threading.Thread(target=cluster.follow_log, args=arguments, daemon=True)
    reader.start()
    for state in cluster.watch_job(found.connection, found.name):
        if state.ended:
            break
    stop.set()
    reader.join()
    return found.name


def attach(
    project: Project,
    reference: str,
    observer: Observer,
    *,
    target: str | None = None,
    command_line: Sequence[str] = (),
) -> RunResult:
    """Wait for a job and finish what its submission left: outputs, `dvc.lock`, the run.

    Works in another clone than the one that submitted it. Raises ConfigurationError, with nothing
    changed, where the stage would be another here.
    """
    found = _find(project, reference, target)
    spec = found.spec
    _refuse_another_stage(project, spec)
    missing = [name for name in spec.inputs if not (project.root / name).exists()]
    data.pull(project.root, missing)
    launch = spec.launch._replace(target=found.target_name)
    request = RunRequest(
        targets=(spec.stage,),
        launches={spec.stage: LaunchSection(**launch.to_dict())},
        command_line=command_line,
        continues=spec.run_id,
        attach=found.name,
        show_all_ranks=spec.show_all_ranks,
    )
    return execute(project, request, observer)


def received(project: Project, reference: str, target: str | None = None) -> JobSpec | None:
    """The job, where there is nothing to attach to: its outputs came here already."""
    spec = _find(project, reference, target).spec
    run = project.layout.run(spec.run_id)
    marker = launching.job_marker(run, stage_run_id(spec.run_id, spec.stage))
    return spec if marker.get("received") and marker["name"] == spec.name else None


def _refuse_another_stage(project: Project, spec: JobSpec) -> None:
    """Raise ConfigurationError where DVC would write down that other code, data, params or another
    command made the job's outputs."""
    here = next((s for s in data.stages(project.root) if s.name == spec.stage), None)
    changed = [f"the stage {spec.stage!r}"]
    if here is not None:
        states = submission.states(project.root, spec.stage, data.inputs(project.root, spec.stage))
        names = {*states, *spec.states}
        changed = sorted(name for name in names if states.get(name) != spec.states.get(name))
        changed += ["the command"] if tuple(here.command) != tuple(spec.commands) else []
    if changed:
        raise ConfigurationError(
            f"job {spec.name} was submitted with other versions than are here: "
            f"{', '.join(changed)}",
            fix="bring the files to what they were when it was submitted, such as by git checkout",
        )


def _targets(project: Project, target: str | None) -> list[str]:
    if target is None:
        return list(project.config.targets)
    project.target(target)
    return [target]


def _connect(project: Project, name: str) -> Cluster:
    target = project.config.targets[name]
    return Cluster(target.context, target.namespace)


def _manifests(project: Project, target: str) -> list[Object]:
    selector = (
        f"{jobs.LABEL_MANAGED_BY}={jobs.MANAGED_BY},"
        f"{jobs.LABEL_PROJECT}={jobs.label(project.config.project)},{jobs.LABEL_STAGE}"
    )
    return cluster.list_jobs(_connect(project, target), selector)


def _find(project: Project, reference: str, target: str | None) -> _Found:
    """The job that `reference` means: by name, its stage, its run, the name's beginning or end.

    Of a stage or a run with several, the newest. Raises UsageError where there is none, or where
    several names begin or end so.
    """
    found = [
        _Found(name, project.config.targets[name], _connect(project, name), manifest)
        for name in _targets(project, target)
        for manifest in _manifests(project, name)
    ]
    found.sort(key=lambda job: str(job.manifest["metadata"]["creationTimestamp"]), reverse=True)
    for means in (_is_named, _is_of):
        matches = [job for job in found if means(reference, job)]
        if matches:
            return matches[0]
    matches = [job for job in found if _is_part(reference, job.name)]
    if len(matches) == 1:
        return matches[0]
    names = [job.name for job in matches or found]
    problem = "several jobs are called like" if matches else "there is no job"
    raise UsageError(
        f"{problem} {reference!r} (have: {', '.join(names) or 'none'})"
        f"{did_you_mean(reference, names)}",
        fix="mlp jobs list",
    )


def _is_named(reference: str, job: _Found) -> bool:
    return job.name == reference


def _is_of(reference: str, job: _Found) -> bool:
    """Whether a job is of the stage or the run that is meant."""
    labels = job.manifest["metadata"]["labels"]
    of_run = len(reference) >= _MIN_RUN and labels[jobs.LABEL_RUN].startswith(reference)
    return of_run or bool(labels[jobs.LABEL_STAGE] == jobs.label(reference))


def _is_part(reference: str, name: str) -> bool:
    return bool(reference) and (name.startswith(reference) or name.endswith(reference))


def _job(target: str, manifest: Object) -> ClusterJob:
    metadata = manifest["metadata"]
    state = cluster.state_of(manifest)
    return ClusterJob(
        name=metadata["name"],
        target=target,
        stage=metadata["labels"][jobs.LABEL_STAGE],
        run_id=metadata["labels"][jobs.LABEL_RUN],
        phase=state.phase,
        nodes=state.nodes,
        ready=state.ready,
        created=metadata["creationTimestamp"],
        user=metadata.get("annotations", {}).get(jobs.ANNOTATION_USER, ""),
    )
