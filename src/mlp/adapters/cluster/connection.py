"""A connection to a cluster: requests with plain JSON in and out, errors as ours.

Objects stay the dictionaries that the API sends: a thousand pods as the client's own models take
seconds and hundreds of megabytes.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from mlp.core.errors import ConfigurationError, MissingExtraError, MlpError, RemoteError
from mlp.core.patience import waiting_for

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

Manifest = Mapping[str, Any]
Object = dict[str, Any]

# Seconds to connect, and to wait for an answer. A watch or a log says how long it may be silent.
_CONNECT_S, _READ_S = 5.0, 30.0
_MERGE_PATCH = "application/merge-patch+json"


class NotFoundError(RemoteError):
    """What was asked for is not in the cluster."""


class ExistsError(RemoteError):
    """Something of that name is there already."""


class ForbiddenError(RemoteError):
    """The cluster knows who asks, and does not allow it."""


class UnreachableError(RemoteError):
    """Nothing answered: worth trying again."""


class Cluster:
    """A cluster as the kubeconfig has it, or from inside of a pod. Raises ConfigurationError for a
    context that is not there; nothing is asked of the cluster yet."""

    def __init__(self, context: str | None, namespace: str) -> None:
        self.context = context
        self.namespace = namespace
        try:
            from kubernetes import client, config
        except ModuleNotFoundError as e:
            raise MissingExtraError("running on Kubernetes", "kubernetes", str(e)) from e
        settings = client.Configuration()
        in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ
        try:
            if in_pod and context is None:
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(
                    os.environ.get("KUBECONFIG"),  # the client has read it once, at its import
                    context=context,
                    client_configuration=settings,
                )
        except config.ConfigException as e:
            raise ConfigurationError(
                f"no usable kubeconfig for context {context!r}"
                if context
                else "no usable kubeconfig",
                fix="`kubectl config get-contexts` shows those that there are; set KUBECONFIG",
                cause=str(e),
            ) from e
        settings.retries = False
        self._settings = settings
        self._api = client.ApiClient(settings)

    @property
    def address(self) -> str:
        """Of the API server."""
        return str(self._settings.host)

    @property
    def _name(self) -> str:
        return f"the cluster at {self.address}"

    # --- requests --------------------------------------------------------------------------------

    def get(self, path: str, **query: Any) -> Object:
        """The object or list at `path`, such as `/api/v1/nodes`."""
        return self._json("GET", path, query)

    def create(self, path: str, body: Manifest, **query: Any) -> Object:
        """Make an object; returns it as the cluster has it. Raises ExistsError."""
        return self._json("POST", path, query, body)

    def patch(self, path: str, body: Manifest, **query: Any) -> Object:
        """Change an object by a JSON merge patch."""
        return self._json("PATCH", path, query, body, _MERGE_PATCH)

    def delete(self, path: str, **query: Any) -> Object:
        """Delete an object and, in the background, what it owns. Raises NotFoundError."""
        return self._json("DELETE", path, {"propagationPolicy": "Background", **query})

    def watch(self, path: str, silence: float, **query: Any) -> Iterator[Object]:
        """Events `{"type": ..., "object": ...}` of a list, until the server ends it.

        Raises UnreachableError where nothing comes for `silence` seconds; `timeoutSeconds` in
        `query` makes the server end it before.
        """
        for line in self.lines(path, silence, watch="true", **query):
            yield json.loads(line)

    def lines(self, path: str, silence: float, **query: Any) -> Iterator[bytes]:
        """What is at `path`, line by line as it comes; for watches and logs."""
        response = self._request("GET", path, query, read=silence)
        with translated(f"GET {path}", self.address):
            rest = b""
            try:
                for data in response.stream(65536, decode_content=True):
                    *complete, rest = (rest + data).split(b"\n")
                    yield from complete
                if rest:
                    yield rest
            finally:
                response.close()

    def path(self, kind: str, name: str | None = None, api: str = "/api/v1") -> str:
        """The path of a kind, or one object of it, in this connection's namespace."""
        place = f"{api}/namespaces/{quote(self.namespace)}/{kind}"
        return place if name is None else f"{place}/{quote(name)}"

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Manifest | None = None,
        content_type: str = "application/json",
    ) -> Object:
        response = self._request(method, path, query, body, content_type)
        with translated(f"{method} {path}", self.address), waiting_for(self._name):
            data: Object = json.loads(response.read())
        return data

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Manifest | None = None,
        content_type: str = "application/json",
        read: float = _READ_S,
    ) -> "BaseHTTPResponse":
        import urllib3

        headers = {"Accept": "application/json", "Content-Type": content_type}
        token = self._settings.auth_settings().get("BearerToken", {}).get("value")
        if token:
            headers["Authorization"] = token
        with translated(f"{method} {path}", self.address), waiting_for(self._name):
            response: BaseHTTPResponse = self._api.rest_client.pool_manager.request(
                method,
                f"{self.address}{path}" + (f"?{urlencode(query)}" if query else ""),
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(connect=_CONNECT_S, read=read),
                preload_content=False,
            )
            if response.status >= 400:
                raise _refusal(method, path, response.status, response.read())
            return response


def _refusal(method: str, path: str, status: int, body: bytes) -> MlpError:
    """An answer of 400 or more in words."""
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace")[:500]
    doing = f"{method} {path}"
    if status == 404:
        return NotFoundError(f"the cluster does not have {path}", cause=message)
    if status == 409:
        return ExistsError(f"{path} exists already", cause=message)
    if status == 401:
        return ForbiddenError(
            "the cluster does not know who you are",
            fix="log in again; `kubectl auth whoami` shows who you are",
            cause=message,
        )
    if status == 403:
        return ForbiddenError(
            f"the cluster does not allow {doing}",
            fix="`mlp targets check` shows what is missing; docs/role.yaml is the least role",
            cause=message,
        )
    if status in (429, 500, 502, 503, 504):
        return UnreachableError(f"the cluster is too busy for {doing}", cause=message)
    return RemoteError(f"the cluster refused {doing} ({status})", cause=message)


@contextmanager
def translated(doing: str, address: str) -> Iterator[None]:
    """urllib3's errors as ours."""
    from urllib3 import exceptions

    try:
        yield
    except exceptions.SSLError as e:
        raise RemoteError(
            f"the certificate of {address} is not trusted", fix="renew the kubeconfig", cause=str(e)
        ) from e
    except exceptions.HTTPError as e:
        raise UnreachableError(
            f"cannot reach the cluster at {address}",
            fix="check `kubectl cluster-info`",
            cause=f"{doing}: {e}",
        ) from e
