"""The door to a model's requirements: whether this Python has them, or another one made of them."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from mlp.core.errors import ConfigurationError
from mlp.core.patience import waiting_for
from mlp.core.secrets import Masker

_DONE = "complete"
_LAST_CHARACTERS = 1500
# What would let an installer take for installed what only this process finds.
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME")
# How uv calls what pip is told by its variables.
_AS_UV_CALLS_IT = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_CERT": "SSL_CERT_FILE",
    "PIP_DEFAULT_TIMEOUT": "UV_HTTP_TIMEOUT",
}


def lacking(text: str) -> list[str]:
    """The lines of a requirements.txt that the packages of this Python do not satisfy."""
    from packaging.requirements import InvalidRequirement, Requirement

    missing = []
    for line in _lines(text):
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            missing.append(line)  # an option or an address: only pip knows what it means
            continue
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            have = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            missing.append(f"{line} (it is not installed)")
            continue
        if wanted.url or not wanted.specifier.contains(have, prereleases=True):
            missing.append(f"{line} (here is {have})")
    return missing


def key(text: str, python: str) -> str:
    """A name for the environment of these requirements and that version of Python."""
    told = "\n".join([_minor(python), *sorted(_lines(text))])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def same_python(version: str) -> bool:
    """Whether this is a Python of that minor version, as in "3.11.7"."""
    return _minor(version) in ("", _minor(_here()))


def make(folder: Path, requirements: Path, python: str) -> Path:
    """A virtual environment at `folder` with these requirements; returns its Python.

    One that is there is taken; one that was left half made is made again. `python` is the version
    asked for, "" for this one. Raises ConfigurationError where it cannot be made.
    """
    interpreter = folder / "bin" / "python"
    if (folder / _DONE).exists() and interpreter.exists():  # the Python behind it may be gone
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    base = _base(python)
    uv = installed_uv()
    install: list[str | Path] = ["pip", "install", "--quiet"]
    if os.environ.get("PIP_NO_INDEX", "").lower() in ("1", "true", "yes", "on"):
        install.append("--no-index")  # uv has no variable for it
    if uv:
        _call([uv, "venv", "--quiet", "--python", base, folder], folder.parent)
        command = [uv, *install, "--python", interpreter, "-r", requirements]
    else:
        _call([base, "-m", "venv", folder], folder.parent)
        command = [interpreter, "-m", *install, "-r", requirements]
    # MLflow names what it brings along, as wheels/x.whl, from where the model lies.
    _call(command, requirements.parent)
    (folder / _DONE).touch()
    return interpreter


def _lines(text: str) -> list[str]:
    stripped = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in text.splitlines())
    return [line for line in stripped if line]


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _here() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _base(version: str) -> str:
    if same_python(version):
        return sys.executable
    found = shutil.which(f"python{_minor(version)}")
    if found is None:
        raise ConfigurationError(
            f"the model wants Python {version}, and there is no python{_minor(version)} here",
            fix=f"install Python {_minor(version)}",
        )
    return found


def installed_uv() -> str | None:
    """The program uv: that of this environment, or one on PATH. None where only pip is there."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def _call(command: list[str | Path], folder: Path) -> None:
    with waiting_for("an environment with the model's requirements"):
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env=_variables(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    if done.returncode != 0:
        raise ConfigurationError(
            "an environment with the model's requirements cannot be made",
            fix="correct its requirements, or the access to the package index",
            cause=Masker(os.environ).text(done.stderr.strip())[-_LAST_CHARACTERS:],
        )


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of an installer: uv is told what pip is."""
    told = {name: value for name, value in environ.items() if name not in _NOT_INHERITED}
    for pip, uv in _AS_UV_CALLS_IT.items():
        if environ.get(pip) and uv not in environ:
            several = pip == "PIP_FIND_LINKS"  # pip divides them by spaces, uv by commas
            told[uv] = ",".join(environ[pip].split()) if several else environ[pip]
    return told | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}  # nothing phones home
