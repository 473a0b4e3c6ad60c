"""The door to DVC: data versions, pipelines, the lock."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.core.errors import ConfigurationError, MlpError, RemoteError, StageFailed, UsageError
from mlp.core.pipeline import DataItem, PlannedStage, StageState, flatten, within
from mlp.core.secrets import mask_urls

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
    import logging

    from dvc.repo import Repo

    logging.getLogger("dvc.repo.init").setLevel(logging.WARNING)  # says "Initialized" on stdout
    with translated("initialising DVC"):
        repo = Repo.init(str(path), no_scm=no_scm)
        with repo.config.edit("repo") as settings:
            settings.setdefault("core", {})["analytics"] = False
        repo.close()


_open: dict[Path, "Repo"] = {}


@contextmanager
def opened(path: Path) -> Iterator["Repo"]:
    """DVC's own object for the project at `path`, which is the working directory for the block.

    DVC names files as seen from there, and finds `dvc.yaml` there. Opened again inside of the
    block, it is the same one: what DVC has read is not read again.
    """
    with translated("opening the DVC project"):
        if path in _open:
            yield _open[path]
            return
        from dvc.repo import Repo

        # What DVC says of each stage, mlp says itself.
        logging.getLogger("dvc").setLevel(logging.WARNING)
        with chdir(path), Repo(str(path)) as repo:
            _open[path] = repo
            try:
                yield repo
            finally:
                del _open[path]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """`opened`, with DVC's lock on the project: what is read in the block is read once."""
    with opened(path) as repo:
        from dvc.repo import lock_repo

        with lock_repo(repo):
            _mend_files_in_use(repo)
            yield


def _mend_files_in_use(repo: "Repo") -> None:
    """Remove DVC's list of files in use where a kill left half of it: DVC would refuse for ever."""
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    path = Path(repo.tmp_dir) / RWLOCK_FILE
    if _is_json(path):
        return
    with make_lock(str(Path(repo.tmp_dir) / RWLOCK_LOCK), tmp_dir=repo.tmp_dir):
        if not _is_json(path):  # nobody was just writing it
            path.unlink()


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True


def stages(path: Path) -> tuple[StageState, ...]:
    """Every stage of every dvc.yaml, with what the lock has of it."""
    with opened(path) as repo:
        return tuple(_state(stage) for stage in repo.index.stages if _is_pipeline(stage))


def reproduce(
    path: Path,
    targets: Sequence[str],
    *,
    force: bool,
    begun: Begun,
    ended: Ended,
) -> None:
    """Run what DVC says must run, telling `begun` and `ended` of each stage, in order.

    Raises StageFailed where a stage fails. The order, the cache and the lock are all DVC's.
    """

    def one(stage: "Stage", **kwargs: Any) -> "Stage | None":
        from dvc.repo.reproduce import _reproduce_stage

        if not _is_pipeline(stage):
            return _reproduce_stage(stage, **kwargs)
        begun(stage.addressing)
        try:
            changed = _reproduce_stage(stage, **kwargs)
        except (OSError, LockError):
            ended(stage.addressing, None, True)
            raise
        except DvcException as e:
            ended(stage.addressing, None, True)
            raise _stage_failure(stage.addressing, e) from e
        ended(stage.addressing, _state(stage), bool(changed))
        return changed

    with opened(path) as repo:
        from dvc.exceptions import DvcException, ReproductionError
        from dvc.lock import LockError

        try:
            repo.reproduce(list(targets) or None, force=force, repro_fn=one)
        except ReproductionError as e:  # DVC's wrapping of what `one` raised
            raise (e.__cause__ or e) from e


def count(path: Path, targets: Sequence[str]) -> int:
    """How many stages `reproduce` would look at.

    Raises UsageError for a target that is none, ConfigurationError where DVC cannot begin.
    """
    with opened(path) as repo:
        return sum(map(_is_pipeline, _order(repo, targets)))


def plan(path: Path, targets: Sequence[str], *, force: bool) -> tuple[PlannedStage, ...]:
    """What `reproduce` would do, in its order; a stage below one that runs is taken to run too."""
    with opened(path) as repo:
        order = _order(repo, targets)
        with repo.lock:
            return _plan(order, force)


def _order(repo: "Repo", targets: Sequence[str]) -> "list[Stage]":
    order: list[Stage] = []
    repo.reproduce(list(targets) or None, repro_fn=lambda stage, **_: order.append(stage))
    return order


