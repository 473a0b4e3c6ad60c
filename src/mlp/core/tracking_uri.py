"""Tracking addresses: a SQLite file in the project is named from the project's root."""

from pathlib import Path

_SQLITE = "sqlite:///"
# Addresses without `://` that are no paths.
_SCHEMES = ("databricks", "file", "uc")


def absolute(uri: str, root: Path) -> str:
    """The address, so that it means the same from every working directory."""
    if uri.startswith(_SQLITE) and not uri.startswith(f"{_SQLITE}/"):
        return f"{_SQLITE}{root / uri.removeprefix(_SQLITE)}"
    if "://" not in uri and uri.partition(":")[0] not in _SCHEMES:
        return str(root / uri)
    return uri


def relative(uri: str, root: Path) -> str:
    """The address, so that it means the same after the project has moved."""
    path = Path(uri.removeprefix(_SQLITE))
    if uri.startswith(_SQLITE) and path.is_relative_to(root):
        return f"{_SQLITE}{path.relative_to(root)}"
    return uri
