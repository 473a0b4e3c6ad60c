"""The files that make up the code of a repository."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlp.adapters.git.command import empty_tree, git, names, run
from mlp.core.errors import ConfigurationError

_SUBMODULE = b"160000"  # the mode under which git's index has one


def shipped_files(top: Path, ignore: Sequence[str] = ()) -> list[str]:
    """What git tracks or does not ignore, sorted, by path from the repository's root `top`.

    Submodules' files are among them; what a pattern in `ignore` (as in .gitignore, seen from
    `top`) matches is not, tracked or not. A name that ends in "/" is a repository of its own that
    git does not look into: one that is not added as a submodule, or not checked out. Tracked
    files that are deleted are still named. Raises ConfigurationError outside of a repository.
    """
    try:
        git(["rev-parse", "--show-toplevel"], top)
    except ConfigurationError as e:
        if "not a git repository" not in e.cause:
            raise
        raise ConfigurationError(
            f"{top} is not in a git repository, which tells what is code", fix="git init"
        ) from e
    found = _files(top, "")
    return sorted(set(found) - _matching(top, found, ignore), key=os.fsencode)


def _files(repository: Path, prefix: str) -> dict[str, None]:
    """The files of one work tree and its submodules; their names begin with `prefix`."""
    listed = run(["ls-files", "-z", "--stage"], repository, None)
    untracked = run(["ls-files", "-z", "--others", "--exclude-standard"], repository, None)
    found = {f"{prefix}{name}": None for name in names(untracked)}
    for entry in filter(None, listed.split(b"\0")):
        mode, _, name = entry.partition(b"\t")
        path = os.fsdecode(name)
        if not mode.startswith(_SUBMODULE):
            found[f"{prefix}{path}"] = None
        elif (repository / path / ".git").exists():  # without it, git would answer for its parent
            found |= _files(repository / path, f"{prefix}{path}/")
        else:
            found[f"{prefix}{path}/"] = None
    return found


def _matching(top: Path, found: Sequence[str] | dict[str, None], ignore: Sequence[str]) -> set[str]:
    """Those that the patterns match, by git's own rules, tracked, untracked and in submodules.

    git matches only what an index has, so that all are put into one of their own.
    """
    patterns = [f"--exclude={pattern}" for pattern in ignore]
    if not patterns or not found:
        return set()
    mark = f"100644 {empty_tree(top)} 0\t".encode()  # what is behind an id does not matter
    entries = b"".join(mark + os.fsencode(name.rstrip("/")) + b"\0" for name in found)
    with tempfile.TemporaryDirectory(prefix="mlp-index-") as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        run(["update-index", "-z", "--index-info"], top, index, entries)
        matched = names(run(["ls-files", "-z", "--cached", "--ignored", *patterns], top, index))
    return {*matched, *(f"{name}/" for name in matched)}
