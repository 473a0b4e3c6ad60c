"""The door to the content of folders: the digest of every file."""

import hashlib
from pathlib import Path

from mlp.core import digests

# What loading or reading a model leaves beside its files.
_NOT_CONTENT = ("__pycache__", ".DS_Store", "registered_model_meta")


def files(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in `folder` by its path there, in order of the paths."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in paths
        if not set(path.relative_to(folder).parts) & set(_NOT_CONTENT)
    }


def of(folder: Path) -> str:
    """The one digest of all files in `folder`, as core/digests.py makes it."""
    return digests.combined(files(folder))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, digests.ALGORITHM).hexdigest()
