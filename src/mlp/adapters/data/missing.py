"""Data that a pipeline begins with and this work tree lacks, as a clone does before `dvc pull`.

DVC looks when it comes to them, after the stages before have run, and does not say what helps.
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlp.adapters.data.dvc_errors import chain
from mlp.core.errors import ConfigurationError, RemoteError, StageFailed
from mlp.core.patience import waiting_for
from mlp.core.secrets import mask_urls

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage

# More names than these would hide the rest of a message.
_MOST_NAMES = 5
_NO_REMOTE = "copy it here, or add the DVC remote that has it: dvc remote add --default NAME URL"


def refuse(repo: "Repo", stages: Sequence["Stage"]) -> None:
    """Raise ConfigurationError where data of `stages` only has to be there, and is not."""
    missing = [out for stage in stages if _is_given(stage) for out in stage.outs if not out.exists]
    if not missing:
        return
    names = [str(out) for out in missing[:_MOST_NAMES]]
    more = len(missing) - len(names)
    raise ConfigurationError(
        f"the pipeline needs data that is not here: {', '.join(names)}"
        + (f" and {more} more" if more else ""),
        fix=_fix(repo, missing),
        cause="\n".join(
            f"{out} is imported from {_source(out.stage)}" for out in missing if out.stage.is_import
        ),
    )


def inputs(stage: "Stage") -> list[str]:
    """The files of this machine that a stage reads and that are not there."""
    return [str(dep) for dep in stage.deps if dep.protocol == "local" and not dep.exists]


def refuse_inputs(stage: "Stage", error: Exception) -> None:
    """Raise StageFailed where `error`, which kept a stage from beginning, is of missing inputs."""
    if absent := inputs(stage):
        raise StageFailed(
            f"stage {stage.addressing!r} needs what is not here: {', '.join(absent)}",
            stage=stage.addressing,
            fix="put it there, or name it in dvc.yaml under `outs` of the stage that makes it",
            cause=chain(error),
        ) from error


@contextmanager
def fetching(stage: "Stage") -> Iterator[None]:
    """Raise RemoteError, naming the source, where data that no stage makes cannot be fetched."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    try:
        with waiting_for(f"the data of {stage.addressing}"):
            yield
    except LockError:
        raise
    except DvcException as e:
        names = ", ".join(map(str, stage.outs))
        if stage.is_import:
            message, fix = (
                f"cannot fetch {names} from {_source(stage)}",
                f"check that the source is there; `dvc update {shlex.quote(stage.addressing)}`"
                " follows one that has changed",
            )
        else:
            message, fix = f"DVC does not have {names}", _fix_of_added(stage.repo)
        raise RemoteError(message, fix=fix, cause=chain(e)) from e


def _is_given(stage: "Stage") -> bool:
    """Whether DVC makes nothing of it: the data of `dvc add`, a frozen import, a frozen stage."""
    return not stage.is_partial_import and (stage.frozen or not (stage.cmd or stage.is_import))


def _source(stage: "Stage") -> str:
    return mask_urls(str(stage.deps[0]))


def _fix(repo: "Repo", missing: Sequence["Output"]) -> str:
    names = [shlex.quote(str(out)) for out in missing] if len(missing) <= _MOST_NAMES else []
    if not any(out.changed_cache() for out in missing):
        return " ".join(["dvc checkout", *names])
    if repo.config["remote"] or any(out.stage.is_import for out in missing):
        return " ".join(["dvc pull", *names, "  (or run with --pull)"])
    return _NO_REMOTE


def _fix_of_added(repo: "Repo") -> str:
    """What to do about data of `dvc add` that no remote could give."""
    return "`dvc push` it where it was added" if repo.config["remote"] else _NO_REMOTE
