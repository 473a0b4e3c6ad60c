"""How two runs' difference is found in what was recorded of them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mlp.core.compare.run_comparison import (
    Change,
    DataChange,
    DirectoryDifference,
    EntryChange,
    EnvironmentDifference,
    FileChange,
    MetricChange,
    RunSide,
    RunState,
)
from mlp.core.runs.pipeline import DataItem, StageOutcome, StageState, flatten
from mlp.core.runs.provenance import Provenance
from mlp.core.runs.recorded_run import FINISHED, RunRecord, Tag


def state_of(
    record: RunRecord,
    provenance: Provenance | None,
    stages: Sequence[StageState],
    patch: bytes = b"",
) -> RunState:
    """The run's state, with the outcomes of its stages by name."""
    outcomes = {
        run.stage: run.tags[Tag.OUTCOME]
        for run in record.stages
        if run.stage and Tag.OUTCOME in run.tags
    }
    return RunState(record, provenance, stages, patch, outcomes)


def side(state: RunState) -> RunSide:
    """The heading of a run."""
    record = state.record
    dirty = bool(state.patch) or record.tags.get(Tag.DIRTY) in ("true", "True", "1")
    return RunSide(record.run_id, record.name, record.status, record.started, state.commit, dirty)


def params(before: RunState, after: RunState) -> tuple[Change, ...]:
    """The params that differ, by name: those of the pipeline and those that code logged."""
    pairs = _paired(before, after, _params)
    # The server has every value as text.
    return tuple(
        Change(pair.name, pair.before, pair.after, pair.stages)
        for pair in sorted(pairs, key=lambda p: p.name)
        if _text(pair.before) != _text(pair.after)
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def metrics(before: RunState, after: RunState) -> tuple[MetricChange, ...]:
    """Every metric of either run: the pipeline's own first, the last stage's before earlier ones.

    Measurements of the machine (`system/…`) are not the model's and are left out.
    """
    own = {*before.record.metrics, *after.record.metrics}
    order = {stage.name: i for i, stage in enumerate((*before.stages, *after.stages))}
    pairs = _paired(before, after, lambda state: (state.record.metrics, _logged(state, "metrics")))
    changes = [_metric(pair) for pair in pairs if not pair.name.startswith("system/")]

    def last(change: MetricChange) -> tuple[bool, int]:
        return change.name not in own, -max((order.get(s, -1) for s in change.stages), default=-1)

    return tuple(sorted(changes, key=last))


def _metric(pair: "_Pair") -> MetricChange:
    before, after = pair.before, pair.after
    difference = relative = None
    if before is not None and after is not None and math.isfinite(after - before):
        difference = after - before
        relative = difference / abs(before) if before else None
    return MetricChange(pair.name, before, after, difference, relative, pair.stages)


class _Pair(NamedTuple):
    name: str
    before: Any
    after: Any
    stages: tuple[str, ...]


# The values of the pipeline run, and those of each stage.
_Values = tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]


def _params(state: RunState) -> _Values:
    declared = {stage.name: stage.params for stage in state.stages}
    logged = _logged(state, "params")
    names = dict.fromkeys((*declared, *logged))
    stages = {name: {**logged.get(name, {}), **declared.get(name, {})} for name in names}
    return state.record.params, stages


def _logged(state: RunState, what: str) -> dict[str, Mapping[str, Any]]:
    return {run.stage: getattr(run, what) for run in state.record.stages if run.stage}


def _paired(
    before: RunState, after: RunState, values: Callable[[RunState], _Values]
) -> list[_Pair]:
    """The values of both runs by name; a name with several values in one run is told by stage."""
    sides: tuple[_Values, _Values] = (values(before), values(after))
    shared = {name for _, stages in sides for name in _ambiguous(stages)}
    named = [_named(values_of, shared) for values_of in sides]
    pairs = []
    for name in dict.fromkeys((*named[0], *named[1])):
        (old, makers), (new, others) = (known.get(name, (None, ())) for known in named)
        stages = tuple(dict.fromkeys((*makers, *others)))
        # A stage that did not run logs nothing: what is not there is not gone.
        silent = before if old is None else after
        if (old is None or new is None) and _idle(silent, stages):
            continue
        pairs.append(_Pair(name, old, new, stages))
    return pairs


def _ambiguous(stages: Mapping[str, Mapping[str, Any]]) -> set[str]:
    seen: dict[str, set[str]] = {}
    for values in stages.values():
        for name, value in values.items():
            seen.setdefault(name, set()).add(str(value))
    return {name for name, values in seen.items() if len(values) > 1}


def _named(values: _Values, shared: set[str]) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Name -> value and the stages that have it. The pipeline's own values keep their names."""
    own, stages = values
    named: dict[str, tuple[Any, tuple[str, ...]]] = {}
    for stage, known in stages.items():
        for name, value in known.items():
            plain = str(own[name]) == str(value) if name in own else name not in shared
            key = name if plain else f"{stage}:{name}"
            named[key] = (value, (*named.get(key, (None, ()))[1], stage))
    return {name: (value, ()) for name, value in own.items()} | named


def _idle(state: RunState, stages: Iterable[str]) -> bool:
    return any(
        state.outcomes.get(stage) in (StageOutcome.CACHED, StageOutcome.RESTORED)
        for stage in stages
    )


