"""Running the pipeline as a tracked run."""

import dataclasses
import functools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlp.adapters import data, git, params
from mlp.adapters.base import logfile, processes
from mlp.core.errors import ConfigurationError, MlpError, StageFailed, from_words
from mlp.core.runs import environment, recorded_run
from mlp.core.runs.identity import stage_run_id
from mlp.core.runs.overrides import Override
from mlp.core.runs.pipeline import PlannedStage, StageOutcome, StageState
from mlp.core.runs.provenance import Provenance
from mlp.core.runs.run_request import RunRequest
from mlp.flows.launch import launching
from mlp.flows.project import Project
from mlp.flows.runs import dvc_shell, outputs, provenance_gathering, recording
from mlp.flows.runs.recording import Delivered, Recording

_LAST_LINES = 20
# How long a stage that is interrupted has to end by itself.
_GRACE_S = 5.0
# Beyond it stands 128 + the number of a signal.
_LAST_EXIT_CODE = 128
# In CI nothing lives on behind a job, so that the record has to be delivered before it ends.
_WAIT_IN_CI_S = 120.0
# Elsewhere whoever waits for the run is not to notice; what is left arrives in the background.
_WAIT_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Which stages would run and why, the params that would be changed before, and the jobs of
    clusters that stages would become."""

    stages: Sequence[PlannedStage]
    overrides: Sequence[Override]
    jobs: Sequence[launching.PlannedJob] = ()


@dataclass(frozen=True, slots=True)
class StageResult:
    """What became of a stage. `seconds` is its own time, None where it did not run."""

    name: str
    outcome: StageOutcome
    seconds: float | None
    metrics: Mapping[str, float]
    job: str | None = None
    """The job of a cluster that it ran as."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run made."""

    run_id: str
    status: str
    seconds: float
    stages: Sequence[StageResult]
    overrides: Sequence[Override]
    metrics: Mapping[str, float]
    tracking_uri: str
    experiment: str
    delivered: Delivered
    error: MlpError | None = None


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Told to whoever watches: stage `number` of `total` has begun, or ended with `outcome`."""

    stage: str
    number: int
    total: int
    outcome: StageOutcome | None = None
    seconds: float | None = None


Observer = Callable[[RunProgress], None]


def plan(project: Project, request: RunRequest) -> RunPlan:
    """What `execute` would do. Nothing is changed."""
    _require_dvc(project)
    # It would read the params that are changed here, and wait for the lock that DVC plans under.
    recording.refuse_beside_another(project)
    overrides: tuple[Override, ...] = ()
    if not request.overrides:
        return _plan(project, request, ())
    file = project.root / "params.yaml"
    text, overrides = params.changed(file, request.overrides)
    with _replaced(file, text):
        return _plan(project, request, overrides)


def _plan(project: Project, request: RunRequest, overrides: Sequence[Override]) -> RunPlan:
    with data.opened(project.root):  # DVC's files are read once for all that follows
        stages = data.plan(project.root, request.targets, force=request.force, pull=request.pull)
        launch = launching.resolve(project, request).launching
        jobs = launching.planned_jobs(project, launch, [s.name for s in stages if s.runs])
    return RunPlan(stages, overrides, jobs)


def execute(project: Project, request: RunRequest, observer: Observer) -> RunResult:
    """Run the pipeline, or the stages asked for, and record it.

    A stage that fails is part of the result (`error`), not an exception. Raises
    ConfigurationError where the run cannot begin, UsageError for a stage or param that is not
    there; KeyboardInterrupt ends the run as KILLED.
    """
    _require_dvc(project)
    _given_tags()  # refuses before anything is changed
    changed = (
        params.changed(project.root / "params.yaml", request.overrides)
        if request.overrides
        else None
    )
    count = functools.partial(data.count, project.root, request.targets, pull=request.pull)
    with recording.alone(project):
        if changed is not None:
            count()  # refuses before anything is changed
            params.write(project.root / "params.yaml", changed[0])
        with data.locked(project.root):  # DVC's files are read once for all that follows
            total = 1 if request.attach else count()
            launch = launching.checked(project, request, launching.resolve(project, request))
            with recording.started(
                project, launch.launching, request.command_line, launch.continues
            ) as record:
                overrides = changed[1] if changed is not None else ()
                run = _Run(project, request, launch, record, observer, overrides, total)
                if not launch.continues:
                    run.begin()
                run.reproduce()
                result = run.end()
    seconds = _WAIT_IN_CI_S if os.environ.get("CI") else _WAIT_SHARE * result.seconds
    patient = result.status != "KILLED"
    return dataclasses.replace(
        result, delivered=recording.wait(record, seconds if patient else 0.0)
    )


class _Run:
    """One run from its first event to its last."""

    def __init__(
        self,
        project: Project,
        request: RunRequest,
        launch: launching.Resolved,
        record: Recording,
        observer: Observer,
        overrides: Sequence[Override],
        total: int,
    ) -> None:
        self._project = project
        self._request = request
        self._launch = launch
        self._record = record
        self._observer = observer
        self._overrides = overrides
        self._started = time.time()
        self._status = "FINISHED"
        self._error: MlpError | None = None
        self._states: list[StageState] = []
        self._results: dict[str, StageResult] = {}
        self._begun_at = 0.0
        self._total = total

    def begin(self) -> None:
        """Record what the run is made from."""
        gathered, patch = provenance_gathering.gather(
            self._project,
            self._record.run_id,
            targets=self._request.targets,
            overrides=self._request.overrides,
            launches=self._launch.launching.to_dict()["launches"],
            command_line=self._request.command_line,
            params=params.read(self._project.root / "params.yaml"),
        )
        if self._overrides:  # of a stage that fails nothing else is known
            values = {override.key: str(override.after) for override in self._overrides}
            self._record.record("params", values=values)
        self._attach_lock(recorded_run.LOCK_BEFORE)
        self._record.attach(recorded_run.PROVENANCE, _json(dataclasses.asdict(gathered)))
        if patch:
            self._record.attach(recorded_run.PATCH, patch)
        self._record.record("tags", values=_tags(gathered, self._record.experiment))

    def reproduce(self) -> None:
        """Let DVC run what must run; a failure is kept for the end."""
        try:
            with dvc_shell.stage_shell(self._record):
                data.reproduce(
                    self._project.root,
                    self._request.targets,
                    force=self._request.force or self._request.attach is not None,
                    alone=self._request.attach is not None,
                    pull=self._request.pull,
                    begun=self._begun,
                    ended=self._ended,
                )
        except StageFailed as e:
            if e.status == environment.DETACHED:
                self._status = "DETACHED"
                self._error = self._failure(e)  # where sight of the job was lost
                return
            self._status = "KILLED" if e.status in _INTERRUPTED else "FAILED"
            self._error = self._with_log(e)
            self._end_stage(e)
        except MlpError as e:
            self._status, self._error = "FAILED", e
        except KeyboardInterrupt:
            self._status = "KILLED"
            processes.end(environment.RUN_DIR, str(self._record.run.path), _GRACE_S)
        except BaseException:
            self._record.record("run_ended", status="FAILED")
            raise

    def end(self) -> RunResult:
        """Record what came out, and the end."""
        metrics = self._record_outputs()
        self._attach_lock(recorded_run.LOCK_AFTER)
        self._record.attach(
            recorded_run.STAGES, _json([dataclasses.asdict(s) for s in self._states])
        )
        if self._status == "DETACHED":
            self._record.record("run_detached")
        else:
            self._record.record("run_ended", status=self._status)
        return RunResult(
            run_id=self._record.run_id,
            status=self._status,
            seconds=time.time() - self._started,
            stages=tuple(self._results.values()),
            overrides=tuple(self._overrides),
            metrics=metrics,
            tracking_uri=self._record.tracking_uri,
            experiment=self._record.experiment,
            delivered=Delivered(False),
            error=self._error,
        )

    def _end_stage(self, failure: StageFailed) -> None:
        """End what a killed stage left behind, and record its end where its shell did not."""
        stage_run = stage_run_id(self._record.run_id, failure.stage)
        if failure.status is None or 0 < failure.status <= _LAST_EXIT_CODE:
            return  # not by a signal
        processes.end(environment.STAGE_RUN_ID, stage_run, _GRACE_S)
        if failure.status < 0:  # the shell itself
            log = self._record.run.log(stage_run)
            self._record.record("file", stage_run, path=str(log), to="logs")
        self._record.record("run_ended", stage_run, status="KILLED")

    def _begun(self, stage: str) -> None:
        self._begun_at = time.time()
        self._observer(RunProgress(stage, len(self._results) + 1, self._total))

    def _ended(self, stage: str, state: StageState | None, changed: bool) -> None:
        run_id = stage_run_id(self._record.run_id, stage)
        if state is None and self._record.run.detached(run_id).exists():
            self._record.record("run_detached", run_id)
            self._results[stage] = StageResult(
                stage, StageOutcome.DETACHED, None, {}, self._job(run_id)
            )
            self._observer(
                RunProgress(stage, len(self._results), self._total, StageOutcome.DETACHED)
            )
            return
        ran = self._record.run.log(run_id).exists()
        outcome = (
            StageOutcome.FAILED
            if state is None
            else StageOutcome.RAN
            if ran
            else StageOutcome.RESTORED
            if changed
            else StageOutcome.CACHED
        )
        seconds = time.time() - self._begun_at if ran else None
        if state is not None:
            self._states.append(state)
        outputs.record_stage(self._record, stage, state, outcome)
        job = self._job(run_id) if ran else None
        self._results[stage] = StageResult(stage, outcome, seconds, {}, job)
        self._observer(RunProgress(stage, len(self._results), self._total, outcome, seconds))

    def _job(self, stage_run: str) -> str | None:
        return launching.job_marker(self._record.run, stage_run).get("name")

    def _record_outputs(self) -> Mapping[str, float]:
        of_stages, of_run = outputs.record_metrics(self._project.root, self._record, self._states)
        for stage, metrics in of_stages.items():
            self._results[stage] = dataclasses.replace(self._results[stage], metrics=metrics)
        ran = {name for name, result in self._results.items() if result.outcome == StageOutcome.RAN}
        outputs.record_plots(self._project.root, self._record, self._states, ran)
        outputs.record_sources(self._record, self._states)
        return of_run

    def _attach_lock(self, name: str) -> None:
        lock = self._project.root / "dvc.lock"
        if lock.is_file():
            self._record.attach(name, lock.read_bytes())

    def _failure(self, error: StageFailed) -> MlpError | None:
        """What the process that saw to the stage's job left as its last words."""
        words = self._record.run.failure(stage_run_id(self._record.run_id, error.stage))
        if not words.exists():
            return None
        known = from_words(json.loads(words.read_text(encoding="utf-8")))
        known.__cause__ = error
        return known

    def _with_log(self, error: StageFailed) -> MlpError:
        """The failure with the last lines that the stage printed, or why it could not be run."""
        stage_run = stage_run_id(self._record.run_id, error.stage)
        if (known := self._failure(error)) is not None:
            return known
        log = self._record.run.log(stage_run)
        lines = logfile.last_lines(log, _LAST_LINES)
        if not lines:
            return error
        failed = StageFailed(
            f"stage {error.stage!r} failed"
            + (f" with exit code {error.status}" if error.status is not None else ""),
            stage=error.stage,
            status=error.status,
            cause="\n".join(lines),
            fix=f"the whole log: {os.path.relpath(log)}",
        )
        failed.__cause__ = error
        return failed


