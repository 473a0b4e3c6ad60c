"""Delivering to MLflow what earlier runs left behind."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlp.adapters.base import lock
from mlp.core.layout import RunLayout
from mlp.core.patience import waiting_for
from mlp.core.secrets import mask_urls
from mlp.flows import project as projects
from mlp.flows.project import Project
from mlp.flows.runs import recording

_POLL_S = 0.05
# Reading commands wait so long for a run that has just ended; it is usually a second or two.
_CATCH_UP_S = 20.0
_SYNC_S = 3600.0


@dataclass(frozen=True, slots=True)
class Left:
    """A run that MLflow has not all of, and the reason as far as it is known."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Synced:
    """The runs that were delivered now, those that are left, and what MLflow refused, by run."""

    delivered: Sequence[str]
    left: Sequence[Left]
    refused: Mapping[str, Sequence[str]]


def sync(project: Project) -> Synced:
    """Deliver every run that has ended; returns what became of each."""
    delivered, left = _deliver(project, _SYNC_S)
    return Synced(delivered, left, recording.refused(project.layout))


def catch_up(project: Project) -> Sequence[Left]:
    """Let runs that have just ended arrive before something is read; returns what is left."""
    return _deliver(project, _CATCH_UP_S)[1]


def _deliver(project: Project, seconds: float) -> tuple[list[str], list[Left]]:
    """Deliver for at most so long; returns the runs that MLflow has all of now, and the others."""
    waiting = [RunLayout(path) for path in recording.undelivered(project.layout)]
    ended = [run for run in waiting if not lock.is_held(run.alive)]
    until = time.monotonic() + seconds
    for env, runs in _by_env(ended).items():
        uri = projects.load(project.root, env=env).tracking_uri
        recorder = recording.deliver([run.path for run in runs], uri, patience=0.0)
        with waiting_for(f"MLflow at {mask_urls(uri)} to take the runs"):
            while time.monotonic() < until and _at_work(runs):
                delivering = recorder.poll() is None
                if not delivering and not any(lock.is_held(r.delivery_lock) for r in runs):
                    break
                time.sleep(_POLL_S)
    done = [run.run_id for run in ended if recording.delivery(run).complete]
    left = [
        Left(run.run_id, recording.delivery(run).reason or "it is being delivered")
        for run in ended
        if run.run_id not in done
    ]
    return done, left


def _at_work(runs: Sequence[RunLayout]) -> bool:
    return not all(recording.delivery(run).complete for run in runs)


def _by_env(runs: Sequence[RunLayout]) -> dict[str | None, list[RunLayout]]:
    found: dict[str | None, list[RunLayout]] = defaultdict(list)
    for run in runs:
        header = recording.header(run)
        found[header.env if header else None].append(run)
    return found
