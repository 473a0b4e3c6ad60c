"""The door to the content of folders: the digest of every file."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mlp.core import digests

# What loading or reading a model leaves beside its files.
_NOT_CONTENT = ("__pycache__", ".DS_Store", "registered_model_meta")


def files(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in `folder` by its path there, in order of the paths."""
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in sorted(_inside(folder))}


def of(folder: Path) -> str:
    """The one digest of all files in `folder`, as core/digests.py makes it."""
    return digests.combined(files(folder))


def _inside(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Every file, those in linked folders too: who loads a model reads them as well."""
    here = folder.resolve()
    if here in above:
        return  # a link to a folder that it lies in
    for path in folder.iterdir():
        if path.name in _NOT_CONTENT:
            continue
        if path.is_dir():
            yield from _inside(path, (*above, here))
        elif path.is_file():
            yield path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, digests.ALGORITHM).hexdigest()
