"""What the stage shell starts in place of a command whose stage has a target.

`python -m mlp.flows.remote_stage COMMAND`, in the stage's directory. Submits the job, shows what
its first rank prints, and puts its outputs in place; ends with the exit code of the user's code.
Ctrl-C leaves the job alone, a second one cancels it.
"""

import getpass
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters import cluster, data
from mlp.adapters.cluster import Cluster, JobState, Phase
from mlp.adapters.journal import Journal
from mlp.core import environment
from mlp.core import job as jobs
from mlp.core.errors import ConfigurationError, MlpError, RemoteError, UserCodeError
from mlp.core.health import Verdict
from mlp.core.layout import RunLayout
from mlp.core.secrets import Masker
from mlp.core.targets import KubernetesTarget, with_gpus
from mlp.flows import project as projects
from mlp.flows import receiving, submission, target_checks
from mlp.flows.submission import Submitted

if TYPE_CHECKING:
    from mlp.core.explanation import Explanation

# How long a second Ctrl-C has to come.
_SECOND_THOUGHT_S = 3.0
_LOG_END_S = 15.0


class RemoteStage:
    """One stage's job, from its submission to its outputs."""

    def __init__(self, header: Mapping[str, Any], run: RunLayout, stage: environment.Stage) -> None:
        self._header = header
        self._run = run
        self._stage = stage
        self._name = str(stage.launch["target"])
        self._target = with_gpus(
            KubernetesTarget.model_validate(header["targets"][self._name]), stage.launch.get("gpus")
        )
        self._project = projects.load(run.project, env=header["env"], settings=header["settings"])
        self._place = submission.Place.of(data.root(run.project) or run.project, Path.cwd())
        self._cluster = Cluster(self._target.context, self._target.namespace)
        self._masker = Masker(os.environ)
        self._marker = run.job(stage.stage_run_id)

    def run(self) -> int:
        """Returns the exit code of the stage's command."""
        if self._done_before():
            return 0
        for left in (self._run.detached, self._run.failure):  # by an earlier life of the run
            left(self._stage.stage_run_id).unlink(missing_ok=True)
        submitted = self._submit()
        if self._header.get("detach"):
            return self._detach(submitted)
        try:
            state = self._follow(submitted)
        except KeyboardInterrupt:
            return self._interrupted(submitted)
        return self._end(submitted, state)

    def _done_before(self) -> bool:
        """Whether this is a later command of a stage with several: the job has run them all."""
        try:
            return bool(json.loads(self._marker.read_text(encoding="utf-8"))["received"])
        except (FileNotFoundError, ValueError):
            return False

    def _submit(self) -> Submitted:
        self._mark(None, ended=False)
        attached = self._header.get("attach")
        if attached:
            found = cluster.get_job(self._cluster, attached)
            submitted = Submitted(cluster.spec_of(found), found["metadata"]["uid"], False)
        else:
            submitted = self._submit_anew()
        self._mark(submitted, ended=False)
        how = "joined" if submitted.joined else "runs as"
        self._note(
            f"{self._stage.name} {how} job {submitted.spec.name} on {self._name}"
            + (f", submitted by run {submitted.spec.run_id[:8]}" if submitted.joined else "")
        )
        journal = Journal(str(self._run.events), self._masker.text)
        tags = {"mlp.job": submitted.spec.name, "mlp.target": self._name}
        if submitted.joined:
            tags["mlp.ran_in"] = submitted.spec.run_id
        journal.record("tags", self._stage.stage_run_id, values=tags)
        return submitted

    def _submit_anew(self) -> Submitted:
        with ThreadPoolExecutor(1) as beside:
            checks = beside.submit(self._check)
            shipment = submission.pack(self._place, self._stage.name, self._target)
            spec = submission.describe(
                self._place,
                shipment,
                self._target,
                self._header,
                self._stage.name,
                self._stage.launch,
            )
            self._note(submission.plan_text(spec, shipment, self._name))
            checks.result()
        submission.push(self._place, shipment, self._note)
        return submission.submit(
            self._cluster, spec, self._target, _user(), anew=bool(self._header.get("force"))
        )

    def _check(self) -> None:
        """Raise ConfigurationError for what would keep the job from running."""
        nodes = self._stage.launch.get("nodes", 1)
        found = target_checks.check(self._project, self._name, nodes, deep=False)
        problems = [check for check in found if check.verdict == Verdict.PROBLEM]
        if problems:
            raise ConfigurationError(
                f"{self._stage.name} cannot run on {self._name}: {problems[0].message}",
                fix=problems[0].fix,
                cause="\n".join(f"{c.name}: {c.message}" for c in problems[1:])
                or problems[0].cause,
            )

    def _mark(self, submitted: Submitted | None, *, ended: bool, received: bool = False) -> None:
        """Write down how far this is, for `mlp run` after a kill and for the next command."""
        text = json.dumps(
            {
                "name": submitted.spec.name if submitted else None,
                "target": self._name,
                "ended": ended,
                "received": received,
            }
        )
        self._marker.parent.mkdir(parents=True, exist_ok=True)
        part = self._marker.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(self._marker)

    # --- following -------------------------------------------------------------------------------

    def _follow(self, submitted: Submitted) -> JobState:
        """Show the job until it has ended; returns how."""
        nodes = submitted.spec.nodes
        shown = range(nodes if self._header.get("show_all_ranks") else 1)
        stop = threading.Event()
        readers = [
            threading.Thread(
                target=cluster.follow_log,
                args=(
                    self._cluster,
                    submitted.spec.name,
                    index,
                    jobs.MAIN_CONTAINER,
                    _printer(f"[node {index}] " if len(shown) > 1 else ""),
                    stop,
                ),
                daemon=True,
            )
            for index in shown
        ]
        for reader in readers:
            reader.start()
        state = self._watch(submitted)
        stop.set()
        until = time.monotonic() + _LOG_END_S
        for reader in readers:
            reader.join(max(0.0, until - time.monotonic()))
        return state

    def _watch(self, submitted: Submitted) -> JobState:
        began = time.monotonic()
        told = ""
        ran = False
        lost = 0
        state = JobState(Phase.WAITING)
        for state in cluster.watch_job(self._cluster, submitted.spec.name):
            ran = ran or state.phase == Phase.RUNNING
            if ran and state.phase == Phase.WAITING and state.failed == lost:
                continue  # pods that are done are ready no more
            lost = state.failed
            words = _words(state)
            if words != told:
                self._note(f"{submitted.spec.name}: {words}")
                told = words
            if not ran and not state.ended and state.reachable:
                self._give_up_waiting(submitted, time.monotonic() - began)
            if self._failed_for_good(submitted, state):
                cluster.end_job(self._cluster, submitted.spec.name)
        return state

    def _give_up_waiting(self, submitted: Submitted, waited: float) -> None:
        if waited < self._target.start_timeout:
            return
        why = self._explain(submitted)
        cluster.delete_job(self._cluster, submitted.spec.name)
        raise RemoteError(
            f"{self._stage.name} has waited {waited:.0f} s on {self._name} and was taken back: "
            f"{why.reason}",
            fix=why.fix,
        )

    def _failed_for_good(self, submitted: Submitted, state: JobState) -> bool:
        """Whether the worker has said so, while the cluster would go on starting pods."""
        if not state.failed or state.ended or not state.reachable:
            return False
        return self._explain(submitted).final

    def _explain(self, submitted: Submitted) -> "Explanation":
        from mlp.core.explanation import explain

        found = cluster.observe(self._cluster, submitted.spec.name)
        return explain(found, self._target, self._name)

    # --- the end ---------------------------------------------------------------------------------

    def _end(self, submitted: Submitted, state: JobState) -> int:
        spec, uid = submitted.spec, submitted.uid
        if not submitted.joined:
            receiving.receive_record(self._place.root, self._run, spec, uid)
        if state.phase == Phase.COMPLETE:
            began = time.monotonic()
            count = receiving.receive(self._place.root, spec, uid)
            self._mark(submitted, ended=True, received=True)
            self._note(f"{count} outputs are in place after {time.monotonic() - began:.1f} s")
            return 0
        self._mark(submitted, ended=True)
        if state.phase == Phase.GONE:
            raise RemoteError(
                f"job {spec.name} was deleted", fix=f"mlp run {self._stage.name} submits it again"
            )
        why = self._explain(submitted)
        if why.code:
            self._note(why.reason)
            return why.code
        kind = UserCodeError if why.log else RemoteError
        raise kind(f"{self._stage.name} on {self._name}: {why.reason}", fix=why.fix)

    def _interrupted(self, submitted: Submitted) -> int:
        """Detach, unless a second Ctrl-C follows: then cancel."""
        self._note(f"leaving job {submitted.spec.name} alone; Ctrl-C again cancels it")
        try:
            time.sleep(_SECOND_THOUGHT_S)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            cluster.delete_job(self._cluster, submitted.spec.name)
            self._mark(submitted, ended=True)
            self._note(f"cancelled job {submitted.spec.name}")
            return 128 + signal.SIGINT
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return self._detach(submitted)

    def _detach(self, submitted: Submitted) -> int:
        name = submitted.spec.name
        self._run.detached(self._stage.stage_run_id).touch()
        self._note(f"{self._stage.name} goes on as job {name} on {self._name}\n{_next(name)}")
        return environment.DETACHED

    def _note(self, text: str) -> None:
        print(self._masker.text(text), file=sys.stderr, flush=True)  # noqa: T201 - progress


