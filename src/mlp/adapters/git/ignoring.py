"""What is not code, and travels with no run."""

import os
from pathlib import Path

from mlp.adapters.git.command import repository

_MLFLOWS_OWN = ("mlflow.db*", "/mlartifacts/", "/mlruns/")


def ignored(root: Path) -> list[str]:
    """Patterns as in .gitignore: MLflow's own files, and the lines of `.mlpignore` in `root`.

    They are seen from the repository's root, wherever in it the project lies.
    """
    file = root / ".mlpignore"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    lines = (line.strip() for line in text.splitlines())
    patterns = [*_MLFLOWS_OWN, *(line for line in lines if line and not line.startswith("#"))]
    inside = os.path.relpath(root, repository(root) or root)
    return patterns if inside == "." else [_below(inside, pattern) for pattern in patterns]


def _below(folder: str, pattern: str) -> str:
    """`pattern` of a .gitignore in `folder`, for one at the top: one with a slash is anchored."""
    sign, plain = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    if "/" not in plain.rstrip("/"):
        return f"{sign}{folder}/**/{plain}"
    return f"{sign}/{folder}/{plain.lstrip('/')}"
