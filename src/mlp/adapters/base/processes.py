"""The door to the kernel's process table: what a run started and left behind (Linux)."""

import contextlib
import os
import signal
import time
from pathlib import Path

_POLL_S = 0.05


def end(variable: str, value: str, grace: float) -> bool:
    """End every process with `variable=value` in its environment; returns whether there was one.

    They are asked to end, and killed after `grace` seconds. What a stage started is known by its
    environment, whoever its parent is by now.
    """
    wanted = f"{variable}={value}".encode(errors="surrogateescape")
    found = _processes(wanted)
    _send(found, signal.SIGTERM)
    kill_at = time.monotonic() + grace
    left = found
    while left and time.monotonic() < kill_at + grace:
        time.sleep(_POLL_S)
        left = _processes(wanted)
        if time.monotonic() > kill_at:
            _send(left, signal.SIGKILL)
    return bool(found)


def _processes(wanted: bytes) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # ended by now, or somebody else's
            continue
        if wanted in variables and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def _send(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
