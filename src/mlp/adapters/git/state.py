"""The state of a repository: its commit, and a patch of all that is not committed."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlp.adapters.git.command import empty_tree, git, head, names, repository, run
from mlp.adapters.git.trees import scratch_index
from mlp.core.launch.secret_files import looks_secret
from mlp.core.runs.provenance import Code
from mlp.core.secrets import mask_urls

# An untracked file above this size is data rather than code: it stays out of a run's patch.
MAX_UNTRACKED_BYTES = 5 * 2**20


def code(path: Path, ignore: Sequence[str] = ()) -> tuple[Code, bytes]:
    """The state of the repository around `path`, and a patch of all that is not committed.

    The patch applies with `git apply` to a clean checkout of the commit (to an empty directory
    before the first commit) and holds untracked files too, so far as git does not ignore them,
    `ignore` (gitignore patterns) does not, they are not large and they do not look like keys:
    what is left out is listed in the state.
    """
    top = repository(path)
    if top is None:
        return Code(), b""
    commit = head(top)
    with scratch_index(top) as variables:
        left_out = _stage_everything(top, path, ignore, variables)
        base = commit or empty_tree(top)
        # Not `git diff`, whose form the user's settings change.
        patch = run(["diff-index", "--cached", "--binary", "--patch", base], top, variables)
    return (
        Code(
            commit=commit,
            branch=_branch(top),
            remotes=_remotes(top),
            dirty=bool(patch),
            submodules=_submodules(top),
            left_out=left_out,
            repository=os.path.relpath(top, path),
        ),
        patch,
    )


def _stage_everything(
    top: Path, path: Path, ignore: Sequence[str], variables: Mapping[str, str]
) -> dict[str, str]:
    """Add every change to the scratch index; returns the untracked files left out, with why."""
    listed = ["ls-files", "-z", "--others", "--exclude-standard"]
    untracked = names(run(listed, top, variables))
    wanted = names(run([*listed, *(f"--exclude={i}" for i in ignore)], top, variables))
    left_out = {name: "ignored by .mlpignore" for name in untracked if name not in wanted}
    for name in wanted:
        reason = _unfit(top / name)
        if reason:
            left_out[name] = reason
    chosen = [name for name in wanted if name not in left_out]
    run(["add", "--update", "."], top, variables)
    if chosen:
        data = b"\0".join(os.fsencode(name) for name in chosen)
        added = ["--literal-pathspecs", "add", "--pathspec-from-file=-", "--pathspec-file-nul"]
        run(added, top, variables, data)
    return left_out


def _unfit(file: Path) -> str:
    """Why an untracked file stays out of the patch, "" if it may come in."""
    if looks_secret(file.name):
        return "looks like a secret"
    if file.is_dir():  # a nested repository; git lists it by its directory
        return "a repository of its own"
    size = file.lstat().st_size
    if size > MAX_UNTRACKED_BYTES:
        return f"{size} bytes: data is versioned by DVC"
    return ""


def _branch(top: Path) -> str | None:
    name = git(["branch", "--show-current"], top).strip()
    return name or None


def _remotes(top: Path) -> dict[str, str]:
    lines = git(["remote", "-v"], top).splitlines()
    pairs = (
        line.removesuffix(" (fetch)").split("\t", 1) for line in lines if line.endswith("(fetch)")
    )
    return {name: mask_urls(url) for name, url in pairs}


def _submodules(top: Path) -> dict[str, str]:
    if not (top / ".gitmodules").exists():
        return {}
    lines = git(["submodule", "status"], top).splitlines()
    # A sign, the commit, the path, and what git calls the commit, in brackets.
    found = (re.fullmatch(r".(\w+) (.+?)(?: \([^()]*\))?", line) for line in lines)
    return {match[2]: match[1] for match in found if match}