def _words(state: JobState) -> str:
    if not state.reachable:
        return "the cluster does not answer; the job goes on, trying again"
    if state.phase == Phase.WAITING and state.ready:
        return f"{state.ready} of {state.nodes} nodes run"
    of = f": {state.nodes} nodes" if state.nodes > 1 else ""
    lost = f" ({state.failed} pods were lost so far)" if state.failed else ""
    return f"{state.phase}{of if state.phase == Phase.RUNNING else ''}{lost}"


def _next(name: str) -> str:
    return f"next:  mlp jobs logs -f {name}   mlp jobs attach {name}   mlp jobs cancel {name}"


def _printer(prefix: str) -> Any:
    """Writes a line of a log at once and whole, to where the stage shell reads it."""
    head = prefix.encode()

    def write(line: bytes) -> None:
        os.write(1, head + line + b"\n")

    return write


def _user() -> str:
    try:
        return f"{getpass.getuser()}@{platform.node()}"
    except (KeyError, OSError):
        return platform.node()


def main() -> int:
    """Run the stage of this environment on its target; returns the exit code."""
    stage = environment.stage()
    assert stage is not None, "started by the stage shell only"
    run = RunLayout(Path(stage.run_dir))
    header = json.loads(run.header.read_text(encoding="utf-8"))
    try:
        return RemoteStage(header, run, stage).run()
    except MlpError as e:
        failure = {"message": e.message, "fix": e.fix, "cause": e.cause, "exit_code": e.exit_code}
        path = run.failure(stage.stage_run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(failure), encoding="utf-8")
        return 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(main())
