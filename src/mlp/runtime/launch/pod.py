"""What the two containers of a pod share: the job, and how they say what became of it."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mlp.adapters.base import retrying
from mlp.core.launch import job_spec as jobs
from mlp.core.launch.job_spec import JobSpec
from mlp.core.layout import RunLayout
from mlp.core.secrets import Masker

T = TypeVar("T")

_TERMINATION_LOG = Path("/dev/termination-log")
# Kubernetes keeps 4096 bytes of a termination message.
_MAX_MESSAGE = 4000


def spec(environ: Mapping[str, str] = os.environ) -> JobSpec:
    """The job that this pod is part of. Ends the process, with words, for one of another mlp."""
    try:
        return JobSpec.from_json(environ[jobs.SPEC_VARIABLE])
    except (TypeError, ValueError) as e:
        text = f"the image has another version of mlp than submitted the job: `mlp build` ({e})"
        report("bundle", text)
        sys.exit(jobs.EXIT_FAILED)


def node(environ: Mapping[str, str] = os.environ) -> int:
    """Which node of the gang this pod is."""
    return int(environ.get("JOB_COMPLETION_INDEX", "0"))


def folder(spec: JobSpec, environ: Mapping[str, str] = os.environ) -> str:
    """Where the job leaves things behind, from the top of the DVC remote."""
    return spec.folder(environ[jobs.UID_VARIABLE])


def run_layout(spec: JobSpec) -> RunLayout:
    """The run's directory in the pod."""
    return RunLayout(Path(jobs.POD_RUNS) / spec.run_id)


def report(
    phase: str,
    message: str,
    code: int | None = None,
    log: Sequence[str] = (),
    fix: str = "",
    node: int | None = None,
) -> None:
    """Say why this container ends, and what to do where that is known: read by `mlp jobs explain`
    from the pod's status. `node` is the one whose words these are, where that is another."""
    masker = Masker(os.environ)
    words: dict[str, Any] = {"phase": phase, "code": code, "message": message}
    words |= {"fix": fix, "node": node}
    peak = _peak_memory()
    if peak is not None:
        words["peak_memory"] = peak
    lines = list(log)
    text = masker.text(json.dumps({**words, "log": lines}))
    while lines and len(text.encode()) > _MAX_MESSAGE:
        lines.pop(0)
        text = masker.text(json.dumps({**words, "log": lines}))
    print(f"error: {masker.text(message)}", file=sys.stderr)  # noqa: T201 - the pod's log
    _TERMINATION_LOG.write_text(text, encoding="utf-8")


def patiently(spec: JobSpec, act: Callable[[], T]) -> T:
    """What `act` returns, which needs the DVC remote: for minutes, where that does not answer."""
    return retrying.patiently(act, spec.storage_patience, note)


def note(text: str) -> None:
    """Say something in the pod's log."""
    print(Masker(os.environ).text(text), file=sys.stderr, flush=True)  # noqa: T201 - the pod's log


def _peak_memory() -> int | None:
    """The most bytes that this container has had at once, where the kernel tells (cgroup 2)."""
    try:
        return int(Path("/sys/fs/cgroup/memory.peak").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
