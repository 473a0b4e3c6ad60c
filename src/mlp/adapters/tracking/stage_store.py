"""MLflow's tracking store inside a stage: what plain MLflow calls record becomes events.

Installed as a plugin for addresses `mlp://`. The first run that is started is the stage's own;
further ones are nested below it. Writing appends to the event file and never waits for a server;
whatever a script asks of other runs is answered by the real store.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.tracking.adoption import adopt
from mlp.adapters.tracking.client import probe
from mlp.adapters.tracking.mlflow_store import opened
from mlp.adapters.tracking.sqlite_store import half_made, opening
from mlp.adapters.tracking.stage_runs import (
    EXPERIMENT,
    NAME,
    PARENT,
    StageRun,
    below,
    metrics_of,
    now,
    refuse,
    refuse_changes,
    refuse_collisions,
    search,
)
from mlp.core.errors import MlpError, RemoteError
from mlp.core.runs.events import Event
from mlp.core.runs.identity import new_run_id
from mlp.core.runs.recorded_run import Tag

if TYPE_CHECKING:
    from mlflow.entities import Experiment, LoggedModel, Run
    from mlflow.store.tracking.abstract_store import AbstractStore
    from mlflow.utils.async_logging.run_operations import RunOperations

Record = Callable[..., None]
# The events that were recorded so far, of one run or of all: what a script reads back.
Recorded = Callable[[str | None], Iterator[Event]]


class EventStore:
    """A tracking store for one stage.

    `record(kind, run, **data)` appends an event; `prefix` is what the names of this rank's metrics
    begin with, None for a rank that is not to record. `real_uri` is where reads go, `experiment`
    the project's there.
    """

    def __init__(
        self,
        stage_run_id: str,
        stage: str,
        directory: Path,
        real_uri: str,
        experiment: str,
        record: Record,
        recorded: Recorded,
        prefix: str | None = "",
    ) -> None:
        self._stage_run_id = stage_run_id
        self._directory = directory
        self._stage = stage
        self._real_uri = real_uri
        self._experiment_name = experiment
        self._record = record if prefix is not None else _silent
        self._recorded = recorded
        self._prefix = prefix or ""
        # Ranks write files at the same time: each has a place of its own.
        self._artifacts = "unrecorded" if prefix is None else f"artifacts/{prefix}".rstrip("/")
        # A rank that does not record has nothing that could be taken for another one's.
        claim = directory / "stages" / stage_run_id / f"adopted-{prefix or ''}".rstrip("-/")
        self._claim = claim if prefix is not None else None
        self._adopted = False
        self._runs = {stage_run_id: StageRun(stage_run_id, stage, now())}
        self._params_read: set[str] = set()
        self._models: dict[str, LoggedModel] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @cached_property
    def _real(self) -> "AbstractStore":
        from mlflow.exceptions import MlflowException
        from mlflow.tracking._tracking_service.utils import _get_store

        with opening(self._real_uri):
            if (broken := half_made(self._real_uri)) is not None:
                raise MlflowException(broken.one_line())
            store: AbstractStore = _get_store(self._real_uri)
        return store

    # --- experiments: what is written goes to the project's, whatever a script says -------------

    def get_experiment(self, experiment_id: str) -> "Experiment":
        """The project's experiment for ours, otherwise the real one."""
        if experiment_id not in (EXPERIMENT, self._experiment_id):
            found: Experiment = self._real.get_experiment(experiment_id)
            return found
        return self._experiment()

    def get_experiment_by_name(self, experiment_name: str) -> "Experiment | None":
        """The project's experiment, or another one of the server; None where there is none.

        `set_experiment` needs no server, so that a server that is away ends no script.
        """
        if experiment_name == self._experiment_name:
            return self._experiment()
        try:
            probe(self._real_uri)
        except RemoteError:
            return None
        found: Experiment | None = self._real.get_experiment_by_name(experiment_name)
        return found

    def create_experiment(self, *_: Any, **__: Any) -> str:
        """Nothing is made: a stage's run belongs to the project's experiment."""
        return self._experiment_id

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str,
        run_view_type: int,
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Any:
        """Runs of the server, and this stage's own as they are by now."""
        from mlflow.store.entities.paged_list import PagedList

        ids = [self._real_experiment if each == EXPERIMENT else each for each in experiment_ids]
        asked = [each for each in ids if each is not None]
        real: Any = PagedList([], None)
        if asked:
            real = self._real.search_runs(
                asked, filter_string, run_view_type, max_results, order_by, page_token
            )
        if not {EXPERIMENT, self._experiment_id} & {*experiment_ids} or page_token:
            return real
        known = below(self._stage_run_id, self._stage, self._recorded(None))
        theirs = [run for run in real if run.data.tags.get(Tag.RUN_ID) not in known]
        ours = search(map(self._entity, known.values()), filter_string, None)
        return PagedList(search([*theirs, *ours], "", order_by)[:max_results], real.token)

    @property
    def _real_experiment(self) -> str | None:
        """The id of the project's experiment; None before the first run is delivered."""
        found = self._real.get_experiment_by_name(self._experiment_name)
        return None if found is None else str(found.experiment_id)

    @cached_property
    def _experiment_id(self) -> str:
        """The same for whoever is told of it; MLflow's word for it where the store does not know it
        yet, or is away."""
        try:
            with opened(self._real_uri) as store:
                return store.experiment(self._experiment_name) or EXPERIMENT
        except MlpError:
            return EXPERIMENT

    def _experiment(self) -> "Experiment":
        from mlflow.entities import Experiment

        return Experiment(
            self._experiment_id, self._experiment_name, str(self._directory), "active"
        )

    # --- runs ----------------------------------------------------------------------------------

    def create_run(
        self,
        experiment_id: str,
        user_id: str,
        start_time: int,
        tags: Sequence[Any],
        run_name: str | None,
    ) -> "Run":
        """The stage's run where it is nobody's yet, else one nested below the one given, or it."""
        values = {tag.key: tag.value for tag in tags}
        parent = values.get(PARENT)
        if parent is None and not self._adopted and self._may_adopt():
            self._adopted = True
            run = self._runs[self._stage_run_id]
            self._log_tags(run, {k: v for k, v in values.items() if not k.startswith("mlflow.")})
            return self._entity(run)
        run = StageRun(new_run_id(), run_name or values.get(NAME) or "nested", now())
        self._runs[run.run_id] = run
        own = {k: v for k, v in values.items() if k not in (PARENT, NAME)}
        parent = parent or self._stage_run_id
        self._record("run_started", run.run_id, parent=parent, name=run.name, tags=own)
        run.tags |= own | {PARENT: parent}
        return self._entity(run)

    def _may_adopt(self) -> bool:
        return self._claim is None or adopt(self._claim)

    def get_run(self, run_id: str) -> "Run":
        """A run of this stage as far as this process knows it, or another from the server."""
        if self._is_ours(run_id):
            return self._entity(self._runs[run_id])
        found: Run = self._real.get_run(run_id)
        return found

    def update_run_info(
        self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None
    ) -> Any:
        """A nested run ends when the script says so, the stage's when its process has ended."""
        from mlflow.entities import RunStatus

        if not self._is_ours(run_id):
            return self._real.update_run_info(run_id, run_status, end_time, run_name)
        run = self._runs[run_id]
        status = RunStatus.to_string(run_status) if isinstance(run_status, int) else run_status
        run.status, run.ended = status or run.status, end_time
        if run_id != self._stage_run_id and status in ("FINISHED", "FAILED", "KILLED"):
            self._record("run_ended", run_id, status=status)
        return self._entity(run).info

    def _is_ours(self, run_id: str) -> bool:
        if run_id not in self._runs and (self._directory / "stages" / run_id).is_dir():
            self._runs[run_id] = StageRun(run_id, "stage", now())  # of a process beside this one
        return run_id in self._runs

    def _entity(self, run: StageRun) -> "Run":
        artifacts = self._directory / "stages" / run.run_id / self._artifacts
        artifacts.mkdir(parents=True, exist_ok=True)
        return run.entity(os.environ.get("USER", ""), artifacts)

    # --- metrics, params, tags -----------------------------------------------------------------

    def log_batch(
        self, run_id: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]
    ) -> None:
        """Append what is given to the event file."""
        if not self._is_ours(run_id):
            self._real.log_batch(run_id, metrics, params, tags)
            return
        refuse(metrics, params, tags)
        run = self._runs[run_id]
        refuse_collisions(run, metrics, params)
        steps: dict[tuple[int, int], dict[str, float]] = {}
        for metric in metrics:
            values = steps.setdefault((metric.timestamp, metric.step), {})
            values[f"{self._prefix}{metric.key}"] = float(metric.value)
            run.metrics[metric.key] = metric
        for (timestamp, step), values in steps.items():
            self._record("metrics", run_id, values=values, step=step, timestamp=timestamp)
        if params:
            given = {param.key: str(param.value) for param in params}
            self._read_params(run)
            refuse_changes(run.params, given)
            run.params |= given
            self._record("params", run_id, values=given)
        self._log_tags(run, {tag.key: str(tag.value) for tag in tags})

    def _read_params(self, run: StageRun) -> None:
        """Once, what other processes of the stage have logged: the server refuses a change.

        Ranks that train together log the same params, each with values of its own.
        """
        alone = os.environ.get("WORLD_SIZE", "1") == "1"
        if alone and run.run_id not in self._params_read:
            self._params_read.add(run.run_id)
            for event in self._recorded(run.run_id):
                if event.kind == "params":
                    run.params = event.data["values"] | run.params

    def log_metric(self, run_id: str, metric: Any) -> None:
        """One metric value."""
        self.log_batch(run_id, [metric], [], [])

    def log_param(self, run_id: str, param: Any) -> None:
        """One param."""
        self.log_batch(run_id, [], [param], [])

    def set_tag(self, run_id: str, tag: Any) -> None:
        """One tag."""
        self.log_batch(run_id, [], [], [tag])

    def log_batch_async(
        self, run_id: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]
    ) -> "RunOperations":
        """The same: appending does not block."""
        from mlflow.utils.async_logging.run_operations import RunOperations

        self.log_batch(run_id, metrics, params, tags)
        done: Future[None] = Future()
        done.set_result(None)
        return RunOperations([done])

    def log_metric_async(self, run_id: str, metric: Any) -> "RunOperations":
        """One metric value."""
        return self.log_batch_async(run_id, [metric], [], [])

    def log_param_async(self, run_id: str, param: Any) -> "RunOperations":
        """One param."""
        return self.log_batch_async(run_id, [], [param], [])

    def set_tag_async(self, run_id: str, tag: Any) -> "RunOperations":
        """One tag."""
        return self.log_batch_async(run_id, [], [], [tag])

    def flush_async_logging(self) -> None:
        """Nothing waits."""

    def end_async_logging(self) -> None:
        """Nothing waits."""

    def shut_down_async_logging(self) -> None:
        """Nothing waits."""

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: Any = None
    ) -> Any:
        """All values of a metric, from the event file or the server."""
        from mlflow.store.entities.paged_list import PagedList

        if not self._is_ours(run_id):
            return self._real.get_metric_history(run_id, metric_key, max_results, page_token)
        values = [
            metric
            for event in self._recorded(run_id)
            if event.kind == "metrics"
            for metric in metrics_of(event)
            if metric.key == metric_key
        ]
        return PagedList(values, None)

    def _log_tags(self, run: StageRun, tags: dict[str, str]) -> None:
        if tags:
            run.tags |= tags
            self._record("tags", run.run_id, values=tags)

    # --- data and models -----------------------------------------------------------------------

    def log_inputs(
        self, run_id: str, datasets: Sequence[Any] | None = None, models: Any = None
    ) -> None:
        """The datasets that a script says it used."""
        if not self._is_ours(run_id):
            self._real.log_inputs(run_id, datasets, models)
            return
        items = [
            {
                "name": item.dataset.name,
                "digest": item.dataset.digest,
                "source_type": item.dataset.source_type,
                "source": item.dataset.source,
                "schema": item.dataset.schema,
                "profile": item.dataset.profile,
                "context": next((t.value for t in item.tags if t.key.endswith(".context")), None),
            }
            for item in datasets or []
        ]
        if items:
            self._record("inputs", run_id, datasets=items)

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Sequence[Any] | None = None,
        params: Sequence[Any] | None = None,
        model_type: str | None = None,
    ) -> "LoggedModel":
        """A model with a directory in the run's, made on the server once it is complete."""
        from mlflow.entities import LoggedModel, LoggedModelStatus
        from mlflow.utils import validation

        validation._validate_logged_model_name(name)
        model_id = f"m-{new_run_id()}"
        directory = self._directory / "models" / model_id
        directory.mkdir(parents=True)
        model = LoggedModel(
            experiment_id,
            model_id,
            name or "model",
            str(directory),
            now(),
            now(),
            model_type,
            source_run_id or self._stage_run_id,
            LoggedModelStatus.PENDING,
            tags=list(tags or []),
            params=list(params or []),
        )
        self._models[model_id] = model
        return model

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> "LoggedModel":
        """A model of this process, or another from the server."""
        if model_id in self._models:
            return self._models[model_id]
        found: LoggedModel = self._kept(model_id) or self._real.get_logged_model(model_id)
        return found

    def _kept(self, model_id: str) -> "LoggedModel | None":
        """A model that another stage or an earlier run logged under this id, and is kept here."""
        from mlflow.entities import LoggedModel

        path = next(self._directory.parent.glob(f"*/models/{model_id}"), None)
        if path is None:
            return None
        return LoggedModel(EXPERIMENT, model_id, "model", str(path), now(), now())

    def set_logged_model_tags(self, model_id: str, tags: Sequence[Any]) -> None:
        """Tags of a model."""
        if model_id not in self._models:
            self._real.set_logged_model_tags(model_id, list(tags))
            return
        self._models[model_id].tags.update({tag.key: tag.value for tag in tags})

    def log_logged_model_params(self, model_id: str, params: Sequence[Any]) -> None:
        """Params of a model."""
        if model_id not in self._models:
            self._real.log_logged_model_params(model_id, list(params))
            return
        self._models[model_id].params.update({param.key: param.value for param in params})

    def finalize_logged_model(self, model_id: str, status: Any) -> "LoggedModel":
        """The model is complete: from now on it is an event."""
        if model_id not in self._models:
            done: LoggedModel = self._real.finalize_logged_model(model_id, status)
            return done
        model = self._models[model_id]
        model.status = status
        self._record(
            "model",
            model.source_run_id,
            model=model_id,
            name=model.name,
            path=model.artifact_location,
            tags=dict(model.tags),
            params=dict(model.params),
            type=model.model_type,
            status=str(getattr(status, "value", status)),
        )
        return model

    def log_outputs(self, run_id: str, models: Sequence[Any]) -> None:
        """A run's models; the server learns of them with the model itself."""
        if self._is_ours(run_id):
            self._runs[run_id].models += models
        else:
            self._real.log_outputs(run_id, list(models))

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """MLflow's former way of noting a model on its run: told by `model` events here."""


def _silent(*_: Any, **__: Any) -> None:
    """What a rank records that is not to."""
