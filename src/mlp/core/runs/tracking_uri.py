"""Addresses of MLflow and of the ledger: from any directory, and with any SQLAlchemy, the same."""

import re
from pathlib import Path
from urllib.parse import unquote

from mlp.core.errors import ConfigurationError

_SQLITE = "sqlite:///"
# Addresses without `://` that are not paths.
_SCHEMES = ("databricks", "file", "uc")
# SQLAlchemy 2.1 means another driver by the plain name than 2.0, not that of mlp-loop[postgres].
_PLAIN = ("postgresql://", "postgres://")
_POSTGRESQL = "postgresql+psycopg2://"
# What means something in an address. Escaped it would do for SQLAlchemy, but MLflow decodes plain
# paths too, as those of artifacts, and makes the folder of the escaped name beside the project.
_NOT_IN_A_PATH = re.compile(r"\?|%[0-9a-fA-F]{2}")


def absolute(uri: str, root: Path) -> str:
    """The address, so that it means the same from every working directory and to every version."""
    if uri.startswith(_SQLITE) and not uri.startswith(f"{_SQLITE}/"):
        return f"{_SQLITE}{root / uri.removeprefix(_SQLITE)}"
    if "://" not in uri and uri.partition(":")[0] not in _SCHEMES:
        return str(root / uri)
    return with_driver(uri)


def is_file(uri: str) -> bool:
    """Whether an absolute address is a file or a folder, which only this machine has."""
    return uri.startswith(("sqlite:", "file:", "/"))


def file_of(uri: str) -> str:
    """The path of the SQLite file at the address, as SQLAlchemy reads it."""
    return unquote(uri.removeprefix(_SQLITE).partition("?")[0])


def artifacts_beside(uri: str) -> Path:
    """Where the artifacts of the SQLite store at the address are: beside its file."""
    return Path(file_of(uri)).parent / "mlartifacts"


def refuse_odd(root: Path) -> None:
    """ConfigurationError where MLflow would take the path of a project for another one."""
    found = _NOT_IN_A_PATH.search(str(root))
    if found:
        raise ConfigurationError(
            f"{root} cannot be a project: {found[0]!r} in its path is part of an address to MLflow,"
            " which would write outside of it",
            fix="rename that directory: no `?`, and no `%` before two hexadecimal digits",
        )


def with_driver(uri: str) -> str:
    """The address, with our driver's name where it is PostgreSQL's without one."""
    for plain in _PLAIN:
        if uri.startswith(plain):
            return _POSTGRESQL + uri.removeprefix(plain)
    return uri


def relative(uri: str, root: Path) -> str:
    """The address, so that it means the same after the project has moved."""
    path = Path(uri.removeprefix(_SQLITE))
    if uri.startswith(_SQLITE) and path.is_relative_to(root):
        return f"{_SQLITE}{path.relative_to(root)}"
    return uri
