"""What differs inside data of two versions, so far as this machine has them."""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from mlp.adapters import data, table_diff
from mlp.core.compare import contrast
from mlp.core.compare.run_comparison import DataChange, DirectoryDifference, EntryChange, FileChange
from mlp.core.compare.table_changes import TableDifference, TableFormat, format_of
from mlp.core.errors import ConfigurationError
from mlp.core.runs.pipeline import DataItem
from mlp.flows.project import Project

MAX_TABLES = 20
MAX_ENTRIES = 50
_CODE = (".py", ".ipynb", ".sh", ".sql", ".r", ".jl", ".toml", ".yaml", ".yml", ".cfg", ".ini")

# The content of a path in the state before (0) or after (1), None where git has none.
Content = Callable[[int, str], bytes | None]


@dataclass(frozen=True, slots=True)
class Sources:
    """What git has of both states: the files that differ, and those that either has.

    `tracked` and `content` are None where it is not known. Paths are seen from the project.
    """

    files: Sequence[FileChange]
    notes: Sequence[str]
    tracked: frozenset[str] | None
    content: Content | None

    def is_code(self, change: DataChange) -> bool:
        """Whether a stage's input is code: a file of git's, or by its name, that is not a table."""
        if change.made_by is not None or format_of(change.path) is not None:
            return False
        if self.tracked is None:
            return change.path.lower().endswith(_CODE)
        below = (n for n in self.tracked if n == change.path or n.startswith(f"{change.path}/"))
        return any(format_of(name) is None for name in below)

    def version_file(self, path: str) -> str:
        """The file of git that says which version of `path` it is, "" where there is none."""
        names = self.tracked or frozenset()
        return next((name for name in (f"{path}.dvc", path) if name in names), "")


def described(
    project: Project, changes: Sequence[DataChange], sources: Sources
) -> tuple[DataChange, ...]:
    """The changes with what differs in their content, or a note that says why it is not known."""
    if not changes:
        return ()
    state, root = project.layout.state, data.root(project.root)
    scratch = state if os.access(state, os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="mlp-versions-", dir=scratch) as directory,
        data.opened(root) if root else nullcontext(),
    ):
        reader = _Reader(root, sources, Path(directory), changes)
        return tuple(reader.described(change) for change in changes)


class _Reader:
    """Looks versions up in the local cache and in git; compares at most MAX_TABLES tables."""

    def __init__(
        self,
        root: Path | None,
        sources: Sources,
        scratch: Path,
        changes: Sequence[DataChange],
    ) -> None:
        self._root = root
        items = [item for c in changes for item in (c.before, c.after)]
        digests = {item.digest for item in items if item and item.digest}
        self._cached = data.cached_files(root, digests) if root and digests else {}
        self._sources = sources
        self._scratch = scratch
        self._tables_left = MAX_TABLES

    def described(self, change: DataChange) -> DataChange:
        """The change with its table, its directory or a note."""
        change = replace(change, versioned_by=self._sources.version_file(change.path))
        old, new = change.before, change.after
        if old is None or new is None or old.digest is None or new.digest is None:
            return change
        folders = [item.digest.endswith(".dir") for item in (old, new) if item.digest]
        if all(folders):
            return self._directory(change, old, new)
        if any(folders):
            return replace(change, note="a directory in one run and a file in the other")
        form = format_of(change.path)
        if form is None:
            return change
        files = [self._file(side, item) for side, item in enumerate((old, new))]
        missing = [name for name, file in zip(("before", "after"), files, strict=True) if not file]
        if missing:
            return replace(change, note=_missing(missing, change.path))
        table, note = self._table(files[0], files[1], form)
        return replace(change, table=table, note=note)

    def _directory(self, change: DataChange, old: DataItem, new: DataItem) -> DataChange:
        listed = [self._entries(item) for item in (old, new)]
        missing = [name for name, e in zip(("before", "after"), listed, strict=True) if e is None]
        before, after = listed
        if before is None or after is None:
            return replace(change, note=_missing(missing, change.path))
        found = contrast.directory(before, after, MAX_ENTRIES)
        entries = self._described(found, before, after)
        return replace(change, directory=replace(found, entries=entries))

    def _described(
        self, found: DirectoryDifference, before: dict[str, str], after: dict[str, str]
    ) -> tuple[EntryChange, ...]:
        paths = [entry.path for entry in found.entries]
        digests = {known[p] for known in (before, after) for p in paths if p in known}
        cached = data.cached_files(self._root, digests) if self._root else {}
        return tuple(
            self._entry(entry, *(cached.get(k.get(entry.path, "")) for k in (before, after)))
            for entry in found.entries
        )

    def _entry(self, entry: EntryChange, old: Path | None, new: Path | None) -> EntryChange:
        entry = replace(
            entry,
            size_before=old.stat().st_size if old else None,
            size_after=new.stat().st_size if new else None,
        )
        form = format_of(entry.path)
        if entry.status != "modified" or form is None or old is None or new is None:
            return entry
        table, note = self._table(old, new, form)
        return replace(entry, table=table, note=note)

    def _entries(self, item: DataItem) -> dict[str, str] | None:
        if self._root is None or item.digest is None or item.digest not in self._cached:
            return None
        return data.directory_entries(self._root, item.digest)

    def _file(self, side: int, item: DataItem) -> Path | None:
        """A version's file: from the cache, or out of git."""
        if item.digest in self._cached:
            return self._cached[item.digest]
        content = self._sources.content(side, item.path) if self._sources.content else None
        if content is None:
            return None
        file = self._scratch / f"version-{side}"
        file.write_bytes(content)
        return file

    def _table(
        self, old: Path | None, new: Path | None, form: TableFormat
    ) -> tuple[TableDifference | None, str]:
        if old is None or new is None:
            return None, ""
        if self._tables_left == 0:
            return None, f"not compared: {MAX_TABLES} tables were"
        self._tables_left -= 1
        try:
            return table_diff.compare(old, new, form, scratch=self._scratch), ""
        except ConfigurationError as e:
            return None, f"{e.message}: {e.cause}"


def _missing(sides: Sequence[str], path: str) -> str:
    which = " and ".join(sides)
    return f"the version {which} is not in the local cache: dvc fetch --all-commits {path}"
