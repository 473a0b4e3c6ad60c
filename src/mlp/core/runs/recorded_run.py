"""A recorded run, read back from the tracking server as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class Tag:
    """The tags that mlp sets on its runs in MLflow."""

    RUN_ID = "mlp.run_id"
    KIND = "mlp.kind"  # pipeline, stage
    EXPERIMENT = "mlp.experiment"
    STAGE = "mlp.stage"
    OUTCOME = "mlp.outcome"  # of a stage: ran, cached, restored, failed
    FINGERPRINT = "mlp.fingerprint"  # of a stage: equal means the same work with the same result
    CACHED_FROM = "mlp.cached_from"  # of a cached stage: the run that did the work
    COMMIT = "mlflow.source.git.commit"
    DIRTY = "mlp.dirty"
    REPRODUCES = "mlp.reproduces"
    PARENT = "mlflow.parentRunId"  # of a nested run: MLflow's id of the run that it is nested in
    # Of a stage that ran in a cluster.
    TARGET = "mlp.target"
    JOB = "mlp.job"
    POD = "mlp.pod"
    NODE = "mlp.node"
    IMAGE = "mlp.image"
    WORLD_SIZE = "mlp.world_size"
    RAN_IN = "mlp.ran_in"  # the run whose job it was, where another one submitted it before
    COMMAND_LINE = "mlp.command_line"


# How a run stands, in MLflow's words.
RUNNING, FINISHED = "RUNNING", "FINISHED"

# Artifacts of a pipeline run.
PROVENANCE = "mlp/provenance.json"
PATCH = "mlp/code.patch"
LOCK_BEFORE = "mlp/dvc.lock.before"
LOCK_AFTER = "mlp/dvc.lock"
STAGES = "mlp/stages.json"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A pipeline run or the run of one stage in it.

    `run_id` is mlp's id (the tag `mlp.run_id`; MLflow's own where the run is not of mlp),
    `mlflow_id` what the server calls it. Times are seconds since the epoch.
    """

    run_id: str
    mlflow_id: str
    name: str
    status: str
    started: float
    ended: float | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    stages: Sequence["RunRecord"] = field(default_factory=tuple)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, None while it is going on."""
        return None if self.ended is None else self.ended - self.started

    @property
    def stage(self) -> str | None:
        """The stage that this is the run of, None for a pipeline run."""
        return self.tags.get(Tag.STAGE)
