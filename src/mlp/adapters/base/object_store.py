"""The door to fsspec: files at addresses such as s3://BUCKET/PATH, and its errors as ours.

The libraries below have no error in common: botocore's, of missing credentials or a lost
connection, are not OSErrors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlp.core.errors import ConfigurationError, RemoteError

_FOREIGN = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "google", "azure", "adlfs")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}


def is_address(place: object) -> bool:
    """Whether a place is an address and not a folder."""
    return "://" in str(place)


def filesystem(address: str, what: str, where: str = "", **options: Any) -> tuple[Any, str]:
    """What reaches the address, and the path in it; a folder of this machine is one, too.

    Raises ConfigurationError, which says that `what` goes there, where the package that reaches it
    is not installed (`where`: on this machine unless said).
    """
    from fsspec.core import url_to_fs

    try:
        found: tuple[Any, str] = url_to_fs(address, **options)
    except (ImportError, ValueError) as e:
        scheme = address.partition("://")[0]
        package = _PACKAGES.get(scheme, f"the fsspec package for {scheme}://")
        raise ConfigurationError(
            f"{what} go to {address}, which nothing that is installed can reach",
            fix=f"pip install {package} {where}".rstrip(),
            cause=str(e),
        ) from e
    return found


def is_foreign(error: BaseException) -> bool:
    """Whether a storage's own library raised it, from a tree of its own."""
    return type(error).__module__.partition(".")[0] in _FOREIGN


@contextmanager
def reaching(address: str, doing: str, fix: str) -> Iterator[None]:
    """Raises RemoteError ("cannot DOING") for what the store at an address refuses or cannot do."""
    try:
        yield
    except Exception as e:
        if not is_address(address) or not (isinstance(e, OSError) or is_foreign(e)):
            raise
        cause = f"{type(e).__name__}: {e}"
        raise RemoteError(f"cannot {doing}", fix=fix, cause=cause) from e
