"""MLflow's errors as ours, whichever way a store is asked."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mlp.adapters.tracking.sqlite_store import half_made
from mlp.core.errors import ConfigurationError, LoginRefused, MlpError, RemoteError
from mlp.core.patience import waiting_for
from mlp.core.secrets import mask_urls


class Refused(RemoteError):  # noqa: N818 - what the server said to one request
    """The server answered, and will answer the same again: trying once more is pointless."""


class RestError(Exception):
    """A server's refusal of a request, with MLflow's code for it."""

    def __init__(self, message: str, error_code: str) -> None:
        super().__init__(message)
        self.error_code = error_code


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """MLflow's errors as ours: Refused where trying again is pointless, else RemoteError."""
    where = mask_urls(uri)
    try:
        with waiting_for(f"MLflow at {where}"):
            yield
    except _refusals() as e:
        raise (half_made(uri) or _meaning(e, where, uri)) from e
    except FileNotFoundError as e:
        raise Refused(f"the file {e.filename} is gone") from e
    except _failures() as e:
        raise (half_made(uri) or unreachable(uri, str(e))) from e


def _refusals() -> tuple[type[Exception], ...]:
    """What a store raises that has answered."""
    return (RestError, *_raised_by("mlflow.exceptions", "MlflowException"))


def _failures() -> tuple[type[Exception], ...]:
    """What is raised where a store does not answer."""
    http = _raised_by("requests", "RequestException")
    return (OSError, sqlite3.Error, *http, *_raised_by("sqlalchemy.exc", "SQLAlchemyError"))


def _raised_by(module: str, name: str) -> tuple[type[Exception], ...]:
    """The class of what a library raises, which it cannot have raised where it is not imported."""
    found = getattr(sys.modules.get(module), name, None)  # another thread may be importing it
    return (found,) if found else ()


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
        return LoginRefused(
            f"MLflow at {where} {_LOGIN[code]}",
            fix="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or"
            " MLFLOW_TRACKING_TOKEN",
            cause=text[:500],
        )
    if code in _FINAL:
        return Refused(f"MLflow refused: {text}", fix="check `tracking.uri` in mlp.yaml")
    return unreachable(uri, text)


_LOGIN = {
    "UNAUTHENTICATED": "does not know who you are",
    "CUSTOMER_UNAUTHORIZED": "does not know who you are",
    "PERMISSION_DENIED": "does not allow you to do this",
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


def unreachable(uri: str, cause: str) -> RemoteError:
    """Of a store that does not answer, or not as a store would."""
    where = mask_urls(uri)
    local = uri.startswith("sqlite:")
    fix = "check the file and its directory" if local else "check that the server is up"
    return RemoteError(f"cannot reach MLflow at {where}", fix=fix, cause=mask_urls(cause)[:500])
