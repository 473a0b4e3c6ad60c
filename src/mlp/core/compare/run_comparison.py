"""What differs between two runs, as plain data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlp.core.compare.table_changes import TableDifference
from mlp.core.runs.pipeline import DataItem, StageState
from mlp.core.runs.provenance import Provenance
from mlp.core.runs.recorded_run import RunRecord, Tag


@dataclass(frozen=True, slots=True)
class RunSide:
    """One of the two runs, so far as a heading needs it."""

    run_id: str
    name: str
    status: str
    started: float
    commit: str | None
    dirty: bool


@dataclass(frozen=True, slots=True)
class Change:
    """A value in both runs; None where a run has none."""

    name: str
    before: Any
    after: Any
    stages: Sequence[str] = ()  # which use it or made it, where that is known


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A metric in both runs; `relative` is the difference over the magnitude of `before`.

    `difference` and `relative` are None where they are not finite.
    """

    name: str
    before: float | None
    after: float | None
    difference: float | None
    relative: float | None
    stages: Sequence[str] = ()

    @property
    def equal(self) -> bool:
        """Whether both runs have the same value, not a number being equal to itself."""
        if self.before is None or self.after is None:
            return self.before is self.after
        both_nan = math.isnan(self.before) and math.isnan(self.after)
        return both_nan or self.before == self.after


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file of the repository; `added` and `removed` count lines, None where that is unknown.

    `status` is added, deleted, modified, type changed, or differs (which of them is unknown).
    """

    path: str
    status: str
    added: int | None = None
    removed: int | None = None


@dataclass(frozen=True, slots=True)
class CodeDifference:
    """The two states of the repository, each a commit with its uncommitted changes."""

    files: Sequence[FileChange] = ()
    commands: Sequence[Change] = ()  # of stages; None where a run does not have the stage
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class EntryChange:
    """A file of a directory; sizes in bytes, None where unknown. `status` as of FileChange."""

    path: str
    status: str
    size_before: int | None = None
    size_after: int | None = None
    table: TableDifference | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class DirectoryDifference:
    """The files of a directory that differ; `entries` holds the first of them."""

    added: int
    removed: int
    changed: int
    unchanged: int
    entries: Sequence[EntryChange] = ()


@dataclass(frozen=True, slots=True)
class DataChange:
    """A path that stages read or write, whose content differs.

    `made_by` is the stage that writes it, None for a source, which no stage makes. `before` and
    `after` are None where a run does not have the path. `versioned_by` is the file of git that
    holds the version: PATH.dvc, or the path itself where git has that; "" where there is none.
    """

    path: str
    made_by: str | None
    read_by: Sequence[str]
    before: DataItem | None
    after: DataItem | None
    table: TableDifference | None = None
    directory: DirectoryDifference | None = None
    versioned_by: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class EnvironmentDifference:
    """Packages, Python and image, and the machine. Versions are None where absent."""

    packages: Sequence[Change] = ()
    python: Change | None = None
    image: Change | None = None
    machine: Sequence[Change] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that differs between two runs, and every metric, equal ones too."""

    before: RunSide
    after: RunSide
    params: Sequence[Change]
    code: CodeDifference
    data: Sequence[DataChange]
    environment: EnvironmentDifference
    launches: Sequence[Change]  # how stages were launched: train.processes_per_node
    seed: Change | None
    metrics: Sequence[MetricChange]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RunState:
    """A run with what was recorded beside it."""

    record: RunRecord
    provenance: Provenance | None
    stages: Sequence[StageState]
    patch: bytes = b""
    outcomes: Mapping[str, str] = field(default_factory=dict)  # stage -> ran, cached, …

    @property
    def commit(self) -> str | None:
        """The commit that was checked out, None where there was none."""
        recorded = self.provenance.code.commit if self.provenance else None
        return recorded or self.record.tags.get(Tag.COMMIT)
