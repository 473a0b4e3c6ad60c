"""The main container of a pod: runs the stage's command as one node of the gang.

`python -m mlp.runtime.launch.pod_worker`; the job is in the environment, the workspace is prepared.
Node 0 takes the outputs into DVC's cache, pushes them, and leaves a result for whoever submitted
the job.
"""

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlp.adapters.base import logfile, statefile
from mlp.adapters.base.event_file import EventFile
from mlp.core.explain.failure import ANOTHER_FAILED
from mlp.core.launch import job_spec as jobs
from mlp.core.launch.job_spec import JobSpec
from mlp.core.runs import environment
from mlp.core.runs.identity import stage_run_id
from mlp.core.runs.recorded_run import Tag
from mlp.core.secrets import Masker
from mlp.runtime.launch import pod
from mlp.runtime.launch.finish_line import DONE, FAILED, FinishLine, Member
from mlp.runtime.launch.pod_record import PodRecord
from mlp.runtime.runs import stage_command
from mlp.runtime.runs.output import run_teed

_LAST_LINES = 20
_INTERRUPTED = 128 + signal.SIGTERM


class PodWorker:
    """One node of the gang, from its start to its end."""

    def __init__(self, spec: JobSpec, node: int) -> None:
        self._spec = spec
        self._node = node
        self._stage_run = stage_run_id(spec.run_id, spec.stage)
        self._run = pod.run_layout(spec)
        self._asked_to_end = False
        self._masker = Masker(os.environ)
        self._record: PodRecord | None = None
        self._journal = EventFile(str(self._run.events), self._masker.text)
        self._lost = Path(jobs.POD_ROOT) / "lost"
        self._line: FinishLine | Member | None = None

    def run(self) -> int:
        """Returns the container's exit code."""
        if self._node == 0 or self._spec.launch.log_all_ranks:
            self._record = PodRecord(self._spec, self._run)
        try:
            return self._run_command()
        finally:
            if self._record is not None:
                self._record.close()

    def _run_command(self) -> int:
        try:
            self._meet()
        except TimeoutError as e:
            pod.report("rendezvous", f"node 0 was not reached: {e}")
            return jobs.EXIT_LOST
        self._record_place()
        code = self._until_it_ends()
        elsewhere = self._line is not None and self._line.failed
        known = statefile.read(self._run.failure(self._stage_run)) if code != 0 else {}
        if known and (elsewhere or not self._asked_to_end):  # it says more than any exit code
            return self._end_failed(known["message"], None, tell=True, fix=known["fix"])
        if elsewhere:
            return self._end_failed(ANOTHER_FAILED, code, tell=False)
        if self._asked_to_end:
            return _INTERRUPTED
        if self._lost.exists():
            pod.report("rendezvous", self._lost.read_text(encoding="utf-8"))
            return jobs.EXIT_LOST
        if code != 0:
            return self._end_failed(f"the command ended with exit code {code}", code, tell=True)
        return self._finish()

    def _meet(self) -> None:
        """Keep a connection between node 0 and each other one. Raises TimeoutError."""
        if self._spec.launch.nodes == 1:
            return
        if self._node == 0:
            self._line = FinishLine(jobs.FINISH_PORT, _end_command)
            return
        self._line = Member(
            _address(self._spec), jobs.FINISH_PORT, self._spec.rendezvous_timeout, _end_command
        )

    def _until_it_ends(self) -> int:
        """The command's exit code, after the restarts that it may have."""
        alone = self._spec.launch.world_size == 1
        for _ in range(self._spec.launch.max_restarts + 1 if alone else 1):
            code = run_teed(
                self._command_line(),
                self._environment(),
                str(self._run.log(self._stage_run)),
                self._masker,
                self._note_end,
            )
            if code == 0 or self._asked_to_end:
                break
        return code

    def _note_end(self, _: int) -> None:
        self._asked_to_end = True

    def _command_line(self) -> Sequence[str]:
        spec = self._spec
        # DVC starts each command of a stage in a shell of its own.
        text = " && ".join(f"/bin/sh -c {shlex.quote(c)}" for c in spec.commands)
        text = spec.commands[0] if len(spec.commands) == 1 else text
        if spec.launch.world_size == 1:
            return stage_command.in_shell(text, "/bin/sh")
        how = (text, "/bin/sh", spec.launch, sys.executable)
        if spec.launch.nodes == 1:
            return stage_command.in_gang(*how, show_all_ranks=spec.show_all_ranks)
        rendezvous = [
            f"--nnodes={spec.launch.nodes}",
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={_address(spec)}:{jobs.RENDEZVOUS_PORT}",
            f"--rdzv-id={spec.name}",
            f"--rdzv-conf=is_host={self._node == 0},join_timeout={spec.rendezvous_timeout}",
        ]
        return stage_command.in_gang(*how, rendezvous, show_all_ranks=spec.show_all_ranks)

    def _environment(self) -> dict[str, str]:
        spec = self._spec
        ours = {
            environment.RUN_ID: spec.run_id,
            environment.RUN_DIR: str(self._run.path),
            # Without a server that the pods know, MLflow's reading calls find nothing.
            environment.TRACKING_URI: spec.tracking_uri or f"sqlite:///{jobs.POD_ROOT}/mlflow.db",
            environment.GANG_LOST: str(self._lost),
            "MLP_IMAGE": spec.image,
        }
        if spec.checkpoints:
            place = f"{spec.checkpoints}/{pod.folder(spec)}"
            ours[environment.CHECKPOINTS] = f"{place}/{jobs.CHECKPOINTS}"
        given = {k: v for k, v in os.environ.items() if k != jobs.SPEC_VARIABLE}
        if "endpointurl" in spec.remote:
            given.setdefault("AWS_ENDPOINT_URL", spec.remote["endpointurl"])
        return stage_command.variables({**given, **ours}, spec.stage, self._stage_run, spec.launch)

    def _record_place(self) -> None:
        if self._node != 0:
            return
        tags = {
            Tag.JOB: self._spec.name,
            Tag.POD: os.environ.get("MLP_POD", ""),
            Tag.NODE: os.environ.get("MLP_NODE", ""),
            Tag.IMAGE: self._spec.image,
            Tag.WORLD_SIZE: str(self._spec.launch.world_size),
        }
        self._journal.record("tags", self._stage_run, values=tags)

    def _end_failed(self, message: str, code: int | None, *, tell: bool, fix: str = "") -> int:
        """The end for good; every pod that comes after this one ends with the same words.

        `fix` is what to do where it is no failure of the user's code, which has no exit code then.
        """
        lines = logfile.last_lines(self._run.log(self._stage_run), _LAST_LINES)
        words: dict[str, Any] = {"phase": "code", "message": message, "code": code, "log": lines}
        words |= {"fix": fix, "node": self._node}
        others = None if tell else self._last_word()
        pod.report(**(others or words))
        if self._node == 0:
            self._journal.record("run_ended", self._stage_run, status="FAILED")
        try:
            if tell or (self._node == 0 and others is None):
                self._leave_word(words)
        finally:
            if isinstance(self._line, Member) and tell:
                self._line.report_failure()
        if isinstance(self._line, FinishLine):
            self._line.announce(FAILED)
        return jobs.EXIT_FAILED

    def _leave_word(self, words: Mapping[str, Any]) -> None:
        from mlp.adapters import data
        from mlp.core.errors import RemoteError

        text = self._masker.data(json.dumps(words).encode())
        name = f"{pod.folder(self._spec)}/{jobs.FAILED}"
        storage = data.storage_of(self._spec.remote)
        try:
            pod.patiently(self._spec, lambda: storage.write(name, text))
        except RemoteError as e:  # this pod's own report says it, too
            pod.note(e.one_line())

    def _last_word(self) -> dict[str, Any] | None:
        """What the node that failed left: should the cluster forget that one, this one says it."""
        from mlp.adapters import data
        from mlp.core.errors import MlpError

        try:
            text = data.storage_of(self._spec.remote).read(
                f"{pod.folder(self._spec)}/{jobs.FAILED}"
            )
        except MlpError:
            return None  # its own pod has the words, too
        found: dict[str, Any] | None = None if text is None else json.loads(text)
        return found

    def _finish(self) -> int:
        if isinstance(self._line, Member):
            if self._line.wait():
                return 0
            pod.report("rendezvous", "node 0 was lost before it had stored the outputs")
            return jobs.EXIT_LOST
        from mlp.core.errors import MlpError, RemoteError

        try:
            pod.patiently(self._spec, self._store_outputs)
        except MlpError as e:
            if isinstance(e, RemoteError):
                pod.report("outputs", e.one_line())
                return jobs.EXIT_LOST
            return self._end_failed(e.one_line(), 1, tell=True)
        if self._line is not None:
            self._line.announce(DONE)
        return 0

    def _store_outputs(self) -> None:
        """Push the outputs and leave the result, which is last: where it is, all is."""
        from mlp.adapters import bundle, data
        from mlp.core.errors import ConfigurationError

        spec = self._spec
        root = Path(jobs.POD_CODE) / spec.root
        began = time.monotonic()
        made = data.commit(root, spec.stage)
        storage = data.storage_of(spec.remote)
        if any(item.digest is not None for item in made):
            data.push(root, [spec.stage])
        files = [
            str(path.relative_to(root))
            for item in made
            if item.digest is None
            for path in _files(root / item.path)
        ]
        digest = None
        if files:
            archive = bundle.make(root, files, Path(jobs.POD_ROOT) / "files", limit=2**40)
            if archive.left_out:
                reasons = "; ".join(f"{name}: {why}" for name, why in archive.left_out.items())
                raise ConfigurationError(f"outputs that cannot travel: {reasons}")
            storage.put(archive.path, f"{pod.folder(spec)}/{jobs.FILES}")
            digest = archive.digest
        result = {
            "outs": [asdict(item) for item in made],
            "inputs": data.input_states(root, spec.stage),
            "files": digest,
        }
        storage.write(f"{pod.folder(spec)}/{jobs.RESULT}", json.dumps(result, default=str).encode())
        self._journal.record("run_ended", self._stage_run, status="FINISHED")
        seconds = time.monotonic() - began
        print(f"outputs stored in {seconds:.1f} s", file=sys.stderr)  # noqa: T201 - the pod's log


def _address(spec: JobSpec) -> str:
    """Node 0's name in the cluster's DNS."""
    return f"{spec.name}-0.{spec.name}"


def _files(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if not p.is_dir()] if path.is_dir() else [path]


def _end_command() -> None:
    """Make `run_teed` end what it runs."""
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Run this pod's part of the job; returns the container's exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_INTERRUPTED))
    spec = pod.spec()
    os.chdir(Path(jobs.POD_CODE) / spec.workdir)
    return PodWorker(spec, pod.node()).run()


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
