"""Where a model comes from: the run, its stages, and what MLflow and DVC recorded of them."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlp.adapters import tracking
from mlp.adapters.tracking import registry
from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.models.gates import VersionOrigin
from mlp.core.models.model_version import LoggedModel
from mlp.core.runs import recorded_run, run_artifacts
from mlp.core.runs.pipeline import DataItem, StageState
from mlp.core.runs.recorded_run import RunRecord, Tag
from mlp.flows.project import Project
from mlp.flows.runs import tracking_stores

# Dependencies with these endings are code: the commit says what they were.
_CODE = (".py", ".ipynb", ".sh", ".r", ".jl", ".sql")


@dataclass(frozen=True, slots=True)
class ModelOrigin:
    """A run with the models that it logged, and the states of its stages.

    `makers` has, for each stage, the stage's run that did the work: one of an earlier pipeline run
    where the stage was cached. `lock` is the SHA-256 of the run's dvc.lock.
    """

    run: RunRecord
    stages: Sequence[StageState]
    models: Sequence[LoggedModel]
    makers: Mapping[str | None, RunRecord]
    lock: str | None

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the run, and of its stages where the run has none of that name."""
        found: dict[str, float] = {}
        for stage in self.run.stages:
            found |= self._measured(stage)
        return found | dict(self.run.metrics)

    def evaluated(self, metric: str) -> dict[str, str | None]:
        """What the stage with the metric read beside code and the models of this run."""
        made = {item.path for stage in self.stages for item in stage.outs}
        names = {s.stage for s in self.run.stages if metric in self._measured(s)}
        stages = [stage for stage in self.stages if stage.name in names]
        trained = self._training()
        own = {item.path for stage in trained for item in stage.outs} & made
        return {i.path: i.digest for stage in stages for i in _data(stage) if i.path not in own}

    def _measured(self, stage: RunRecord) -> dict[str, float]:
        """The metrics of a stage, also those that it logged when it did the work."""
        return {**self.makers[stage.stage].metrics, **stage.metrics}

    def _training(self) -> list[StageState]:
        logged = {model.run_id for model in self.models}
        names = {stage for stage, maker in self.makers.items() if maker.mlflow_id in logged}
        return [stage for stage in self.stages if stage.name in names]


def find(project: Project, reference: str) -> ModelOrigin:
    """The run that `reference` means, with all it has logged.

    The models of a cached stage are those of the run that did the work. Raises UsageError where
    there is no such run.
    """
    uri, experiment = project.tracking_uri, project.config.experiment
    run = tracking_stores.find_run(project, reference, f"mlp models register {reference}")
    makers = {stage.stage: _maker(uri, experiment, stage) for stage in run.stages}
    text = tracking.artifact_text(uri, run, recorded_run.STAGES)
    lock = tracking.artifact_text(uri, run, recorded_run.LOCK_AFTER)
    return ModelOrigin(
        run,
        run_artifacts.stages(text) if text else (),
        registry.logged_models(
            uri, dict.fromkeys((run.mlflow_id, *(maker.mlflow_id for maker in makers.values())))
        ),
        makers,
        hashlib.sha256(lock.encode(errors="surrogateescape")).hexdigest() if lock else None,
    )


def choose(origin: ModelOrigin, artifact: str | None) -> LoggedModel:
    """The run's model of that name or id, or its only one. Raises UsageError otherwise."""
    models = [
        model
        for model in origin.models
        if artifact is None or artifact in (model.name, model.model_id)
    ]
    if len(models) == 1:
        return models[0]
    run = origin.run.run_id[:8]
    if not origin.models:
        raise UsageError(
            f"run {run} has logged no model",
            fix="log one in a stage: mlp.log_model(model, example); or run `mlp run --force`"
            " where the run that made it was deleted",
        )
    if not models:
        have = ", ".join(sorted({model.name for model in origin.models}))
        raise UsageError(f"run {run} has no model {artifact!r} (have: {have})")
    several = ", ".join(f"{model.name} ({model.model_id})" for model in models[:10])
    raise UsageError(
        f"run {run} has logged several models: {several}",
        fix=f"mlp models register {run} --artifact NAME, or the id in brackets",
    )


def lineage(project: Project, found: ModelOrigin, logged: LoggedModel) -> VersionOrigin:
    """What a model was made from: its code is that of the run that logged it, an earlier one where
    its stage was unchanged; its data, those of all stages, are the same in both."""
    uri = project.tracking_uri
    try:
        maker = tracking.pipeline_of(uri, logged.run_id)
    except tracking.Refused:  # it was deleted
        maker = found.run
    dirty = maker.tags.get(Tag.DIRTY) == "true"
    return VersionOrigin(
        commit=maker.tags.get(Tag.COMMIT) or None,
        dirty=dirty,
        patch=bool(dirty and tracking.artifact_text(uri, maker, recorded_run.PATCH)),
        status=found.run.status,
        data={item.path: item.digest for stage in found.stages for item in _data(stage)},
        run_id=maker.run_id,
    )


def params_text(params: Mapping[str, str], limit: int) -> str:
    """The params as JSON for a tag, or where to find them if that is too long for one."""
    text = json.dumps(dict(params), sort_keys=True)
    return text if len(text) <= limit else json.dumps({"too many for a tag": "see the run"})


def _maker(uri: str, experiment: str, stage: RunRecord) -> RunRecord:
    """The run that did the work of a stage; its own where that was deleted."""
    made_by = stage.tags.get(Tag.CACHED_FROM)
    if made_by is None:
        return stage
    try:
        return tracking.find_run(uri, experiment, made_by)
    except (UsageError, ConfigurationError):
        return stage


def _data(stage: StageState) -> Iterable[DataItem]:
    return [item for item in stage.deps if not item.path.lower().endswith(_CODE)]
