"""Delivers events to MLflow: in order, in batches, and the same when one is delivered twice."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.tracking.client import client
from mlp.adapters.tracking.mlflow_errors import Refused, translated
from mlp.adapters.tracking.model_logging import deliver_model
from mlp.adapters.tracking.names import accepted
from mlp.adapters.tracking.sqlite_store import make_unlisted
from mlp.core.errors import RemoteError
from mlp.core.runs.events import Event
from mlp.core.runs.recorded_run import Tag
from mlp.core.runs.tracking_uri import artifacts_beside

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, RunTag

# MLflow's limits on one request, and on one value.
_METRICS, _PARAMS, _TAGS = 1000, 100, 100
_PARAM_LENGTH, _TAG_LENGTH = 6000, 8000
_log = logging.getLogger(__name__)


class Delivery:
    """One connection to the server at `uri`, delivering to `experiment`.

    `ids` maps our run ids to MLflow's; it grows, and whoever calls keeps it. `directory` is the
    run's own, where the files lie that its runs logged. `continues` is the MLflow run that the
    pipeline's is to be, where there is one already (`mlflow run`). With `joins` the runs are
    made by another machine: one that is not there yet is waited for.

    Errors: RemoteError where the server is away (deliver the same events again later),
    ConfigurationError where it cannot be used.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        directory: Path,
        ids: dict[str, str] | None = None,
        continues: str | None = None,
        *,
        joins: bool = False,
    ) -> None:
        self.ids = ids if ids is not None else {}
        self.refused: list[str] = []  # what MLflow refused for good since whoever calls emptied it
        self._uri = uri
        self._joins = joins
        self._directory = directory
        self._client = client(uri)
        with translated(uri):
            if continues:
                self._experiment_id = self._client.get_run(continues).info.experiment_id
            else:
                self._experiment_id = self._experiment(experiment)

    def deliver(self, events: Sequence[Event]) -> None:
        """Deliver events in their order; what MLflow refuses for good is logged and left out."""
        for (run, batched), group in groupby(events, lambda e: (e.run, e.kind in _BATCHED)):
            if batched:
                self._batch(run, list(group))
                continue
            for event in group:
                handler = _HANDLERS.get(event.kind, Delivery._nothing)
                self._attempt(partial(handler, self, event), event.kind)

    def mlflow_id(self, run: str) -> str:
        """MLflow's id of our run `run`; raises Refused for a run that never started."""
        if run not in self.ids:
            found = self._search(run)
            if found is None and self._joins:
                raise RemoteError(f"run {run} is not on {self._uri} yet")
            if found is None:
                raise Refused(f"run {run} never started")
            self.ids[run] = found
        return self.ids[run]

    def _attempt(self, call: Callable[[], object], what: str) -> bool:
        try:
            with translated(self._uri):
                call()
        except Refused as e:
            _log.warning("not delivered: %s: %s", what, e.message)
            self.refused.append(f"{what}: {e.message}")
            return False
        return True

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        location = None
        if self._uri.startswith("sqlite:///"):
            # MLflow's default is relative to whatever directory the process happens to be in.
            folder = artifacts_beside(self._uri)
            location = str(folder)
            make_unlisted(folder)
        return str(self._client.create_experiment(name, artifact_location=location))

    def _search(self, run: str) -> str | None:
        query = f"tags.`{Tag.RUN_ID}` = '{run}'"
        found = self._client.search_runs([self._experiment_id], query, max_results=1)
        return str(found[0].info.run_id) if found else None

    # --- runs ----------------------------------------------------------------------------------

    def _start(self, event: Event) -> None:
        run, data = event.run, event.data
        tags = {Tag.RUN_ID: run, **data.get("tags", {})}
        if data.get("parent"):
            tags[Tag.PARENT] = self.mlflow_id(data["parent"])
        if data.get("stage"):
            tags |= {Tag.STAGE: data["stage"], Tag.KIND: "stage"}
        known = self.ids.get(run) or data.get("mlflow_id") or self._search(run)
        if known is None:
            made = self._client.create_run(
                self._experiment_id,
                start_time=int(event.at * 1000),
                tags={name: str(value)[:_TAG_LENGTH] for name, value in tags.items()},
                run_name=data.get("name"),
            )
            self.ids[run] = made.info.run_id
            return
        self.ids[run] = known
        self._client.update_run(known, status="RUNNING")
        self._batch(run, [Event(event.at, "tags", run, {"values": tags})])

    def _end(self, event: Event) -> None:
        run = self.mlflow_id(event.run)
        kept = self._directory / "stages" / event.run / "artifacts"
        if kept.is_dir() and any(kept.iterdir()):
            self._client.log_artifacts(run, str(kept))
        self._client.set_terminated(run, event.data["status"], int(event.at * 1000))

    # --- what is batched -----------------------------------------------------------------------

    def _batch(self, run: str, events: Sequence[Event]) -> None:
        metrics, params, tags = _entities(events)
        if not self._attempt(partial(self.mlflow_id, run), f"events of run {run}"):
            return
        parts = [
            *(({"metrics": part}) for part in _chunks(metrics, _METRICS)),
            *(({"params": part}) for part in _chunks(params, _PARAMS)),
            *(({"tags": part}) for part in _chunks(tags, _TAGS)),
        ]
        for part in parts:
            self._log_batch(self.mlflow_id(run), part)

    def _log_batch(self, run: str, part: Mapping[str, Sequence[Any]]) -> None:
        """One request; where it is refused, each entry by itself: only the bad ones miss."""
        ((kind, entries),) = part.items()

        def send(some: Sequence[Any]) -> None:
            self._client.log_batch(run, **{kind: some})

        what = f"{kind} {', '.join(e.key for e in entries[:3])}"
        if len(entries) == 1:
            self._attempt(lambda: send(entries), what)
            return
        try:
            with translated(self._uri):
                send(entries)
        except Refused:
            for entry in entries:
                self._log_batch(run, {kind: [entry]})

    # --- files and data ------------------------------------------------------------------------

    def _file(self, event: Event) -> None:
        path = self._directory / event.data["path"]
        if path.is_dir():
            self._client.log_artifacts(self.mlflow_id(event.run), str(path), event.data["to"])
        elif path.exists():
            self._client.log_artifact(self.mlflow_id(event.run), str(path), event.data["to"])
        else:
            _log.warning("not delivered: the file %s is gone", path)

    def _inputs(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        datasets = [
            DatasetInput(
                Dataset(
                    name=item["name"][:500],
                    digest=item["digest"][:36],
                    source_type=item.get("source_type", "dvc"),
                    source=item.get("source") or json.dumps({"path": item["name"]}),
                    schema=item.get("schema"),
                    profile=item.get("profile"),
                ),
                [InputTag("mlflow.data.context", item["context"])] if item.get("context") else [],
            )
            for item in event.data["datasets"]
        ]
        for part in _chunks(datasets, _TAGS):
            self._client.log_inputs(self.mlflow_id(event.run), part)

    def _model(self, event: Event) -> None:
        run = self.mlflow_id(event.run)
        deliver_model(self._client, self._experiment_id, {event.run: run}, event.data)

    def _cached(self, event: Event) -> None:
        """Link a cached stage's run to the run that did the work, wherever that was."""
        query = (
            f"tags.`{Tag.FINGERPRINT}` = '{event.data['fingerprint']}'"
            f" and tags.`{Tag.OUTCOME}` = 'ran' and attributes.status = 'FINISHED'"
        )
        found = self._client.search_runs([self._experiment_id], query, max_results=1)
        if found:
            made_by = found[0].data.tags.get(Tag.RUN_ID, found[0].info.run_id)
            self._client.set_tag(self.mlflow_id(event.run), Tag.CACHED_FROM, made_by)

    def _nothing(self, event: Event) -> None:
        """An event for people who read the event file."""


_BATCHED = ("metrics", "params", "tags")
_HANDLERS: dict[str, Callable[[Delivery, Event], None]] = {
    "run_started": Delivery._start,
    "run_ended": Delivery._end,
    "file": Delivery._file,
    "inputs": Delivery._inputs,
    "model": Delivery._model,
    "cached": Delivery._cached,
    "command": Delivery._nothing,
    "dropped": Delivery._nothing,
}


def _entities(
    events: Iterable[Event],
) -> tuple[list["Metric"], list["Param"], list["RunTag"]]:
    from mlflow.entities import Metric, Param, RunTag

    metrics: list[Metric] = []
    params: list[Param] = []
    tags: list[RunTag] = []
    for event in events:
        values = {accepted(k): v for k, v in event.data["values"].items()}
        if event.kind == "metrics":
            at = int(event.data.get("timestamp") or event.at * 1000)
            step = int(event.data.get("step") or 0)
            metrics += [Metric(*number, at, step) for number in _numbers(values)]
        elif event.kind == "params":
            params += [Param(name, str(value)[:_PARAM_LENGTH]) for name, value in values.items()]
        else:
            tags += [RunTag(name, str(value)[:_TAG_LENGTH]) for name, value in values.items()]
    return metrics, params, tags


def _numbers(values: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    for name, value in values.items():
        try:
            yield name, float(value)
        except (TypeError, ValueError):
            _log.warning("not delivered: metric %s: %r is not a number", name, value)


def _chunks(items: Sequence[Any], size: int) -> Iterable[list[Any]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
