"""MLflow's client of a tracking server."""

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlp.adapters.tracking.mlflow_errors import translated, unreachable
from mlp.adapters.tracking.sqlite_store import opening
from mlp.core.runs.environment import QUIET

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
        raise unreachable(uri, str(e)) from e
