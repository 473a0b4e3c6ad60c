"""What the stage shell starts in place of a command whose stage has a target.

`python -m mlp.flows.launch.remote_stage COMMAND`, in the stage's directory. Submits the job, shows
what its first rank prints, and puts its outputs in place; ends with the exit code of the user's
code. Ctrl-C leaves the job alone, a second one cancels it.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from mlp.adapters import cluster, data
from mlp.adapters.base import interrupts, statefile
from mlp.adapters.base.event_file import EventFile
from mlp.adapters.base.retrying import patiently
from mlp.adapters.cluster import Cluster, JobState, Phase
from mlp.core import patience
from mlp.core.checkup.health import Check
from mlp.core.errors import MlpError, RemoteError, Unavailable, UserCodeError, from_os_error, words
from mlp.core.launch.targets_section import KubernetesTarget, with_gpus
from mlp.core.layout import RunLayout
from mlp.core.runs import environment
from mlp.core.runs.recorded_run import Tag
from mlp.core.runs.run_header import RunHeader
from mlp.core.secrets import Masker
from mlp.flows import project as projects
from mlp.flows.checkup import target_checks
from mlp.flows.launch import launching, receiving, submission
from mlp.flows.launch.job_following import JobFollowing
from mlp.flows.launch.submission import Submitted

T = TypeVar("T")

# So long what was checked when the run began is taken to be right.
_FRESH_S = 60.0
# How long a second Ctrl-C has to come.
_SECOND_THOUGHT_S = 3.0


class RemoteStage:
    """One stage's job, from its submission to its outputs."""

    def __init__(self, header: RunHeader, run: RunLayout, stage: environment.Stage) -> None:
        self._header = header
        self._run = run
        self._stage = stage
        self._name = stage.launch.target
        section = header.launching.targets[self._name]
        self._target = with_gpus(KubernetesTarget.model_validate(section), stage.launch.gpus)
        self._project = projects.load(run.project, env=header.env, settings=header.settings)
        self._place = submission.JobPlace.of(data.root(run.project) or run.project, Path.cwd())
        self._cluster = Cluster(self._target.context, self._target.namespace)
        self._masker = Masker(os.environ)
        self._marker = run.job(stage.stage_run_id)
        self._life = f"{header.pid} {header.started}"
        self._made: Submitted | None = None
        self._complete = False

    def run(self) -> int:
        """Returns the exit code of the stage's command."""
        patience.tell = self._note
        try:
            return self._run_job()
        except (cluster.UnreachableError, cluster.ForbiddenError, Unavailable) as e:
            if self._made is None:
                raise
            return self._lose_sight(self._made, e)

    def _run_job(self) -> int:
        if self._done_before():
            return 0
        for left in (self._run.detached, self._run.failure):  # by an earlier life of the run
            left(self._stage.stage_run_id).unlink(missing_ok=True)
        try:
            submitted = self._submit()
        except KeyboardInterrupt:
            if self._made is None:
                self._mark(ended=True)
                self._note(f"interrupted before {self._stage.name} was submitted")
                return 128 + signal.SIGINT
            return self._interrupted(self._made)
        if self._header.launching.detach:
            return self._detach(submitted)
        following = JobFollowing(
            self._cluster, submitted.spec, self._target, self._name, self._note
        )
        try:
            state = following.until_it_ends(all_nodes=self._header.launching.show_all_ranks)
        except KeyboardInterrupt:
            return self._interrupted(submitted)
        if state.phase == Phase.COMPLETE:
            return self._finish(submitted)
        return self._fail(submitted, state, following)

    def _done_before(self) -> bool:
        """Whether this is a later command of a stage with several: the job has run them all."""
        marker = launching.job_marker(self._run, self._stage.stage_run_id)
        return bool(marker.get("received")) and marker.get("life") == self._life

    def _submit(self) -> Submitted:
        self._mark()
        attached = self._header.launching.attach
        if attached:
            found = cluster.get_job(self._cluster, attached)
            submitted = Submitted(cluster.spec_of(found), found["metadata"]["uid"], False)
            self._made = submitted
        else:
            submitted = self._submit_anew()
        self._mark(submitted.spec.name)
        how = "joined" if submitted.joined else "runs as"
        self._note(
            f"{self._stage.name} {how} job {submitted.spec.name} on {self._name}"
            + (f", submitted by run {submitted.spec.run_id[:8]}" if submitted.joined else "")
        )
        journal = EventFile(str(self._run.events), self._masker.text)
        tags = {Tag.JOB: submitted.spec.name, Tag.TARGET: self._name}
        if submitted.joined:
            tags[Tag.RAN_IN] = submitted.spec.run_id
        journal.record("tags", self._stage.stage_run_id, values=tags)
        return submitted

    def _submit_anew(self) -> Submitted:
        with ThreadPoolExecutor(1) as beside:
            checks = beside.submit(self._check_again)
            shipment = submission.pack(self._place, self._stage.name, self._target)
            spec = submission.describe(
                self._place,
                shipment,
                self._target,
                self._header,
                self._stage.name,
                self._stage.launch,
            )
            self._mark(spec.name)  # by it, a kill from here on is known for what it was
            self._note(submission.plan_text(spec, shipment, self._name))
            for check in checks.result():
                if check.name == "queue":
                    self._note(f"  queue  {check.message}")
        self._patiently(lambda: submission.push(self._place, shipment, self._note))
        with _undisturbed():  # Ctrl-C in between would leave a job that nobody knows of
            self._made = submission.submit(
                self._cluster,
                spec,
                self._target,
                launching.user(),
                anew=self._header.launching.force,
            )
            self._mark(self._made.spec.name)
        self._tell_of_others(self._made)
        return self._made

    def _check_again(self) -> Sequence[Check]:
        """What was right when the run began may have changed while other stages ran."""
        if time.time() - self._header.launching.checked < _FRESH_S:
            return ()
        nodes = self._stage.launch.nodes
        return target_checks.require(self._project, self._name, self._target, nodes)

    def _tell_of_others(self, made: Submitted) -> None:
        """Other code or params make another job; the one before is not ended for that."""
        others = [
            name
            for name, user in submission.running(self._cluster, made.spec)
            if user == launching.user() and name != made.spec.name
        ]
        for name in others:
            self._note(f"job {name} of the same stage runs, too; mlp jobs cancel {name} ends it")

    def _mark(
        self, name: str | None = None, *, ended: bool = False, received: bool = False
    ) -> None:
        """Write down how far this is, for `mlp run` after a kill and for the next command."""
        state = {
            "name": name,
            "stage": self._stage.name,
            "target": self._name,
            "life": self._life,
            "ended": ended,
            "received": received,
        }
        statefile.write(self._marker, state)

    # --- the end ---------------------------------------------------------------------------------

    def _finish(self, submitted: Submitted) -> int:
        """Put in place what the job made."""
        root, spec, uid = self._place.root, submitted.spec, submitted.uid
        began = time.monotonic()
        self._complete = True
        self._patiently(lambda: self._receive_record(submitted))
        count = self._patiently(lambda: receiving.receive(root, spec, uid))
        self._mark(spec.name, ended=True, received=True)
        what = "1 output is" if count == 1 else f"{count} outputs are"
        self._note(f"{what} in place after {time.monotonic() - began:.1f} s")
        return 0

    def _fail(self, submitted: Submitted, state: JobState, following: JobFollowing) -> int:
        """The exit code of the code that failed; an error where it is not the code's."""
        name = submitted.spec.name
        try:
            self._receive_record(submitted)
        except RemoteError as e:  # how the job ended matters more
            self._note(f"the rest of the job's record stays where it is: {e.one_line()}")
        self._mark(name, ended=True)
        if state.phase == Phase.GONE:
            again = f"mlp run {self._stage.name}"
            raise RemoteError(f"job {name} was deleted", fix=f"{again} submits it again")
        try:
            why = following.why()
        except (cluster.UnreachableError, cluster.ForbiddenError) as e:
            raise RemoteError(
                f"job {name} has failed, and why cannot be asked now: {e.message}",
                fix=f"mlp jobs explain {name}",
                cause=e.cause,
            ) from e
        if why.code:
            failed = UserCodeError(
                f"stage {self._stage.name!r} failed on {self._name} with exit code {why.code}",
                cause="\n".join(why.log),
                fix=f"mlp jobs logs {name}",
            )
            leave(failed, self._run, self._stage)
            return why.code
        # Should it be that the remote lost something, the next submission looks.
        submission.Pushed(self._place.root, submitted.spec.remote["url"]).forget()
        kind = UserCodeError if why.log else RemoteError
        raise kind(f"{self._stage.name} on {self._name}: {why.reason}", fix=why.fix)

    def _receive_record(self, submitted: Submitted) -> None:
        """What the pods could not deliver; of another run's job that is the other run's."""
        if not submitted.joined:
            receiving.receive_record(self._place.root, self._run, submitted.spec, submitted.uid)

    def _lose_sight(self, submitted: Submitted, error: MlpError) -> int:
        """Leave alone, as with Ctrl-C, a job that lives or is complete and cannot be seen now."""
        name = submitted.spec.name
        attach = f"mlp jobs attach {name}"
        if self._complete:
            message = f"job {name} is done, and its outputs could not be fetched"
            rest = f"they are stored; {attach}   fetches them"
        else:
            message = f"lost sight of job {name}, which goes on"
            rest = f"then: {attach}"
        lost = RemoteError(
            f"{message}: {error.message}",
            fix="; ".join(part for part in (error.fix, rest) if part),
            cause=error.cause,
        )
        leave(lost, self._run, self._stage)
        self._run.detached(self._stage.stage_run_id).touch()
        return environment.DETACHED

    def _patiently(self, act: Callable[[], T]) -> T:
        return patiently(act, self._target.storage_patience, self._note)

    def _interrupted(self, submitted: Submitted) -> int:
        """Detach, unless a second Ctrl-C follows: then cancel, if the job is ours to cancel."""
        again = "" if submitted.joined else "; Ctrl-C again cancels it"
        self._note(f"leaving job {submitted.spec.name} alone{again}")
        if submitted.joined:
            return self._detach(submitted)
        try:
            time.sleep(_SECOND_THOUGHT_S)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            cluster.delete_job(self._cluster, submitted.spec.name)
            self._mark(submitted.spec.name, ended=True)
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


def _next(name: str) -> str:
    return f"next:  mlp jobs logs -f {name}   mlp jobs attach {name}   mlp jobs cancel {name}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        raise KeyboardInterrupt


def leave(error: MlpError, run: RunLayout, stage: environment.Stage) -> None:
    """Write an error down for `mlp run`, which started the process that started this one."""
    statefile.write(run.failure(stage.stage_run_id), words(error))


def main() -> int:
    """Run the stage of this environment on its target; returns the exit code."""
    stage = environment.stage()
    assert stage is not None, "started by the stage shell only"
    run = RunLayout(Path(stage.run_dir))
    header = RunHeader.from_json(run.header.read_text(encoding="utf-8"))
    try:
        return RemoteStage(header, run, stage).run()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (MlpError, OSError) as e:
        leave(from_os_error(e) if isinstance(e, OSError) else e, run, stage)
        return 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    interrupts.keep()
    sys.exit(main())
