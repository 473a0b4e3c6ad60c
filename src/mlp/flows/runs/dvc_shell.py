"""DVC is made to start every command through our stage shell."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlp.core.runs import environment
from mlp.flows.runs.recording import Recording


@contextmanager
def stage_shell(record: Recording) -> Iterator[None]:
    """Make DVC start every command through our shell, for the block."""
    shell = record.run.shell
    worker = Path(__file__).parents[2] / "runtime" / "runs" / "stage_shell.py"
    shell.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -IS {shlex.quote(str(worker))} "$@"\n',
        encoding="utf-8",
    )
    shell.chmod(0o755)
    ours = {
        "SHELL": str(shell),
        environment.USER_SHELL: os.environ.get("SHELL", ""),
        environment.RUN_ID: record.run_id,
        environment.RUN_DIR: str(record.run.path),
        environment.TRACKING_URI: record.tracking_uri,
        environment.PYTHON: sys.executable,
        environment.ELSEWHERE: "mlp.flows.launch.remote_stage",
        **environment.QUIET,
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
