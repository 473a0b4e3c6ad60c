"""What a pipeline's stages are made of, as plain data."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class StageOutcome(StrEnum):
    """How a stage came to its outputs in a run."""

    RAN = "ran"
    CACHED = "cached"  # nothing changed since the last time
    RESTORED = "restored"  # found in DVC's run cache: it ran like this before
    FAILED = "failed"
    DETACHED = "detached"  # it goes on in a cluster, and is not waited for


@dataclass(frozen=True, slots=True)
class DataItem:
    """A file or directory that a stage reads or writes, as DVC records it.

    `digest` is DVC's hash (a directory's ends in `.dir`), None where DVC has none yet; `size` is
    in bytes, `files` the number of files in a directory.
    """

    path: str
    digest: str | None
    size: int | None = None
    files: int | None = None


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage as its lock entry has it: what went in and what came out."""

    name: str
    command: tuple[str, ...]
    deps: tuple[DataItem, ...]
    outs: tuple[DataItem, ...]
    params: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """A hash of all that the lock entry holds: equal means the same work with the same result.

        It links a cached stage to the run that did the work, on whatever machine that was.
        """
        entry = asdict(self)
        for item in (*entry["deps"], *entry["outs"]):
            del item["size"], item["files"]  # implied by the digest, and absent in old lock files
        return hashlib.sha256(json.dumps(entry, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """What a run would do with a stage, and why."""

    name: str
    runs: bool
    reasons: tuple[str, ...]


def launch_names(stages: Iterable[str]) -> frozenset[str]:
    """The names under `launch` that stand for one of `stages`.

    One entry stands for every stage of a matrix, and for a stage in whatever dvc.yaml it is.
    """
    plain = {stage: stage.rpartition(":")[2] for stage in stages}
    return frozenset(
        form for stage, name in plain.items() for form in (stage, name, name.partition("@")[0])
    )


def within(path: str, folder: str) -> bool:
    """Whether `path` is `folder`, or lies in it."""
    return path == folder or path.startswith(f"{folder}/")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots; anything else is left as it is."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def metric_names(files: Iterable[str], values: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The numbers of several metrics files under one set of names.

    A name that one file alone has stays as it is; one that several files have is preceded by its
    file's path.
    """
    flat = {file: flatten(values.get(file, {})) for file in files}
    shared = {
        name
        for file in flat
        for name in flat[file]
        if sum(name in other for other in flat.values()) > 1
    }
    return {
        (f"{file}:{name}" if name in shared else name): float(value)
        for file, metrics in flat.items()
        for name, value in metrics.items()
        if isinstance(value, int | float)
    }
