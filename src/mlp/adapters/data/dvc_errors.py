"""DVC's errors as ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mlp.adapters.data import values
from mlp.core.errors import ConfigurationError, RemoteError, StageFailed, UsageError, links


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """DVC's errors as ours."""
    from dvc import exceptions as dvc
    from dvc.config import ConfigError
    from dvc.dependency.base import DependencyIsStageFileError
    from dvc.lock import LockError
    from dvc.stage.exceptions import StageNotFound
    from dvc.utils.serialize import ParseError
    from dvc.utils.strictyaml import YAMLValidationError

    try:
        yield
    except dvc.NotDvcRepoError as e:
        raise ConfigurationError("this is not a DVC project", fix="dvc init") from e
    except LockError as e:
        raise ConfigurationError(
            f"DVC is busy in this project ({doing})",
            fix="wait for the other `dvc` or `mlp` command, or end it",
            cause=str(e),
        ) from e
    except (dvc.StageNotFoundError, StageNotFound, dvc.NoOutputOrStageError) as e:
        raise UsageError(str(e), fix="`dvc stage list` names the stages") from e
    except (YAMLValidationError, ParseError) as e:
        raise ConfigurationError(_yaml_message(e), fix=_yaml_fix(str(e)), cause=chain(e)) from e
    except (dvc.DownloadError, dvc.UploadError, dvc.CheckoutError) as e:
        raise RemoteError(f"{doing}: {e}", fix="check `dvc remote list`", cause=chain(e)) from e
    except DependencyIsStageFileError as e:
        raise ConfigurationError(str(e), fix="take it out of `deps` in dvc.yaml") from e
    except TypeError as e:
        refused = values.unsupported(e)
        if refused is None:
            raise
        raise refused from e
    except (ConfigError, dvc.DvcException) as e:
        raise ConfigurationError(f"{doing}: {e}", cause=chain(e.__cause__)) from e


def stage_failure(stage: str, error: Exception) -> StageFailed:
    """What made DVC give a stage up: its command, or something around it."""
    status = re.search(r"exited with (-?\d+)$", str(error))
    return StageFailed(
        f"stage {stage!r} failed",
        stage=stage,
        status=int(status[1]) if status else None,
        cause=chain(error),
    )


def _yaml_message(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _yaml_fix(message: str) -> str:
    if "dvc.lock" in message:
        return "git checkout dvc.lock   (or remove it: the next run writes it again)"
    return "correct the file; `dvc stage list` checks it"


def chain(error: BaseException | None) -> str:
    """The messages of an error and of all that caused it, the outermost first."""
    return "\n".join(dict.fromkeys(filter(None, map(str, links(error)))))