def commands(before: RunState, after: RunState) -> tuple[Change, ...]:
    """The stages whose command differs or that only one run has."""
    old, new = ({s.name: "\n".join(s.command) for s in state.stages} for state in (before, after))
    return tuple(
        Change(name, old.get(name), new.get(name), (name,))
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    )


def seed(before: RunState, after: RunState) -> Change | None:
    """The seed, where it differs."""
    old, new = (s.provenance.seed if s.provenance else None for s in (before, after))
    return Change("seed", old, new) if old != new else None


def launches(before: RunState, after: RunState) -> tuple[Change, ...]:
    """What differs in how stages were launched."""
    old, new = (
        flatten(state.provenance.launches) if state.provenance else {} for state in (before, after)
    )
    return tuple(
        Change(name, old.get(name), new.get(name), (name.rpartition(".")[0],))
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    )


def environment(before: Provenance | None, after: Provenance | None) -> EnvironmentDifference:
    """What differs in packages, Python, image and machine; nothing where a run lacks the record."""
    if before is None or after is None:
        return EnvironmentDifference()
    old, new = before.environment, after.environment
    versions = [
        {_canonical(name): version for name, version in e.packages.items()} for e in (old, new)
    ]
    machines = (before.machine, after.machine)
    fields = ("host", "system", "cpu", "cores", "memory", "gpus")
    seen = [Change(f, *(_plain(getattr(m, f)) for m in machines)) for f in fields]
    python = Change("python", old.python, new.python)
    image = Change("image", before.image, after.image)
    return EnvironmentDifference(
        packages=tuple(
            Change(name, versions[0].get(name), versions[1].get(name))
            for name in sorted({*versions[0], *versions[1]})
            if versions[0].get(name) != versions[1].get(name)
        ),
        python=python if python.before != python.after else None,
        image=image if image.before != image.after else None,
        machine=tuple(c for c in seen if c.before != c.after),
    )


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def data(before: RunState, after: RunState) -> tuple[DataChange, ...]:
    """The paths that stages read or write whose content differs; sources first, then in order."""
    stages = (*before.stages, *after.stages)
    made_by = {out.path: stage.name for stage in stages for out in stage.outs}
    old, new = _items(before.stages), _items(after.stages)
    changes = [
        DataChange(
            path, _maker(path, made_by), _readers(path, stages), old.get(path), new.get(path)
        )
        for path in dict.fromkeys((*old, *new))
        if _digest(old.get(path)) != _digest(new.get(path)) or (path in old) != (path in new)
    ]
    return tuple(sorted(changes, key=lambda change: change.made_by is not None))


def _items(stages: Sequence[StageState]) -> dict[str, DataItem]:
    items = {dep.path: dep for stage in stages for dep in stage.deps}
    return items | {out.path: out for stage in stages for out in stage.outs}


def _digest(item: DataItem | None) -> str | None:
    return item.digest if item else None


def _maker(path: str, made_by: Mapping[str, str]) -> str | None:
    return next((stage for out, stage in made_by.items() if overlap(path, out)), None)


def _readers(path: str, stages: Iterable[StageState]) -> tuple[str, ...]:
    readers = (s.name for s in stages if any(overlap(path, dep.path) for dep in s.deps))
    return tuple(dict.fromkeys(readers))


def overlap(one: str, other: str) -> bool:
    """Whether two paths are the same or one lies in the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def directory(
    before: Mapping[str, str], after: Mapping[str, str], limit: int
) -> DirectoryDifference:
    """Two versions of a directory, each the digests of its files; `limit` bounds the entries."""
    added = sorted(after.keys() - before.keys())
    removed = sorted(before.keys() - after.keys())
    both = sorted(before.keys() & after.keys())
    changed = [name for name in both if before[name] != after[name]]
    entries = [
        *(EntryChange(name, "modified") for name in changed),
        *(EntryChange(name, "added") for name in added),
        *(EntryChange(name, "deleted") for name in removed),
    ]
    unchanged = len(both) - len(changed)
    shown = tuple(entries[:limit])
    return DirectoryDifference(len(added), len(removed), len(changed), unchanged, shown)


def patched_files(before: bytes, after: bytes) -> tuple[FileChange, ...]:
    """The files on which two patches differ: all that is known where a commit is missing."""
    old, new = _chunks(before), _chunks(after)
    names = dict.fromkeys((*old, *new))
    return tuple(FileChange(n, "differs") for n in names if old.get(n) != new.get(n))


def _chunks(patch: bytes) -> dict[str, bytes]:
    chunks = {}
    for chunk in (b"\n" + patch).split(b"\ndiff --git ")[1:]:
        header, _, body = chunk.partition(b"\n")
        name = header[: len(header) // 2].decode(errors="surrogateescape").strip('"')
        chunks[name.removeprefix("a/")] = body.rstrip(b"\n")
    return chunks


def gaps(before: RunState, after: RunState) -> tuple[str, ...]:
    """What cannot be told of the two runs, in words."""
    notes = []
    for state in (before, after):
        name = f"run {state.record.run_id[:8]}"
        if state.provenance is None:
            notes.append(f"{name} has no record of its code and environment: mlp did not run it")
        if not state.stages:
            notes.append(f"{name} has no record of its stages: their data is unknown")
        if state.record.status != FINISHED:
            notes.append(f"{name} is {state.record.status}: what it did not come to is missing")
    return tuple(notes)
