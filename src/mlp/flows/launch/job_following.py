"""Watching a job of a cluster from its creation to its end, and showing what its ranks print."""

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlp.adapters import cluster
from mlp.adapters.cluster import Cluster, JobState, Phase
from mlp.core.errors import RemoteError
from mlp.core.launch import job_spec as jobs
from mlp.core.launch.job_spec import JobSpec
from mlp.core.launch.targets_section import KubernetesTarget

if TYPE_CHECKING:
    from mlp.core.explain.explanation import JobExplanation

# A job that waits says why after so long, and again as seldom as this.
_WHY_AFTER_S, _WHY_EVERY_S = 5.0, 30.0
# Where the code prints nothing, this shows that it runs.
_SIGN_OF_LIFE_S = 30.0
# What was printed last may come a little after the job's end.
_LOG_END_S = 15.0


class JobFollowing:
    """One job being followed; `note` is told what happens to it."""

    def __init__(
        self,
        connection: Cluster,
        spec: JobSpec,
        target: KubernetesTarget,
        target_name: str,
        note: Callable[[str], None],
    ) -> None:
        self._cluster = connection
        self._spec = spec
        self._target = target
        self._target_name = target_name
        self._note = note
        self._began = time.monotonic()
        self._told = ""
        self._told_at = self._began
        self._why_at = self._began + _WHY_AFTER_S - _WHY_EVERY_S

    def until_it_ends(self, *, all_nodes: bool = False) -> JobState:
        """Show what node 0 prints, or all nodes do; returns how the job ended.

        Raises RemoteError, with the reason, for one that has waited too long: it is taken back.
        """
        stop = threading.Event()
        readers = [
            threading.Thread(target=self._read, args=(node, all_nodes, stop), daemon=True)
            for node in range(self._spec.launch.nodes if all_nodes else 1)
        ]
        for reader in readers:
            reader.start()
        state = self._watch()
        stop.set()
        until = time.monotonic() + _LOG_END_S
        for reader in readers:
            reader.join(max(0.0, until - time.monotonic()))
        return state

    def why(self) -> "JobExplanation":
        """Why the job waits, or how it ended."""
        from mlp.core.explain.explanation import explain

        found = cluster.observe(self._cluster, self._spec.name)
        return explain(found, self._target, self._target_name)

    def _read(self, node: int, prefixed: bool, stop: threading.Event) -> None:
        head = f"[node {node}] ".encode() if prefixed else b""

        def emit(line: bytes) -> None:
            self._told_at = time.monotonic()
            os.write(1, head + line + b"\n")  # at once and whole

        name, container = self._spec.name, jobs.MAIN_CONTAINER
        cluster.follow_log(self._cluster, name, node, container, emit, stop)

    def _watch(self) -> JobState:
        ran = False
        lost = 0
        state = JobState(Phase.WAITING)
        for state in cluster.watch_job(self._cluster, self._spec.name):
            if ran and state.phase == Phase.WAITING and state.failed == lost and state.reachable:
                continue  # pods that are done are ready no more
            ran = ran or state.phase == Phase.RUNNING
            self._tell(state)
            if not state.reachable or state.ended:
                continue
            try:
                if not ran:
                    self._wait(state)
                if state.failed > lost and self.why().final:  # no pod that comes can help
                    cluster.end_job(self._cluster, self._spec.name)
            except cluster.UnreachableError:
                continue  # the watch tells of it, and tries again
            lost = state.failed
        return state

    def _tell(self, state: JobState) -> None:
        words = _words(state)
        now = time.monotonic()
        if words == self._told and now - self._told_at > _SIGN_OF_LIFE_S:
            self._say(f"{words}, {now - self._began:.0f} s since the start")
        elif words != self._told:
            self._say(words)
            self._told = words

    def _say(self, words: str) -> None:
        self._note(f"{self._spec.name}: {words}")
        self._told_at = time.monotonic()

    def _wait(self, state: JobState) -> None:
        now = time.monotonic()
        waited = now - self._began
        late = waited > self._target.start_timeout
        if not late and now - self._why_at < _WHY_EVERY_S:
            return
        self._why_at = now
        why = self.why()
        if not late:
            if why.reason and state.phase in (Phase.WAITING, Phase.SUSPENDED):
                self._say(why.reason)
            return
        cluster.delete_job(self._cluster, self._spec.name)
        raise RemoteError(
            f"{self._spec.stage} has waited {waited:.0f} s on {self._target_name} and was taken "
            f"back: {why.reason}",
            fix=why.fix,
        )


def _words(state: JobState) -> str:
    if not state.reachable:
        return "the cluster does not answer; the job goes on, trying again"
    pods = "1 pod" if state.failed == 1 else f"{state.failed} pods"
    lost = f" ({pods} ended early so far)" if state.failed and not state.ended else ""
    if state.phase == Phase.WAITING and state.ready:
        return f"{state.ready} of {state.nodes} nodes run{lost}"
    of = f": {state.nodes} nodes" if state.nodes > 1 and state.phase == Phase.RUNNING else ""
    return f"{state.phase}{of}{lost}"
