"""The record of one run as it goes on: its directory, its events, and the recorder beside it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlp.adapters.base import lock, statefile
from mlp.adapters.base.event_file import EventFile
from mlp.core.errors import ConfigurationError, RemoteError
from mlp.core.layout import Layout, RunLayout
from mlp.core.patience import waiting_for
from mlp.core.runs import environment, tracking_uri
from mlp.core.runs.identity import new_run_id
from mlp.core.runs.run_header import RunHeader, RunLaunch
from mlp.core.secrets import Masker, mask_urls
from mlp.flows.project import Project

# Delivered runs whose directories (logs, checkpoints, events) are kept.
_KEPT_RUNS = 20
_POLL_S = 0.05
# A recorder speaks to the server itself, and is not part of the stage that `mlp run` was called in.
_NOT_INHERITED = (
    *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"),
    *(environment.RUN_ID, environment.RUN_DIR, environment.STAGE, environment.STAGE_RUN_ID),
)


@dataclass
class Recording:
    """A run being recorded. `record` appends an event of it, or of one of its stages' runs."""

    run: RunLayout
    tracking_uri: str
    experiment: str
    journal: EventFile
    recorder: "subprocess.Popen[bytes]"
    earlier: Sequence[Path] = field(default_factory=tuple)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run.run_id

    def record(self, kind: str, run: str | None = None, /, **data: Any) -> None:
        """Append an event of this run, or of the stage's run `run`."""
        self.journal.record(kind, run or self.run_id, **data)

    def attach(self, name: str, content: bytes) -> None:
        """Make `content` an artifact of the run, without the secrets in it."""
        masker = Masker(os.environ)
        content = masker.code(content) if name.endswith(".patch") else masker.data(content)
        path = self.run.path / "attached" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        folder = str(Path(name).parent)
        self.record("file", path=f"attached/{name}", to=None if folder == "." else folder)


@dataclass(frozen=True, slots=True)
class Delivered:
    """Whether MLflow has all of a run, and if not, why, as far as that is known by now.

    `refused` is what it will never have, with MLflow's reasons.
    """

    complete: bool
    reason: str = ""
    refused: Sequence[str] = ()


@contextmanager
def alone(project: Project) -> Iterator[None]:
    """Let no other run go on in the project during the block.

    Raises ConfigurationError where one does.
    """
    layout = project.layout
    statefile.unlisted(layout.state)
    with lock.held(layout.lock) as mine:
        if not mine:
            raise _busy(layout)
        yield


def refuse_beside_another(project: Project) -> None:
    """Raise ConfigurationError while a run is going on in the project."""
    if lock.is_held(project.layout.lock):
        raise _busy(project.layout)


def _busy(layout: Layout) -> ConfigurationError:
    return ConfigurationError(
        f"another run is going on in this project{_who(layout)}",
        fix="wait for it, or end it with Ctrl-C in its terminal",
    )


@contextmanager
def started(
    project: Project,
    launching: RunLaunch,
    command_line: Sequence[str],
    continues: str | None = None,
) -> Iterator[Recording]:
    """Record a run for the block: its directory exists, its recorder runs, and it is alive.

    `launching` is how its stages are started; `continues` an earlier run's id.
    """
    layout = project.layout
    earlier = undelivered(layout)
    _prune(layout)
    uri, mlflow_id = _destination(project)
    run = layout.run(continues or new_run_id())
    run.events.mkdir(parents=True, exist_ok=continues is not None)
    _reopen(run)
    layout.lock.write_text(f"{run.run_id} {os.getpid()}\n", encoding="utf-8")
    with lock.held(run.alive):
        # Only now: whoever delivers takes a run with a header that is not alive for a dead one.
        _write_header(run, project, uri, mlflow_id, launching, command_line)
        recording = Recording(
            run,
            uri,
            project.config.experiment,
            EventFile(str(run.events), Masker(os.environ).text),
            deliver([run.path, *earlier], uri),
            earlier,
        )
        recording.record("run_started", name=_name(run), mlflow_id=mlflow_id, tags={})
        yield recording


def deliver(
    runs: Sequence[Path], uri: str, patience: float | None = None
) -> "subprocess.Popen[bytes]":
    """Start a recorder for run directories, in the background.

    `patience` is how many seconds it tries a server that is away after a run has ended.
    """
    log = runs[0] / "recorder.log"
    variables = os.environ | environment.QUIET | {environment.TRACKING_URI: uri}
    for name in _NOT_INHERITED:
        variables.pop(name, None)
    options = [] if patience is None else [f"--patience={patience}"]
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "mlp.runtime.runs.recorder", *options, *map(str, runs)],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the run, not for its record
        )