def _plan(order: Sequence["Stage"], force: bool) -> tuple[PlannedStage, ...]:
    planned: list[PlannedStage] = []
    made_anew: dict[str, str] = {}  # output path -> stage
    for stage in filter(_is_pipeline, order):
        reasons = ["forced"] if force else [*_reasons(stage)]
        for dep in stage.deps:
            name = str(dep)
            above = next(
                (made_anew[o] for o in made_anew if within(name, o) or within(o, name)), ""
            )
            if above and not force:
                reasons.append(f"{above} runs, which makes {dep}")
        if reasons:
            made_anew |= {str(out): stage.addressing for out in stage.outs}
        planned.append(PlannedStage(stage.addressing, bool(reasons), tuple(dict.fromkeys(reasons))))
    return tuple(planned)


def _reasons(stage: "Stage") -> Iterator[str]:
    """DVC's status of a stage in words."""
    entries = [*stage.deps, *stage.outs]
    if entries and not any(entry.hash_info for entry in entries):
        yield "it has not run yet"
        return
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


def share_cache(source: Path, target: Path) -> None:
    """Let the project at `target` use the cache and the local settings of the one at `source`."""
    with opened(source) as repo:
        cache = str(repo.cache.local.path)
        local = source / ".dvc" / "config.local"
        if local.is_file():
            (target / ".dvc" / "config.local").write_bytes(local.read_bytes())
    with opened(target) as repo, repo.config.edit("local") as settings:
        settings.setdefault("cache", {})["dir"] = cache


def check_out_sources(path: Path) -> tuple[str, ...]:
    """Put the data of `dvc add` in place, from the cache or the remote; returns what is missing."""
    with opened(path) as repo:
        files = [stage.path for stage in repo.index.stages if not _is_pipeline(stage)]
    missing = []
    for file in files:
        try:
            with opened(path) as repo:
                repo.pull(targets=[file])
        except MlpError:
            missing.append(str(Path(file).relative_to(path)))
    return tuple(missing)


def metrics(path: Path) -> dict[str, dict[str, Any]]:
    """The contents of every metrics file of the project that can be read, by its path."""
    with opened(path) as repo:
        shown = (
            repo.metrics.show(on_error="ignore", hide_workspace=False).get("", {}).get("data", {})
        )
        return {name: result["data"] for name, result in shown.items() if "data" in result}


def plots(path: Path) -> tuple[str, ...]:
    """The paths of every plot's data or image in the project."""
    with opened(path) as repo:
        of_stages = [str(out) for out in repo.index.outs if out.plot]
        return tuple(dict.fromkeys([*of_stages, *repo.index._plot_sources]))


def cached_files(path: Path, digests: Iterable[str]) -> dict[str, Path]:
    """Where the versions with these digests lie in the local cache; those that it lacks are left
    out. A directory's is the file that lists it: `directory_entries` reads that."""
    with opened(path) as repo:
        # DVC 2 kept its objects elsewhere; DVC 3 still reads them.
        stores = (repo.cache.local, repo.cache.legacy)
        return {
            digest: Path(store.oid_to_path(digest))
            for digest in digests
            for store in reversed(stores)
            if Path(store.oid_to_path(digest)).is_file()
        }


def directory_entries(path: Path, digest: str) -> dict[str, str] | None:
    """The files of a directory's version, by their path in it, with the digest of each.

    None where the local cache does not have that version's list. Raises ConfigurationError where
    the list is damaged.
    """
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.errors import ObjectFormatError

    with opened(path) as repo:
        for store in (repo.cache.local, repo.cache.legacy):
            if not Path(store.oid_to_path(digest)).is_file():
                continue
            try:
                tree = Tree.load(store, HashInfo(store.hash_name, digest), store.hash_name)
            except ObjectFormatError as e:
                raise ConfigurationError(str(e), fix="dvc fetch") from e
            return {"/".join(key): str(info.value) for key, _, info in tree if info}
    return None


def sources(path: Path) -> tuple[StageState, ...]:
    """The data of `dvc add` and of imports, each like a stage without a command that is named by
    its .dvc file."""
    with opened(path) as repo:
        return tuple(
            replace(_state(stage), command=())
            for stage in repo.index.stages
            if not _is_pipeline(stage)
        )


