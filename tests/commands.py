"""`mlp` as a process of its own that need not import again what takes seconds.

It is forked from one that has imported what commands need, and done nothing else, and so are the
recorders that it starts. The end-to-end tests, and what `Project.start` begins, run the console
script itself.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import IO, Any

import dvc.cli

from mlp.cli.main import main
from mlp.flows.runs import recording

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["tests.commands", "dvc.repo", "dvc.cli", "dvc.stage", "mlflow.store.tracking.sqlalchemy_store"]
)


def run(
    program: str, arguments: Sequence[str], cwd: Path, environ: Mapping[str, str]
) -> tuple[int | None, str, str]:
    """The exit code of `mlp` or `dvc ARGUMENTS`, -9 and the like after a signal, and what it
    printed."""
    with TemporaryDirectory(prefix="mlp-command-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _FORKS.Process(
            target=_run, args=(program, arguments, cwd, dict(environ), out, err)
        )
        process.start()
        process.join()
        return process.exitcode, out.read_text(), err.read_text()


class ForkedRecorder:
    """A recorder that goes on by itself; as much of `Popen` as runs need."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], stdout: IO[bytes], **_: Any
    ) -> None:
        module, arguments = command[2], command[3:]
        log = Path(stdout.name)
        self._process = _FORKS.Process(
            target=_module, args=(module, arguments, Path.cwd(), dict(env), log)
        )
        self._process.start()
        # It is not waited for at our end.
        multiprocessing.process._children.discard(self._process)  # type: ignore[attr-defined]

    def poll(self) -> int | None:
        return self._process.exitcode


def _module(
    name: str, arguments: Sequence[str], cwd: Path, environ: Mapping[str, str], log: Path
) -> None:
    """`python -m NAME ARGUMENTS`."""
    _become(cwd, environ, log, log)
    sys.argv = [name, *arguments]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()


def _run(
    program: str,
    arguments: Sequence[str],
    cwd: Path,
    environ: Mapping[str, str],
    out: Path,
    err: Path,
) -> None:
    _become(cwd, environ, out, err)
    vars(recording)["subprocess"] = SimpleNamespace(**vars(subprocess) | {"Popen": ForkedRecorder})
    sys.argv = [program, *arguments]
    try:
        if program == "mlp":
            main()
        sys.exit(dvc.cli.main(arguments))
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without


def _become(cwd: Path, environ: Mapping[str, str], out: Path, err: Path) -> None:
    """Be a process as a shell starts one, as far as that matters."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in environ
    for path, descriptor in ((os.devnull, 0), (out, 1), (err, 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
