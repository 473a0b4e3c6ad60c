"""Checks of this machine and of what a project's directory is."""

import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlp.adapters import git
from mlp.adapters.base import machine
from mlp.core.checkup.health import Check, CheckVerdict
from mlp.core.errors import ConfigurationError, from_os_error
from mlp.core.layout import Layout

_OLDEST_PYTHON = (3, 11)
_TRAINING = ("torch", "pytorch-lightning")
_LITTLE_SPACE = 10**9


def python() -> Check:
    """The Python that mlp runs with."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < _OLDEST_PYTHON:
        oldest = ".".join(map(str, _OLDEST_PYTHON))
        return Check("python", CheckVerdict.PROBLEM, found, fix=f"use Python {oldest} or later")
    return Check("python", CheckVerdict.OK, found)


def installed(package: str) -> str | None:
    """The version of an installed package, None where it is not there."""
    return machine.packages().get(package)


def training(*, required: bool) -> Iterator[Check]:
    """The packages of the extra `train`, and the GPUs; `required` where a stage needs them."""
    packages = machine.packages()
    missing = [name for name in _TRAINING if name not in packages]
    if missing:
        yield Check(
            "training",
            CheckVerdict.PROBLEM if required else CheckVerdict.NOTE,
            f"not installed: {', '.join(missing)}"
            + ("" if required else " (only mlp.trainer() needs them)"),
            fix="pip install 'mlp-loop[train]'",
        )
    else:
        versions = ", ".join(f"{name} {packages[name]}" for name in _TRAINING)
        yield Check("training", CheckVerdict.OK, versions)
    gpus = machine.machine().gpus
    if gpus and "+cpu" in packages.get("torch", ""):
        yield Check(
            "gpu",
            CheckVerdict.PROBLEM,
            f"{len(gpus)} here, and torch {packages['torch']} is built without GPUs",
            fix="install a CUDA build of torch",
        )
    else:
        yield Check("gpu", CheckVerdict.OK, "; ".join(gpus) or "none: training uses the processor")


def repository(root: Path) -> Iterator[Check]:
    """git, and what it knows of the project."""
    try:
        git.git(["rev-parse", "--show-toplevel"], root)
    except ConfigurationError as e:
        if not e.cause:
            yield Check("git", CheckVerdict.PROBLEM, e.message, fix=e.fix)
        elif "not a git repository" in e.cause:
            yield Check(
                "git",
                CheckVerdict.PROBLEM,
                "no repository here: a run cannot say which code made it",
                fix="git init",
            )
        else:
            yield Check("git", CheckVerdict.PROBLEM, "git does not work here", cause=e.cause)
        return
    commit = git.head(root)
    if commit is None:
        yield Check(
            "git",
            CheckVerdict.PROBLEM,
            "the repository has no commit yet: a run has nothing to refer to",
            fix="git add --all && git commit -m 'first commit'",
        )
        return
    yield Check(
        "git", CheckVerdict.OK, f"{git.git(['--version'], root).strip()}, commit {commit[:8]}"
    )


def disk(root: Path) -> Check:
    """The space that is left where the project lies."""
    free = machine.free_bytes(root)
    message = f"{free / 1e9:.1f} GB free"
    if free < _LITTLE_SPACE:
        return Check("disk", CheckVerdict.PROBLEM, message, fix="free some space: `df -h`")
    return Check("disk", CheckVerdict.OK, message)


def state(layout: Layout) -> Check:
    """Whether the project's own state can be written."""
    folder = layout.state if layout.state.is_dir() else layout.root
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        known = from_os_error(OSError(e.errno, e.strerror, str(folder)))
        return Check("state", CheckVerdict.PROBLEM, known.message, fix=known.fix)
    return Check("state", CheckVerdict.OK, ".mlp can be written")