def wait(recording: Recording, seconds: float) -> Delivered:
    """Wait until the run is delivered, at most so long. The recorder goes on if it is not.

    A server that is away is told of all the same, however short the wait.
    """
    if recording.recorder.poll() not in (None, 0, 5):  # it was killed: another one takes over
        recording.recorder = deliver(
            [recording.run.path, *recording.earlier], recording.tracking_uri
        )
    until = time.monotonic() + seconds
    with waiting_for(f"MLflow at {mask_urls(recording.tracking_uri)}, which gets the run"):
        while True:
            state = delivery(recording.run)
            # What the recorder met first is told at once, while it keeps trying.
            left = until - time.monotonic()
            if state.complete or recording.recorder.poll() is not None or left <= 0:
                break
            time.sleep(min(_POLL_S, left))
    if state.complete or state.reason:
        return state
    if not recording.tracking_uri.startswith("http"):
        return Delivered(False, _earlier_failure(recording))  # it is not asked
    from mlp.adapters import tracking  # not at every start

    try:
        tracking.probe(recording.tracking_uri)
    except RemoteError as e:
        return Delivered(False, e.one_line())
    return state


def _earlier_failure(recording: Recording) -> str:
    """Why an earlier run could not be delivered to the same address, "" if none is left."""
    address = _address(recording.run)
    runs = [run for run in map(RunLayout, recording.earlier) if run.path.is_dir()]
    reasons = [delivery(run).reason for run in runs if _address(run) == address]
    return next(filter(None, reasons), "")


def _address(run: RunLayout) -> str | None:
    written = header(run)
    return written.tracking_uri if written else None


def delivery(run: RunLayout) -> Delivered:
    """What the recorder wrote down last."""
    state = statefile.read(run.delivery)
    return Delivered(
        bool(state.get("done")), str(state.get("error", "")), tuple(state.get("refused", ()))
    )


def header(run: RunLayout) -> RunHeader | None:
    """What was written down at the run's start; None where a crash left none."""
    try:
        return RunHeader.from_json(run.header.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def headers(layout: Layout) -> Iterator[tuple[RunHeader, RunLayout]]:
    """Every run whose directory is here, in no order; one that a crash left half made is not."""
    for path in layout.runs.glob("*/run.json"):
        run = RunLayout(path.parent)
        written = header(run)
        if written is not None:
            yield written, run


def newest(layout: Layout) -> tuple[RunHeader, RunLayout] | None:
    """The run that began last, None where no run's directory is here."""
    return max(headers(layout), key=lambda each: each[0].started, default=None)


def undelivered(layout: Layout) -> list[Path]:
    """The directories of runs that MLflow has not all of, the oldest first."""
    found = []
    for path in _run_directories(layout):
        run = RunLayout(path)
        if header(run) and not delivery(run).complete:
            found.append(path)
    return found


def refused(layout: Layout) -> dict[str, Sequence[str]]:
    """What MLflow refused of the records that are kept here, by run."""
    runs = {path.name: delivery(RunLayout(path)).refused for path in _run_directories(layout)}
    return {run_id: lines for run_id, lines in runs.items() if lines}


def _run_directories(layout: Layout) -> list[Path]:
    if not layout.runs.is_dir():
        return []
    paths = [path for path in layout.runs.iterdir() if path.is_dir()]
    return sorted(paths, key=lambda path: path.stat().st_ctime_ns)


def _prune(layout: Layout) -> None:
    """Remove the directories of old runs that MLflow has all of."""
    import shutil

    for path in _run_directories(layout)[:-_KEPT_RUNS]:
        if not header(RunLayout(path)) or delivery(RunLayout(path)).complete:
            shutil.rmtree(path)


def _destination(project: Project) -> tuple[str, str | None]:
    """The tracking address, and the MLflow run to be, where `mlflow run` has started one for us."""
    run_id, uri = os.environ.get("MLFLOW_RUN_ID"), os.environ.get("MLFLOW_TRACKING_URI")
    if run_id and uri:
        return tracking_uri.absolute(uri, Path.cwd()), run_id
    return project.tracking_uri, None


def _write_header(
    run: RunLayout,
    project: Project,
    uri: str,
    mlflow_id: str | None,
    launching: RunLaunch,
    command_line: Sequence[str],
) -> None:
    written = RunHeader(
        run_id=run.run_id,
        experiment=project.config.experiment,
        tracking_uri=mask_urls(tracking_uri.relative(uri, project.root)),
        project=project.config.project,
        mlflow_id=mlflow_id,
        env=project.env,
        settings=tuple(project.settings),
        command_line=tuple(command_line),
        started=time.time(),
        pid=os.getpid(),
        launching=launching,
    )
    statefile.replace(run.header, Masker(os.environ).text(written.to_json()))


def _reopen(run: RunLayout) -> None:
    """Let the recorder go on with a run that it was done with."""
    state = statefile.read(run.delivery)
    if state:
        statefile.write(run.delivery, {**state, "done": False})


def _name(run: RunLayout) -> str:
    """A run's name: the minute it began and the first characters of its id."""
    return f"{time.strftime('%Y-%m-%d %H:%M')} {run.run_id[:6]}"


def _who(layout: Layout) -> str:
    try:
        run_id, pid = layout.lock.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return ""
    return f" (run {run_id[:8]}, process {pid})"
