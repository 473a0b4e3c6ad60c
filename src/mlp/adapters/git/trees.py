"""The trees of two states of the code, compared without touching the user's index."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlp.core.errors import ConfigurationError

if TYPE_CHECKING:
    from mlp.core.compare.run_comparison import FileChange
from mlp.adapters.git.command import git, names, repository, run

_STATUS = {"A": "added", "D": "deleted", "T": "type changed"}


@dataclass(frozen=True, slots=True)
class Trees:
    """States of a repository, each a commit with a patch on top, as git trees.

    `ids` has None where git could not make the state, with the reason in `failures` at its place.
    """

    top: Path
    ids: tuple[str | None, ...]
    failures: tuple[str, ...]
    variables: Mapping[str, str]


@contextmanager
def trees(path: Path, states: Sequence[tuple[str | None, bytes]]) -> Iterator[Trees]:
    """The states (commit, patch as `code` makes it), in a scratch index and object store.

    Raises ConfigurationError outside of a repository.
    """
    top = repository(path)
    if top is None:
        raise ConfigurationError(f"{path} is not in a git repository")
    with scratch_index(top) as variables:
        made = [_tree(top, commit, patch, variables) for commit, patch in states]
        ids, failures = (tuple(part) for part in zip(*made, strict=True))
        yield Trees(top, ids, failures, variables)


def _tree(
    top: Path, commit: str | None, patch: bytes, variables: Mapping[str, str]
) -> tuple[str | None, str]:
    try:
        run(["read-tree", f"{commit}^{{tree}}" if commit else "--empty"], top, variables)
    except ConfigurationError:
        return None, f"commit {commit} is not in this clone"
    try:
        if patch:
            apply = ["apply", "--cached", "--whitespace=nowarn", "-"]
            run(apply, top, variables, patch)
        return run(["write-tree"], top, variables).decode().strip(), ""
    except ConfigurationError as e:
        return None, f"its uncommitted changes do not apply to commit {commit}: {e.cause}"


def changed_files(trees: Trees, before: str, after: str) -> tuple["FileChange", ...]:
    """The files that differ between two trees, by their path from the repository's root."""
    from mlp.core.compare.run_comparison import FileChange  # 8 ms that `mlp run` has no use for

    compare = ["diff-tree", "-r", "-z", "--no-renames", "--no-ext-diff"]
    found = run([*compare, "--name-status", before, after], trees.top, trees.variables)
    fields = [os.fsdecode(field) for field in found.split(b"\0")]
    status = dict(zip(fields[1::2], fields[0::2], strict=False))
    changes = []
    counts = run([*compare, "--numstat", before, after], trees.top, trees.variables)
    for entry in filter(None, counts.split(b"\0")):
        added, removed, name = entry.split(b"\t", 2)
        lines = [None if count == b"-" else int(count) for count in (added, removed)]
        file = os.fsdecode(name)
        changes.append(FileChange(file, _STATUS.get(status[file], "modified"), *lines))
    return tuple(changes)


def file_names(trees: Trees, tree: str) -> frozenset[str]:
    """Every file of a tree, by its path from the repository's root."""
    listed = run(
        ["ls-tree", "-r", "-z", "--full-tree", "--name-only", tree], trees.top, trees.variables
    )
    return frozenset(names(listed))


def content(trees: Trees, tree: str, name: str) -> bytes | None:
    """A file of a tree, None where the tree has none of that name."""
    try:
        return run(["cat-file", "blob", f"{tree}:{name}"], trees.top, trees.variables)
    except ConfigurationError:
        return None


@contextmanager
def scratch_index(top: Path) -> Iterator[dict[str, str]]:
    """Variables under which git writes to a scratch index and object store, not the user's."""
    directory = Path(git(["rev-parse", "--absolute-git-dir"], top).removesuffix("\n"))
    objects = Path(git(["rev-parse", "--git-path", "objects"], top).removesuffix("\n"))
    with tempfile.TemporaryDirectory(prefix="mlp-index-") as scratch:
        index = Path(scratch) / "index"
        if (directory / "index").exists():
            # With its time: git tells by it which files may have changed since within one second.
            shutil.copy2(directory / "index", index)
        (Path(scratch) / "objects").mkdir()
        yield {
            "GIT_INDEX_FILE": str(index),
            "GIT_OBJECT_DIRECTORY": f"{scratch}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(top / objects),
        }


def _quoted(path: Path) -> str:
    """An entry of a list that is split at colons, as git(1) takes it: C's way of quoting."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
