"""What MLflow calls for an address `mlp://`: the tracking store of the stage that it runs in."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlp.adapters.base import event_file
from mlp.adapters.tracking.stage_store import EventStore
from mlp.core.errors import UsageError
from mlp.core.layout import RunLayout
from mlp.core.runs import environment
from mlp.core.runs.events import Event
from mlp.core.runs.run_header import RunHeader
from mlp.core.secrets import Masker


def make(store_uri: str, artifact_uri: str | None = None, **_: Any) -> EventStore:
    """The store of this process's stage. Raises UsageError outside of one."""
    stage = environment.stage()
    if stage is None:
        raise UsageError(
            f"{store_uri} is the tracking address inside a stage that `mlp run` started",
            fix="unset MLFLOW_TRACKING_URI, or run the script as a stage",
        )
    layout = RunLayout(Path(stage.run_dir))

    def recorded(run_id: str | None) -> Iterator[Event]:
        for path in event_file.files(str(layout.events)):
            for event, _ in event_file.read(path):
                if event is not None and run_id in (None, event.run):
                    yield event

    return EventStore(
        stage_run_id=stage.stage_run_id,
        stage=stage.name,
        directory=layout.path,
        real_uri=os.environ[environment.TRACKING_URI],
        experiment=RunHeader.from_json(layout.header.read_text(encoding="utf-8")).experiment,
        record=event_file.EventFile(str(layout.events), Masker(os.environ).text).record,
        recorded=recorded,
        prefix=environment.rank_prefix(stage),
    )
