"""Where artifacts lie: folders of this machine are read here, other places through MLflow."""

import tempfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


def local_path(address: str) -> Path | None:
    """The folder that MLflow's address means on this machine, None where it is elsewhere."""
    parts = urlsplit(address)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(url2pathname(parts.path))
    return Path(address) if address.startswith("/") else None


def content(address: str, path: str) -> bytes | None:
    """What an artifact below an address that MLflow knows holds; None where there is none."""
    folder = local_path(address)
    if folder is not None:
        file = folder / path
        return file.read_bytes() if file.is_file() else None
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(address)
    parent = path.rpartition("/")[0]
    if path not in {file.path for file in repository.list_artifacts(parent or None)}:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return Path(repository.download_artifacts(path, scratch)).read_bytes()
