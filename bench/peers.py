"""The tools that mlp is measured against, each in a virtual environment of its own.

`python bench/peers.py [NAME...]` makes `.bench/NAME` from `requirements-NAME.txt`; what is there
already in these versions is left alone.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMES = ("dvc", "metaflow", "zenml", "litserve", "mlflow", "uvicorn")


def program(peer: str, name: str = "python") -> str:
    """The path of a program in the peer's environment, which is made if need be."""
    environment = ROOT / ".bench" / peer
    requirements = _requirements(peer)
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    made = environment / "made-from"
    if not made.is_file() or made.read_text(encoding="utf-8") != wanted:
        _make(environment, requirements)
        made.write_text(wanted, encoding="utf-8")
    return str(environment / "bin" / name)


def version(peer: str) -> str:
    """The pinned version of the peer itself."""
    lines = _requirements(peer).read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{peer}=="))


def _requirements(peer: str) -> Path:
    return Path(__file__).parent / f"requirements-{peer}.txt"


def _make(environment: Path, requirements: Path) -> None:
    print(f"making {environment.relative_to(ROOT)}", file=sys.stderr)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        raise SystemExit("uv is not installed: pip install uv")
    variables = {**os.environ, "UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    # Compiled beforehand, as it is on a user's machine after the first run.
    install = ["pip", "install", "--quiet", "--compile-bytecode", "--python", str(environment)]
    for arguments in (
        ["venv", "--quiet", "--clear", "--python", python, str(environment)],
        [*install, "--requirement", str(requirements)],
    ):
        subprocess.run([uv, *arguments], env=variables, check=True)


if __name__ == "__main__":
    for peer in sys.argv[1:] or NAMES:
        program(peer)
