"""The door to DVC: data versions, pipelines, the lock."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.core.errors import ConfigurationError, MlpError, RemoteError, UsageError, UserCodeError
from mlp.core.pipeline import DataItem, PlannedStage, StageState, flatten

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

Begun = Callable[[str], None]
# A stage's state after DVC is done with it, and whether DVC changed anything. State is None where
# the stage failed.
Ended = Callable[[str, StageState | None, bool], None]


def root(start: Path) -> Path | None:
    """The DVC project that `start` is in, None where it is in none."""
    for folder in (start, *start.parents):
        if (folder / ".dvc").is_dir():
            return folder
    return None


def init(path: Path, *, no_scm: bool = False) -> None:
    """Make `path` a DVC project with DVC's analytics off."""
    from dvc.repo import Repo

    with translated("initialising DVC"):
        repo = Repo.init(str(path), no_scm=no_scm)
        with repo.config.edit("repo") as settings:
            settings.setdefault("core", {})["analytics"] = False
        repo.close()


@contextmanager
def opened(path: Path) -> Iterator["Repo"]:
    """DVC's own object for the project with its root at `path`."""
    with translated("opening the DVC project"):
        from dvc.repo import Repo

        with Repo(str(path)) as repo:
            yield repo


def stages(path: Path) -> tuple[StageState, ...]:
    """Every stage of every dvc.yaml, with what the lock has of it."""
    with opened(path) as repo:
        return tuple(_state(stage) for stage in repo.index.stages if _is_pipeline(stage))


def reproduce(
    path: Path,
    targets: Sequence[str],
    *,
    force: bool,
    no_commit: bool,
    begun: Begun,
    ended: Ended,
) -> None:
    """Run what DVC says must run, telling `begun` and `ended` of each stage, in order.

    Raises UserCodeError where a stage fails. The order, the cache and the lock are all DVC's.
    """

    def one(stage: "Stage", **kwargs: Any) -> "Stage | None":
        from dvc.repo.reproduce import _reproduce_stage

        if not _is_pipeline(stage):
            return _reproduce_stage(stage, **kwargs)
        begun(stage.addressing)
        try:
            changed = _reproduce_stage(stage, **kwargs)
        except BaseException:
            ended(stage.addressing, None, True)
            raise
        ended(stage.addressing, _state(stage), bool(changed))
        return changed

    with opened(path) as repo:
        repo.reproduce(
            list(targets) or None,
            force=force,
            no_commit=no_commit,
            run_cache=not no_commit,
            repro_fn=one,
        )


def plan(path: Path, targets: Sequence[str], *, force: bool) -> tuple[PlannedStage, ...]:
    """What `reproduce` would do, in its order; a stage below one that runs is taken to run too."""
    order: list[Stage] = []
    with opened(path) as repo:
        repo.reproduce(list(targets) or None, repro_fn=lambda stage, **_: order.append(stage))
        with repo.lock:
            return _plan(order, force)


def _plan(order: Sequence["Stage"], force: bool) -> tuple[PlannedStage, ...]:
    planned: list[PlannedStage] = []
    made_anew: dict[str, str] = {}  # output path -> stage
    for stage in filter(_is_pipeline, order):
        reasons = ["forced"] if force else [*_reasons(stage)]
        for dep in stage.deps:
            above = next((s for path, s in made_anew.items() if _within(str(dep), path)), None)
            if above and not force:
                reasons.append(f"{above} runs, which makes {dep}")
        if reasons:
            made_anew |= {str(out): stage.addressing for out in stage.outs}
        planned.append(PlannedStage(stage.addressing, bool(reasons), tuple(dict.fromkeys(reasons))))
    return tuple(planned)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/") or folder.startswith(f"{path}/")


def _reasons(stage: "Stage") -> Iterator[str]:
    """DVC's status of a stage in words."""
    for entry in stage.status().get(stage.addressing, []):
        if isinstance(entry, str):
            yield {
                "changed command": "its command changed",
                "always changed": "it always runs",
            }.get(entry, entry)
            continue
        for kind, items in entry.items():
            noun = "output" if kind == "changed outs" else "input"
            for name, change in items.items():
                if isinstance(change, dict):  # a params file: {key: how it changed}
                    yield from (f"param {key} is {how} ({name})" for key, how in change.items())
                else:
                    yield f"{noun} {name} is {change}"


def metrics(path: Path) -> dict[str, dict[str, Any]]:
    """The contents of every metrics file of the project that can be read, by its path."""
    with opened(path) as repo:
        shown = repo.metrics.show(on_error="ignore").get("", {}).get("data", {})
        return {name: result["data"] for name, result in shown.items() if "data" in result}


def plots(path: Path) -> tuple[str, ...]:
    """The paths of every plot's data or image in the project."""
    with opened(path) as repo:
        return tuple(repo.index._plot_sources)


def _is_pipeline(stage: "Stage") -> bool:
    """Whether it is a stage with a command; the files of `dvc add` are stages to DVC as well."""
    return bool(stage.cmd)


def _state(stage: "Stage") -> StageState:
    from dvc.dependency import ParamsDependency

    params: dict[str, Any] = {}
    deps: list[DataItem] = []
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            params |= _params(dep.def_path, dep.hash_info.value or {})
        else:
            deps.append(_item(dep))
    commands = stage.cmd if isinstance(stage.cmd, list) else [stage.cmd]
    outs = tuple(_item(out) for out in stage.outs)
    return StageState(stage.addressing, tuple(commands), tuple(deps), outs, params)


def _params(file: str, values: Mapping[str, Any]) -> dict[str, Any]:
    prefix = "" if file == "params.yaml" else f"{file}:"
    return flatten(values, prefix)


def _item(entry: Any) -> DataItem:
    return DataItem(str(entry), entry.hash_info.value, entry.meta.size, entry.meta.nfiles)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """DVC's errors as ours."""
    from dvc import exceptions as dvc
    from dvc.config import ConfigError
    from dvc.lock import LockError
    from dvc.stage.exceptions import StageCmdFailedError, StageNotFound
    from dvc.utils.strictyaml import YAMLValidationError
    from dvc.utils.serialize import ParseError

    try:
        yield
    except dvc.ReproductionError as e:
        raise _stage_failure(e, StageCmdFailedError) from e
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
        raise ConfigurationError(_yaml_message(e), fix=_yaml_fix(str(e)), cause=_chain(e)) from e
    except (dvc.DownloadError, dvc.UploadError, dvc.CheckoutError) as e:
        raise RemoteError(f"{doing}: {e}", fix="check `dvc remote list`", cause=_chain(e)) from e
    except (ConfigError, dvc.DvcException) as e:
        raise ConfigurationError(f"{doing}: {e}", cause=_chain(e)) from e


def _stage_failure(error: Exception, command_failed: type[Exception]) -> MlpError:
    """What made DVC give a stage up: its command, or something around it."""
    cause = error.__cause__
    if cause is None or isinstance(cause, command_failed):
        return UserCodeError(str(error), cause=_chain(error))
    if isinstance(cause, OSError):
        raise cause
    return UserCodeError(str(error), cause=_chain(error))


def _yaml_message(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _yaml_fix(message: str) -> str:
    if "dvc.lock" in message:
        return "git checkout dvc.lock   (or remove it: the next run writes it again)"
    return "mend the file; `dvc stage list` checks it"


def _chain(error: BaseException) -> str:
    """The messages of an error and of all that caused it, the outermost first."""
    messages: list[str] = []
    link: BaseException | None = error
    while link is not None:
        if str(link) and str(link) not in messages:
            messages.append(str(link))
        link = link.__cause__
    return "\n".join(messages)
