"""A client of a tracking server, and MLflow's errors as ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlp.adapters.tracking.sqlite_store import half_made, opening
from mlp.core.errors import ConfigurationError, MlpError, RemoteError
from mlp.core.patience import waiting_for
from mlp.core.runs.environment import QUIET
from mlp.core.secrets import mask_urls

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
    from mlflow import MlflowClient

    with translated(uri), opening(uri):
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


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """MLflow's errors as ours: Refused where trying again is no use, else RemoteError."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    where = mask_urls(uri)
    try:
        with waiting_for(f"MLflow at {where}"):
            yield
    except MlflowException as e:
        raise (half_made(uri) or _meaning(e, where, uri)) from e
    except FileNotFoundError as e:
        raise Refused(f"there is no file {e.filename} any more") from e
    except (RequestException, SQLAlchemyError, OSError) as e:
        raise (half_made(uri) or _unreachable(where, uri, str(e))) from e


def _meaning(error: Exception, where: str, uri: str) -> MlpError:
    text = mask_urls(str(error))
    if "schema" in text and "upgrade" in text:
        return ConfigurationError(
            f"the MLflow store at {where} has the schema of another MLflow version",
            fix=f"back it up, then: mlflow db upgrade {where}",
            cause=text,
        )
    code = getattr(error, "error_code", "")
    if code in _LOGIN:
        return RemoteError(
            f"MLflow at {where} {_LOGIN[code]}",
            fix="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or"
            " MLFLOW_TRACKING_TOKEN; then: mlp runs sync",
            cause=text[:500],
        )
    if code in _FINAL:
        return Refused(f"MLflow refused: {text}", fix="check `tracking.uri` in mlp.yaml")
    return _unreachable(where, uri, text)


_LOGIN = {
    "UNAUTHENTICATED": "does not know who you are",
    "CUSTOMER_UNAUTHORIZED": "does not know who you are",
    "PERMISSION_DENIED": "does not allow this to the user that you are",
}
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
