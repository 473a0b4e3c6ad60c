"""What the libraries below say of a DVC remote, as our errors: one door for data and for our files.

There is no list of these errors: each storage has its library, and each library a tree of its own.
DVC raises a count of the files that failed, and only logs why.
"""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mlp.adapters.base.object_store import is_foreign
from mlp.adapters.data.packages import missing_package
from mlp.core.errors import MlpError, RemoteError, Unavailable, from_os_error, links
from mlp.core.patience import waiting_for

# Of this machine's own disk, whatever was being moved.
_LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE)
# What storage answers for good: the request itself is wrong.
_FINAL = (errno.EINVAL, errno.EPERM, errno.ENOSYS)
_CREDENTIALS = (
    "check the credentials, and this machine's clock: storage refuses a signature whose time is"
    " some minutes off; `mlp doctor` asks it"
)
_AWAY = "check that it is up and its address right: `mlp doctor` asks it"


@contextmanager
def storage_translated(url: str) -> Iterator[None]:
    """What is raised in the block about the storage at `url` as ours.

    Unavailable where trying again may help, else RemoteError or ConfigurationError. What is not of
    the storage comes through.
    """
    heard: list[BaseException] = []
    try:
        with _overheard(heard), waiting_for(f"the DVC remote {url}"):
            yield
    except Exception as e:
        known = meaning(
            heard if isinstance(e, MlpError) else [*links(e, contexts=True), *heard], url
        )
        if known is None:
            raise
        raise known from e


def meaning(errors: list[BaseException], url: str) -> MlpError | None:
    """What an error and its causes say of the storage at `url`; None where they do not."""
    for error in errors:
        cause = str(error) or type(error).__name__
        if isinstance(error, ImportError):
            return missing_package(url, error)
        if isinstance(error, PermissionError) and error.filename is None:
            message = f"the DVC remote {url} does not let this user in"
            return RemoteError(message, fix=_CREDENTIALS, cause=cause)
        if isinstance(error, FileNotFoundError) and error.filename is None:
            what = error.args[-1] if error.args else "what was asked for"
            return RemoteError(f"the DVC remote {url} does not have {what}", cause=cause)
        if isinstance(error, OSError) and (error.errno in _LOCAL or error.filename):
            return from_os_error(error)
        if isinstance(error, OSError) and error.errno in _FINAL:
            message = f"the DVC remote {url} refused the request"
            return RemoteError(message, fix="`dvc remote list` shows its address", cause=cause)
        foreign = is_foreign(error)
        if foreign and "Credentials" in type(error).__name__:
            message = f"there are no credentials for the DVC remote {url}"
            return RemoteError(message, fix=_CREDENTIALS, cause=cause)
        if foreign or isinstance(error, OSError):
            named = cause if isinstance(error, OSError) else f"{type(error).__name__}: {cause}"
            return Unavailable(f"the DVC remote {url} does not answer", fix=_AWAY, cause=named)
    return None


@contextmanager
def _overheard(heard: list[BaseException]) -> Iterator[None]:
    """Collect the exceptions that DVC logs in the block instead of raising them."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1] is not None:
                heard.extend(links(record.exc_info[1], contexts=True))

    listener = Listener(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects")]
    for logger in loggers:
        logger.addHandler(listener)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(listener)
