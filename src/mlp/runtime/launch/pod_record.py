"""The record of a run in a pod: delivered from there, and kept in the DVC remote where it is not.

A pod may be gone the next moment. What the tracking server has not got of its events goes to the
job's folder every few seconds, from where whoever submitted the job delivers it.
"""

import logging
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from mlp.adapters.base import lock, statefile
from mlp.core.launch import job_spec as jobs
from mlp.core.launch.job_spec import JobSpec
from mlp.core.layout import RunLayout
from mlp.core.runs import environment
from mlp.runtime.launch import pod

_EVERY_S = 10.0
# How long the server is tried at the pod's end, which waits for it.
_PATIENCE_S = 20.0
_log = logging.getLogger(__name__)


class PodRecord:
    """Delivers what this pod records, from now until `close`."""

    def __init__(self, spec: JobSpec, run: RunLayout) -> None:
        self._spec = spec
        self._run = run
        self._kept: dict[Path, int] = {}
        self._closing = threading.Event()
        self._recorder = self._start_recorder() if spec.tracking_uri else None
        self._alive = ExitStack()
        self._alive.enter_context(lock.held(run.alive))
        self._thread = threading.Thread(target=self._keep_safe, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Deliver the rest; what cannot be is kept with all that belongs to it."""
        self._closing.set()
        self._thread.join()
        self._alive.close()
        if self._recorder is not None:
            self._recorder.wait()
        if not self._delivered():
            self._keep_everything()

    def _start_recorder(self) -> "subprocess.Popen[bytes]":
        variables = os.environ | environment.QUIET
        variables[environment.TRACKING_URI] = self._spec.tracking_uri or ""
        with self._run.recorder_log.open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "mlp.runtime.runs.recorder", f"--patience={_PATIENCE_S}"),
                    str(self._run.path),
                ],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _keep_safe(self) -> None:
        """Every few seconds, put what is new in event files where it outlives this pod."""
        while not self._closing.wait(_EVERY_S):
            offsets = self._delivery().get("offsets", {})
            for path in self._run.events.glob("*.jsonl"):
                size = path.stat().st_size
                if size > max(self._kept.get(path, 0), offsets.get(path.name, 0)):
                    self._keep(path, size)

    def _keep(self, path: Path, size: int) -> None:
        from mlp.adapters import data
        from mlp.core.errors import MlpError

        name = f"{pod.folder(self._spec)}/{jobs.RECORD}/{path.relative_to(self._run.path)}"
        try:
            data.storage_of(self._spec.remote).put(path, name)
        except MlpError as e:  # it is tried again in a few seconds
            _log.warning("%s", e.one_line())
            return
        self._kept[path] = size

    def _keep_everything(self) -> None:
        """Events and the files that they speak of; checkpoints are not part of the record."""
        for path in sorted(self._run.path.rglob("*")):
            part = path.relative_to(self._run.path)
            if path.is_file() and "checkpoints" not in part.parts and part.suffix != ".lock":
                self._keep(path, path.stat().st_size)

    def _delivered(self) -> bool:
        return bool(self._delivery().get("done"))

    def _delivery(self) -> dict[str, dict[str, int]]:
        return statefile.read(self._run.delivery)
