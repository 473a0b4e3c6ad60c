"""Where things lie in a project: the paths under its root and under `.mlp/`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunLayout:
    """The directory of one run: `.mlp/runs/RUN_ID`."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run that the directory belongs to."""
        return self.path.name

    @property
    def project(self) -> Path:
        """The root of the project that the run is of."""
        return self.path.parents[2]

    @property
    def header(self) -> Path:
        """JSON: project, experiment, tracking address, command line; written once, at the start."""
        return self.path / "run.json"

    @property
    def alive(self) -> Path:
        """Locked (flock) by `mlp run` for as long as it lives; the kernel frees it on any death."""
        return self.path / "alive.lock"

    @property
    def events(self) -> Path:
        """Event files, one for each process that recorded something."""
        return self.path / "events"

    @property
    def delivery(self) -> Path:
        """JSON: how far each event file is delivered, and the MLflow id of each run."""
        return self.path / "delivery.json"

    @property
    def delivery_lock(self) -> Path:
        """Locked (flock) by whoever delivers."""
        return self.path / "delivery.lock"

    @property
    def recorder_log(self) -> Path:
        """What the recorder process prints."""
        return self.path / "recorder.log"

    @property
    def shell(self) -> Path:
        """The stage shell that DVC is told to start commands with."""
        return self.path / "shell"

    def stage(self, stage_run_id: str) -> Path:
        """What belongs to one stage: its log, its checkpoints, the files its code logs."""
        return self.path / "stages" / stage_run_id

    def log(self, stage_run_id: str) -> Path:
        """The stage's output, standard output and error together."""
        return self.stage(stage_run_id) / "log.txt"

    def job(self, stage_run_id: str) -> Path:
        """JSON: the job of a cluster that the stage runs as."""
        return self.stage(stage_run_id) / "job.json"

    def detached(self, stage_run_id: str) -> Path:
        """There while the stage goes on in a cluster and nobody waits for it."""
        return self.stage(stage_run_id) / "detached"

    def failure(self, stage_run_id: str) -> Path:
        """JSON: why the stage could not run on its target, for `mlp run` to say."""
        return self.stage(stage_run_id) / "failure.json"

    def checkpoints(self, stage_run_id: str) -> Path:
        """The stage's checkpoints, from which a restart in the same run continues."""
        return self.stage(stage_run_id) / "checkpoints"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of a project with its root (where mlp.yaml lies)."""

    root: Path

    @property
    def config(self) -> Path:
        """The project's one file of ours."""
        return self.root / "mlp.yaml"

    @property
    def state(self) -> Path:
        """Everything of ours that is not the user's; it ignores itself in git."""
        return self.root / ".mlp"

    @property
    def runs(self) -> Path:
        """The run directories."""
        return self.state / "runs"

    @property
    def lock(self) -> Path:
        """Locked (flock) while a run is going on in this project."""
        return self.state / "run.lock"

    def run(self, run_id: str) -> RunLayout:
        """The directory of one run."""
        return RunLayout(self.runs / run_id)