_INTERRUPTED = (-signal.SIGINT, 128 + signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGTERM)


def _require_dvc(project: Project) -> None:
    root = data.root(project.root)
    if root is None:
        scm = "" if git.repository(project.root) else " --no-scm"
        raise ConfigurationError(
            f"{project.root} is not a DVC project: there is no .dvc directory",
            fix=f"dvc init{scm}",
        )


def _tags(record: Provenance, experiment: str) -> dict[str, str]:
    tags = {
        recorded_run.Tag.KIND: "pipeline",
        recorded_run.Tag.EXPERIMENT: experiment,
        recorded_run.Tag.DIRTY: str(record.code.dirty).lower(),
        recorded_run.Tag.COMMAND_LINE: " ".join(record.command_line),
        "mlflow.user": record.user,
        "mlflow.source.name": record.directory,
        "mlflow.source.type": "LOCAL",
        **_given_tags(),
    }
    if record.code.commit:
        tags[recorded_run.Tag.COMMIT] = record.code.commit
    if record.code.branch:
        tags["mlflow.source.git.branch"] = record.code.branch
    return tags


def _given_tags() -> dict[str, str]:
    text = os.environ.get(environment.RUN_TAGS) or "{}"
    try:
        return {str(name): str(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError) as e:
        raise ConfigurationError(
            f"{environment.RUN_TAGS} is not a JSON object",
            fix=f"""{environment.RUN_TAGS}='{{"pull_request": "12"}}'""",
            cause=str(e),
        ) from e


@contextmanager
def _replaced(file: Path, text: str) -> Iterator[None]:
    """`file` with another text, for the block."""
    before = file.read_text(encoding="utf-8")
    params.write(file, text)
    try:
        yield
    finally:
        params.write(file, before)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, default=str).encode()
