"""SQLAlchemy's errors as ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from mlp.core.errors import ConfigurationError, MlpError, RemoteError
from mlp.core.patience import waiting_for
from mlp.core.secrets import mask_urls

# The driver gives no code where a connection is refused, only the server's words.
_WRONG_ADDRESS = re.compile(
    r'FATAL: +((?:database|role) ".*" does not exist|password authentication failed for .*)'
)


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """RemoteError for a server that is away, ConfigurationError for anything else it refuses."""
    try:
        with waiting_for(f"the state database at {mask_urls(uri)}"):
            yield
    except exc.SQLAlchemyError as e:
        raise meaning(e, uri) from e
    except OSError as e:  # the folder of a SQLite file, or its lock
        raise _unusable(uri, str(e)) from e


def meaning(error: exc.SQLAlchemyError, uri: str) -> MlpError:
    """What an error of SQLAlchemy means to a user of the database at `uri`."""
    said = mask_urls(str(getattr(error, "orig", None) or error)).strip()[:500]
    if isinstance(error, exc.NoSuchModuleError | exc.ArgumentError):
        return unknown_address(uri, said)
    away = isinstance(error, exc.OperationalError | exc.InterfaceError | exc.TimeoutError)
    if wrong := _WRONG_ADDRESS.search(said):
        return ConfigurationError(
            f"the state database at {mask_urls(uri)} refuses: {wrong[1]}",
            fix="correct `state` in mlp.yaml or MLP_STATE, or make there what it names",
        )
    if away and not uri.startswith("sqlite"):
        return RemoteError(
            f"cannot reach the state database at {mask_urls(uri)}",
            fix="check that the server is up, and `state` in mlp.yaml or MLP_STATE",
            cause=said,
        )
    return _unusable(uri, said)


def unknown_address(uri: str, cause: str = "") -> ConfigurationError:
    """Of an address that names no database of a kind that mlp can use."""
    return ConfigurationError(
        f"{mask_urls(uri)!r} is not the address of a state database",
        fix="`state` in mlp.yaml is sqlite:///PATH or postgresql://HOST/DATABASE,"
        " with USER:PASSWORD@ before HOST where that asks for them",
        cause=cause,
    )


def missing_driver(uri: str, cause: str) -> ConfigurationError:
    """Of a database whose Python driver is not installed."""
    return ConfigurationError(
        f"the driver of {mask_urls(uri)} is not installed",
        fix="pip install 'mlp-loop[postgres]'",
        cause=cause,
    )


def _unusable(uri: str, cause: str) -> ConfigurationError:
    fix = "check that its file and folder can be written" if uri.startswith("sqlite") else ""
    return ConfigurationError(
        f"the state database at {mask_urls(uri)} cannot be used",
        fix=fix or "check the rights of its user",
        cause=cause,
    )
