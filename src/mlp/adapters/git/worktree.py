"""Work trees beside the user's own."""

import shutil
from pathlib import Path

from mlp.adapters.git.command import run


def check_out(top: Path, path: Path, commit: str | None, patch: bytes) -> None:
    """Make `path` a work tree of the repository at `commit`, with `patch` applied.

    Without a commit it becomes a repository of its own that holds the patch. Submodules are
    checked out too. Raises ConfigurationError with git's words where the patch does not apply.
    """
    if commit is None:
        path.mkdir(parents=True)
        run(["init", "--quiet", "."], path, None)
    else:
        run(["worktree", "add", "--quiet", "--detach", str(path), commit], top, None)
        if (path / ".gitmodules").exists():
            run(["submodule", "--quiet", "update", "--init", "--recursive"], path, None)
    if patch:
        run(["apply", "--whitespace=nowarn", "-"], path, None, patch)


def remove_work_tree(top: Path, path: Path) -> None:
    """Remove what `check_out` made."""
    if (path / ".git").is_dir():
        shutil.rmtree(path)
    elif path.exists():
        run(["worktree", "remove", "--force", "--force", str(path)], top, None)
