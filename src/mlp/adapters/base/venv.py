"""The door to Python environments: makes one that holds exactly the packages of a run."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlparse

from mlp.core.errors import ConfigurationError
from mlp.core.patience import waiting_for
from mlp.core.secrets import Masker


def create(path: Path, python: str, packages: Mapping[str, str]) -> Path:
    """Make a virtual environment at `path` with `packages` by version; returns its Python.

    `python` is the version asked for, as in "3.11.7". Raises ConfigurationError where no Python of
    that minor version is there, or a package cannot be installed.
    """
    minor = ".".join(python.split(".")[:2])
    here = ".".join(map(str, sys.version_info[:2]))
    interpreter = sys.executable if minor == here else shutil.which(f"python{minor}")
    if interpreter is None:
        raise ConfigurationError(
            f"the run used Python {python}, and there is no python{minor} here",
            fix=f"install Python {minor}, or: mlp runs reproduce RUN --env check",
        )
    _call([interpreter, "-m", "venv", str(path)], "making a virtual environment")
    made = path / "bin" / "python"
    requirements = path / "requirements.txt"
    wanted = [
        f"{name}=={version}"
        for name, version in packages.items()
        if name not in ("mlp-loop", "pip")
    ]
    requirements.write_text("\n".join(wanted) + "\n", encoding="utf-8")
    # Every package is pinned, with all that it needs: there is nothing to resolve.
    install = [str(made), "-m", "pip", "install", "--quiet", "--no-deps"]
    _call([*install, "-r", str(requirements)], "installing the run's packages")
    _call([*install, _this_mlp()], "installing mlp")
    return made


def _this_mlp() -> str:
    """What pip installs mlp from: where this one came from, or its version."""
    distribution = importlib.metadata.distribution("mlp-loop")
    origin = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
    if origin.startswith("file:"):
        return unquote(urlparse(origin).path)
    return f"mlp-loop=={distribution.version}"


def _call(command: list[str], doing: str) -> None:
    with waiting_for(f"pip: {doing}"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigurationError(
            f"{doing} failed", cause=Masker(os.environ).text(done.stderr.strip()[-2000:])
        )
