"""`mlp` as a process of its own that need not import again what takes seconds.

It is forked from one that has imported what commands need, and done nothing else. The end-to-end
tests, and what `Project.start` begins, run the console script itself.
"""

import atexit
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mlp.cli.main import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["tests.commands", "dvc.repo", "dvc.stage", "mlflow.store.tracking.sqlalchemy_store"]
)


def run(
    arguments: Sequence[str], cwd: Path, environ: Mapping[str, str]
) -> tuple[int | None, str, str]:
    """The exit code of `mlp ARGUMENTS`, -9 and the like after a signal, and what it printed."""
    with TemporaryDirectory(prefix="mlp-command-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _FORKS.Process(target=_run, args=(arguments, cwd, dict(environ), out, err))
        process.start()
        process.join()
        return process.exitcode, out.read_text(), err.read_text()


def _run(
    arguments: Sequence[str], cwd: Path, environ: Mapping[str, str], out: Path, err: Path
) -> None:
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in environ
    for path, descriptor in ((os.devnull, 0), (out, 1), (err, 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = ["mlp", *arguments]
    try:
        main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without
