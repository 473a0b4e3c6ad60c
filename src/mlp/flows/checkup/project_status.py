"""Where the project stands: its code, the last run, and what the next one would do.

Read from the project's own files and from DVC: nobody waits for MLflow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlp.adapters import git
from mlp.adapters.base import event_file, lock
from mlp.core.errors import MlpError, from_os_error
from mlp.core.layout import Layout, RunLayout
from mlp.core.runs.pipeline import PlannedStage
from mlp.core.runs.run_request import RunRequest
from mlp.core.secrets import mask_urls
from mlp.flows.project import Project
from mlp.flows.runs import recording, running


@dataclass(frozen=True, slots=True)
class CodeState:
    """What is checked out. `changed` and `untracked` count files that are not committed."""

    commit: str | None
    branch: str | None
    changed: int
    untracked: int

    @property
    def dirty(self) -> bool:
        """Whether a run now would be of more than the commit."""
        return bool(self.changed or self.untracked)


@dataclass(frozen=True, slots=True)
class LocalRun:
    """A run as its own directory tells it. Times are seconds since the epoch.

    `status` is RUNNING, FINISHED, FAILED or KILLED; `stage` the one at work, or the one that failed
    or was at work at the end; `log` is the path of its output.
    """

    run_id: str
    status: str
    started: float
    ended: float | None
    stage: str | None
    log: str | None


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A run that MLflow has not all of, with the reason as far as that is known.

    `delivering` is whether somebody is at it.
    """

    run_id: str
    reason: str
    delivering: bool


@dataclass(frozen=True, slots=True)
class ProjectStatus:
    """All of it. `stages` is None where it cannot be told: `problem` says why, or a run goes on."""

    project: str
    root: str
    env: str | None
    experiment: str
    tracking_uri: str
    code: CodeState | None
    last_run: LocalRun | None
    undelivered: Sequence[Undelivered]
    stages: Sequence[PlannedStage] | None
    problem: MlpError | None
    next: Sequence[str]


def status(project: Project) -> ProjectStatus:
    """Look at the project. Nothing is changed."""
    last = last_run(project.layout)
    going_on = last is not None and last.status == "RUNNING"
    stages, problem = (None, None) if going_on else _plan(project)
    undelivered = _undelivered(project.layout)
    return ProjectStatus(
        project=project.config.project,
        root=str(project.root),
        env=project.env,
        experiment=project.config.experiment,
        tracking_uri=mask_urls(project.tracking_uri),
        code=_code(project.root),
        last_run=last,
        undelivered=undelivered,
        stages=stages,
        problem=problem,
        next=_next(last, undelivered, stages, problem),
    )


def last_run(layout: Layout) -> LocalRun | None:
    """The run that began last, None where no run's directory is here."""
    newest = recording.newest(layout)
    if newest is None:
        return None
    header, run = newest
    ended, how = _end(run, header.pid)
    alive = lock.is_held(run.alive)
    stage, log = _unfinished_stage(run) if how != "FINISHED" else (None, None)
    return LocalRun(
        run.run_id, how or ("RUNNING" if alive else "KILLED"), header.started, ended, stage, log
    )


def _end(run: RunLayout, pid: int) -> tuple[float | None, str | None]:
    """When and how the run ended, in the words of its own process; None, None where it did not."""
    for path in event_file.files(str(run.events)):
        if path.endswith(f"-{pid}.jsonl"):
            for event, _ in event_file.read(path):
                if event and event.kind == "run_ended" and event.run == run.run_id:
                    return event.at, str(event.data.get("status"))
    return None, None


def _unfinished_stage(run: RunLayout) -> tuple[str | None, str | None]:
    """The stage that is at work or did not get to a good end, and its log."""
    found: list[tuple[float, str, str]] = []
    for path in event_file.files(str(run.events)):
        events = (event for event, _ in event_file.read(path) if event)
        first = next(events, None)
        # A stage shell's file begins with the stage's run; a training process's, which can be
        # long, with something else.
        if not first or first.kind != "run_started" or not first.data.get("stage"):
            continue
        ends = [event.data.get("status") for event in events if event.kind == "run_ended"]
        if ends != ["FINISHED"]:
            found.append((first.at, str(first.data["stage"]), first.run))
    if not found:
        return None, None
    _, stage, run_id = max(found)
    return stage, str(run.log(run_id)) if run.log(run_id).is_file() else None


def _undelivered(layout: Layout) -> list[Undelivered]:
    found = []
    for path in recording.undelivered(layout):
        run = RunLayout(path)
        if lock.is_held(run.alive):
            continue  # it is being recorded
        delivering = lock.is_held(run.delivery_lock)
        found.append(Undelivered(run.run_id, recording.delivery(run).reason, delivering))
    return found


def _plan(project: Project) -> tuple[Sequence[PlannedStage] | None, MlpError | None]:
    # Not while a run goes on: looking takes DVC's lock, which the run needs after each stage.
    try:
        return running.plan(project, RunRequest()).stages, None
    except MlpError as e:
        return None, e
    except OSError as e:
        return None, from_os_error(e)


def _code(root: Path) -> CodeState | None:
    top = git.repository(root)
    if top is None:
        return None
    tracked = git.git(["status", "--porcelain", "-z", "--untracked-files=no"], top)
    ours = [f"--exclude={pattern}" for pattern in git.ignored(root)]
    others = git.git(["ls-files", "-z", "--others", "--exclude-standard", *ours], top)
    branch = git.git(["branch", "--show-current"], top).strip()
    return CodeState(git.head(top), branch or None, tracked.count("\0"), others.count("\0"))


def _next(
    last: LocalRun | None,
    undelivered: Sequence[Undelivered],
    stages: Sequence[PlannedStage] | None,
    problem: MlpError | None,
) -> list[str]:
    if last is not None and last.status == "RUNNING":
        return [f"tail -f '{last.log}'"] if last.log else []
    if stages is None:  # a problem that says what to do needs nobody to look for it
        return [] if problem is not None and problem.fix else ["mlp doctor"]
    steps = ["mlp runs sync"] if any(not left.delivering for left in undelivered) else []
    if not stages:
        return [*steps, "dvc stage add -n NAME -d INPUT -o OUTPUT COMMAND"]
    if any(stage.runs for stage in stages):
        return [*steps, "mlp run"]
    return [*steps, *(["mlp runs show last", "mlp ui"] if last else ["mlp run"])]
