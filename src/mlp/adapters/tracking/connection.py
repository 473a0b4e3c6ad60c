"""A client of a tracking server, and MLflow's errors as ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlp.core.environment import QUIET
from mlp.core.errors import ConfigurationError, MlpError, RemoteError
from mlp.core.secrets import mask_urls
from mlp.core.tracking_uri import file_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A server that is away is told of at once instead of after MLflow's own seven tries (minutes).
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


_PORTS = {"http": 80, "https": 443}
_PROBE_S = 2.0


class Refused(RemoteError):  # noqa: N818 - what the server said to one request
    """The server answered, and will answer the same again: trying once more is no use."""


def client(uri: str) -> "MlflowClient":
    """A client of the server or the SQLite file at `uri`."""
    probe(uri)
    for name, value in (QUIET | _PATIENCE).items():
        os.environ.setdefault(name, value)
    make_folder(uri)
    from mlflow import MlflowClient

    with translated(uri):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def probe(uri: str) -> None:
    """Raise RemoteError where nothing answers at the address of a server, without MLflow.

    Behind a proxy only a real request can tell, so that nothing is tried there.
    """
    parts = urlsplit(uri)
    if parts.scheme not in _PORTS or not parts.hostname:
        return
    import socket
    from urllib.request import getproxies, proxy_bypass

    if parts.scheme in getproxies() and not proxy_bypass(parts.hostname):
        return
    address = (parts.hostname, parts.port or _PORTS[parts.scheme])
    try:
        socket.create_connection(address, _PROBE_S).close()
    except OSError as e:
        raise _unreachable(mask_urls(uri), uri, str(e)) from e


def make_folder(uri: str) -> None:
    """Make the folder of a SQLite store where there is none yet."""
    if uri.startswith("sqlite:///"):
        make_unlisted(Path(file_of(uri)).parent)


def make_unlisted(folder: Path) -> None:
    """Make the folder, with what it will hold nothing for git to list or for DVC to search."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    for name in (".gitignore", ".dvcignore"):
        (folder / name).write_text("*\n", encoding="utf-8")


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """MLflow's errors as ours: Refused where trying again is no use, else RemoteError."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    where = mask_urls(uri)
    try:
        yield
    except MlflowException as e:
        raise _meaning(e, where, uri) from e
    except FileNotFoundError as e:
        raise Refused(f"there is no file {e.filename} any more") from e
    except (RequestException, SQLAlchemyError, OSError) as e:
        raise _unreachable(where, uri, str(e)) from e


def _meaning(error: Exception, where: str, uri: str) -> MlpError:
    text = mask_urls(str(error))
    if "schema" in text and "upgrade" in text:
        return ConfigurationError(
            f"the MLflow store at {where} has the schema of another MLflow version",
            fix=f"back it up, then: mlflow db upgrade {where}",
            cause=text,
        )
    if getattr(error, "error_code", "") in _FINAL:
        return Refused(f"MLflow refused: {text}", fix="check `tracking.uri` in mlp.yaml")
    return _unreachable(where, uri, text)


_FINAL = (
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "INVALID_STATE",
    "BAD_REQUEST",
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
)


def _unreachable(where: str, uri: str, cause: str) -> RemoteError:
    local = uri.startswith("sqlite:")
    fix = "check the file and its directory" if local else "check that the server is up"
    return RemoteError(f"cannot reach MLflow at {where}", fix=fix, cause=mask_urls(cause)[:500])