def differences(path: Path) -> dict[tuple[str, str], str]:
    """How the workspace differs from what is recorded, by stage (or .dvc file) and path:
    `modified`, `deleted`, or `new` where nothing is recorded. A param comes as `param NAME`."""
    from dvc.dependency.repo import RepoDependency

    found: dict[tuple[str, str], str] = {}
    with opened(path) as repo:
        for stage in repo.index.stages:
            for entry in (*stage.deps, *stage.outs):
                # Asking a remote takes long, and may need a password.
                if entry.protocol != "local" or isinstance(entry, RepoDependency):
                    continue
                for name, status in entry.workspace_status().items():
                    if isinstance(status, dict):  # a params file
                        for key, how in status.items():
                            found[stage.addressing, f"param {key}"] = how
                    else:
                        found[stage.addressing, name] = status
    return found


@dataclass(frozen=True, slots=True)
class Remote:
    """The default DVC remote. `holds_data` is False where its place answers and is empty."""

    name: str
    url: str
    holds_data: bool


def remote(path: Path) -> Remote | None:
    """Ask the default DVC remote whether it is there; None where no remote is configured.

    Raises ConfigurationError where it is configured wrongly or there are several and no default.
    What the remote's own library raises (no network, no rights) comes through.
    """
    with opened(path) as repo:
        name = repo.config["core"].get("remote")
        if name is None and not repo.config["remote"]:
            return None
        found = repo.cloud.get_remote(name, "push")
        url = mask_urls(str(repo.config["remote"][found.name].get("url", found.path)))
        return Remote(found.name, url, bool(found.fs.exists(found.path)))


def _is_pipeline(stage: "Stage") -> bool:
    """Whether it is a stage with a command; the files of `dvc add` are stages to DVC as well."""
    return bool(stage.cmd)


def _state(stage: "Stage") -> StageState:
    from dvc.dependency import ParamsDependency

    params: dict[str, Any] = {}
    deps: list[DataItem] = []
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            params |= _params(_path(dep), dep.hash_info.value or {})
        else:
            deps.append(_item(dep))
    commands = stage.cmd if isinstance(stage.cmd, list) else [stage.cmd]
    outs = tuple(_item(out) for out in stage.outs)
    return StageState(stage.addressing, tuple(commands), tuple(deps), outs, params)


def _params(file: str, values: Mapping[str, Any]) -> dict[str, Any]:
    prefix = "" if file == "params.yaml" else f"{file}:"
    return flatten(values, prefix)


def _item(entry: Any) -> DataItem:
    return DataItem(_path(entry), entry.hash_info.value, entry.meta.size, entry.meta.nfiles)


def _path(entry: Any) -> str:
    """Of a dependency or an output: from the project's root, whatever the working directory is."""
    if not entry.is_in_repo:
        return str(entry.def_path)
    return str(os.path.relpath(entry.fs_path, entry.repo.root_dir))


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """DVC's errors as ours."""
    from dvc import exceptions as dvc
    from dvc.config import ConfigError
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
        raise ConfigurationError(_yaml_message(e), fix=_yaml_fix(str(e)), cause=_chain(e)) from e
    except (dvc.DownloadError, dvc.UploadError, dvc.CheckoutError) as e:
        raise RemoteError(f"{doing}: {e}", fix="check `dvc remote list`", cause=_chain(e)) from e
    except (ConfigError, dvc.DvcException) as e:
        raise ConfigurationError(f"{doing}: {e}", cause=_chain(e.__cause__)) from e


def _stage_failure(stage: str, error: Exception) -> StageFailed:
    """What made DVC give a stage up: its command, or something around it."""
    status = re.search(r"exited with (-?\d+)$", str(error))
    return StageFailed(
        f"stage {stage!r} failed",
        stage=stage,
        status=int(status[1]) if status else None,
        cause=_chain(error),
    )


def _yaml_message(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _yaml_fix(message: str) -> str:
    if "dvc.lock" in message:
        return "git checkout dvc.lock   (or remove it: the next run writes it again)"
    return "mend the file; `dvc stage list` checks it"


def _chain(error: BaseException | None) -> str:
    """The messages of an error and of all that caused it, the outermost first."""
    messages: list[str] = []
    link = error
    while link is not None:
        if str(link) and str(link) not in messages:
            messages.append(str(link))
        link = link.__cause__
    return "\n".join(messages)
