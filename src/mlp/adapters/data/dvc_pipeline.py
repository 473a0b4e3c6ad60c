"""The pipeline: its stages, what would run, and running it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.core.patience import waiting_for
from mlp.core.runs.pipeline import DataItem, PlannedStage, StageState, flatten, within

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage
from mlp.adapters.data import missing, values
from mlp.adapters.data.dvc_errors import stage_failure
from mlp.adapters.data.dvc_project import opened

Begun = Callable[[str], None]

# What DVC says of data that is as it should be, and only has to be fetched.
_MISSING = ("deleted", "not in cache")

# A stage's state after DVC is done with it, and whether DVC changed anything. State is None where
# the stage failed.
Ended = Callable[[str, StageState | None, bool], None]


def stages(path: Path) -> tuple[StageState, ...]:
    """Every stage of every dvc.yaml, with what the lock has of it."""
    with opened(path) as repo:
        return tuple(state_of(stage) for stage in repo.index.stages if is_pipeline(stage))


def reproduce(
    path: Path,
    targets: Sequence[str],
    *,
    force: bool,
    alone: bool = False,
    pull: bool = False,
    begun: Begun,
    ended: Ended,
) -> None:
    """Run what DVC says must run, telling `begun` and `ended` of each stage, in order.

    With `alone` only the targets themselves, not what they need; with `pull` what is missing comes
    from the DVC remote first.

    Raises StageFailed where a stage fails. The order, the cache and the lock are all DVC's.
    """

    def one(stage: "Stage", **kwargs: Any) -> "Stage | None":
        from dvc.repo.reproduce import _reproduce_stage

        if not is_pipeline(stage):
            if stage.frozen:  # nothing is made anew, and to look at its source may be in vain
                kwargs["force"] = False
            with missing.fetching(stage):
                return _reproduce_stage(stage, **kwargs)
        begun(stage.addressing)
        try:
            changed = _reproduce_stage(stage, **kwargs)
        except TypeError:
            ended(stage.addressing, None, True)
            values.refuse_params([stage])  # an earlier stage may have written them
            raise
        except (OSError, DvcException) as e:
            ended(stage.addressing, None, True)
            if not isinstance(e, LockError | StageCmdFailedError):
                missing.refuse_inputs(stage, e)
            if isinstance(e, OSError | LockError):
                raise
            raise stage_failure(stage.addressing, e) from e
        ended(stage.addressing, state_of(stage), bool(changed))
        return changed

    with opened(path) as repo:
        from dvc.exceptions import DvcException, ReproductionError
        from dvc.lock import LockError
        from dvc.stage.exceptions import StageCmdFailedError

        if pull:  # in between, and in silence
            for source in (repo, repo.stage_cache):
                source.pull = waiting_for("the DVC remote")(source.pull)
        try:
            repo.reproduce(
                list(targets) or None, force=force, single_item=alone, pull=pull, repro_fn=one
            )
        except ReproductionError as e:
            if e.__cause__ is None:
                raise
            failure = e.__cause__  # what `one` raised, which keeps a cause of its own
        else:
            return
        raise failure


def count(path: Path, targets: Sequence[str], *, pull: bool = False) -> int:
    """How many stages `reproduce` would look at.

    Raises UsageError for a target that is none, ConfigurationError where DVC cannot begin or,
    without `pull`, data that no stage makes is missing.
    """
    with opened(path) as repo:
        return sum(map(is_pipeline, _order(repo, targets, pull)))


def plan(
    path: Path, targets: Sequence[str], *, force: bool, pull: bool = False
) -> tuple[PlannedStage, ...]:
    """What `reproduce` would do, in its order; a stage below one that runs is taken to run too.

    Raises what `count` does.
    """
    with opened(path) as repo:
        from dvc.repo import lock_repo

        order = _order(repo, targets, pull)
        with lock_repo(repo):
            return _plan(order, force, pull)


def _order(repo: "Repo", targets: Sequence[str], pull: bool) -> "list[Stage]":
    order: list[Stage] = []
    repo.reproduce(list(targets) or None, repro_fn=lambda stage, **_: order.append(stage))
    if not pull:
        missing.refuse(repo, order)
    values.refuse_params(order)
    return order


def _plan(order: Sequence["Stage"], force: bool, pull: bool) -> tuple[PlannedStage, ...]:
    planned: list[PlannedStage] = []
    made = [str(out) for stage in order for out in stage.outs]
    made_anew: dict[str, str] = {}  # output path -> stage
    for stage in filter(is_pipeline, order):
        reasons = ["forced"] if force else [*_reasons(stage, pull)]
        if not any(dep.hash_info for dep in stage.deps):  # of which DVC says nothing yet
            reasons += [
                f"input {name} is missing"
                for name in missing.inputs(stage)
                if not any(within(name, out) or within(out, name) for out in made)
            ]
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


def _reasons(stage: "Stage", pull: bool) -> Iterator[str]:
    """DVC's status of a stage in words; with `pull`, what is only missing is left out."""
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
                elif not (pull and change in _MISSING):
                    yield f"{noun} {name} is {change}"


def is_pipeline(stage: "Stage") -> bool:
    """Whether it is a stage with a command; the files of `dvc add` are stages to DVC as well."""
    return bool(stage.cmd)


def state_of(stage: "Stage") -> StageState:
    """A stage as plain data."""
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
