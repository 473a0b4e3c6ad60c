"""The runs of a stage as a process in it knows them: its own, and those of the event file."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.tracking.names import accepted
from mlp.core.runs.events import Event

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

PARENT, NAME = "mlflow.parentRunId", "mlflow.runName"
# By this id MLflow's calls mean "the experiment": in a stage that is the project's.
EXPERIMENT = "0"


@dataclass
class StageRun:
    """One run. Times are in milliseconds since the epoch."""

    run_id: str
    name: str
    started: int
    status: str = "RUNNING"
    ended: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, "Metric"] = field(default_factory=dict)
    models: list[Any] = field(default_factory=list)
    # As names of metrics and params are delivered -> as they were logged.
    spelled: dict[tuple[str, str], str] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """What an event says of the run."""
        data = event.data
        if event.kind == "run_started":
            self.name = data.get("name") or self.name
            self.started = int(event.at * 1000)
            self.tags |= data.get("tags", {})
            self.tags |= {PARENT: data["parent"]} if data.get("parent") else {}
        elif event.kind == "run_ended":
            self.status, self.ended = data["status"], int(event.at * 1000)
        elif event.kind == "params":
            self.params |= data["values"]
        elif event.kind == "tags":
            self.tags |= data["values"]
        elif event.kind == "metrics":
            self.metrics |= {metric.key: metric for metric in metrics_of(event)}

    def entity(self, user: str, artifacts: Path) -> "Run":
        """The run as MLflow's calls give it."""
        from mlflow.entities import Param, Run, RunData, RunInfo, RunOutputs, RunTag

        info = RunInfo(
            run_id=self.run_id,
            experiment_id=EXPERIMENT,
            user_id=user,
            status=self.status,
            start_time=self.started,
            end_time=self.ended,
            lifecycle_stage="active",
            artifact_uri=str(artifacts),
            run_name=self.name,
        )
        data = RunData(
            metrics=list(self.metrics.values()),
            params=[Param(k, v) for k, v in self.params.items()],
            tags=[RunTag(k, v) for k, v in (self.tags | {NAME: self.name}).items()],
        )
        return Run(info, data, run_outputs=RunOutputs(list(self.models)))


def metrics_of(event: Event) -> "list[Metric]":
    """The values in an event of metrics."""
    from mlflow.entities import Metric

    timestamp = event.data.get("timestamp") or int(event.at * 1000)
    step = event.data.get("step") or 0
    return [Metric(k, v, timestamp, step) for k, v in event.data["values"].items()]


def below(stage_run_id: str, stage: str, events: Iterable[Event]) -> dict[str, StageRun]:
    """The stage's run and all that are nested below it, by id, as events tell of them."""
    found = {stage_run_id: StageRun(stage_run_id, stage, now())}
    for event in sorted(events, key=lambda event: event.at):
        if event.kind == "run_started" and event.data.get("parent") in found:
            found.setdefault(event.run, StageRun(event.run, "nested", now()))
        if event.run in found:
            found[event.run].take(event)
    return found


def search(runs: Iterable["Run"], question: str, order: Iterable[str] | None) -> "list[Run]":
    """Those runs that MLflow's filter `question` lets through, in MLflow's order."""
    from mlflow.utils.search_utils import SearchUtils

    found = SearchUtils.filter(list(runs), question)
    ordered: list[Run] = SearchUtils.sort(found, list(order or ()))
    return ordered


def now() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def refuse_changes(known: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Raise as the server would, while the script that did it can still be told."""
    from mlflow.exceptions import MlflowException

    for name, value in given.items():
        if known.get(name, value) != value:
            raise MlflowException.invalid_parameter_value(
                f"Changing param values is not allowed. Param with key='{name}' was already logged "
                f"with value='{known[name]}'. Attempted logging new value '{value}'."
            )


def refuse_collisions(run: StageRun, metrics: Iterable[Any], params: Iterable[Any]) -> None:
    """Raise for a name that would be delivered as another one's: it would take its place."""
    from mlflow.exceptions import MlflowException

    for kind, items in (("metric", metrics), ("param", params)):
        for item in items:
            delivered = accepted(item.key)
            other = run.spelled.setdefault((kind, delivered), item.key)
            if other != item.key:
                raise MlflowException.invalid_parameter_value(
                    f"the {kind} {item.key!r} would be recorded as {delivered!r}, as {other!r} is"
                )


def refuse(metrics: Iterable[Any], params: Iterable[Any], tags: Iterable[Any]) -> None:
    """Raise MLflow's own exception for what the server will refuse as it will be delivered."""
    from mlflow.utils import validation

    for metric in metrics:
        name = accepted(metric.key)
        validation._validate_metric(name, metric.value, metric.timestamp, metric.step)
    for param in params:
        validation._validate_param_name(accepted(param.key))
    for tag in tags:
        validation._validate_tag_name(accepted(tag.key))
