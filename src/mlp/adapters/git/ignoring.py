"""What is not code, and travels with no run."""

from pathlib import Path

_MLFLOWS_OWN = ("mlflow.db*", "/mlartifacts/", "/mlruns/")


def ignored(root: Path) -> list[str]:
    """Patterns as in .gitignore: MLflow's own files, and the lines of `.mlpignore` in `root`."""
    file = root / ".mlpignore"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    lines = (line.strip() for line in text.splitlines())
    return [*_MLFLOWS_OWN, *(line for line in lines if line and not line.startswith("#"))]
