"""Repositories that mlp makes and updates: commits and merges."""

from pathlib import Path

from mlp.adapters.git.command import git, names, run
from mlp.adapters.git.trees import scratch_index
from mlp.core.errors import ConfigurationError


def init(path: Path) -> None:
    """Make `path` a repository of its own, on the branch main."""
    git(["init", "--quiet", "--initial-branch=main"], path)


def commit_all(path: Path, message: str) -> str:
    """Commit all that git does not ignore; returns the commit. The user's hooks are not run."""
    git(["add", "--all"], path)
    git([*_identity(path), "commit", "--quiet", "--no-verify", f"--message={message}"], path)
    return git(["rev-parse", "HEAD"], path).strip()


def has_identity(path: Path) -> bool:
    """Whether git knows whose name to put under a commit."""
    try:
        git(["var", "GIT_AUTHOR_IDENT"], path)
        git(["var", "GIT_COMMITTER_IDENT"], path)
    except ConfigurationError:
        return False
    return True


def _identity(path: Path) -> list[str]:
    """Options with a name for commits, where git has none (a fresh machine, CI)."""
    if has_identity(path):
        return []
    return ["-c", "user.name=mlp", "-c", "user.email=mlp@localhost"]


def uncommitted_files(top: Path) -> tuple[str, ...]:
    """Tracked files that differ from the last commit, those of a conflict among them."""
    listed = run(["diff", "--name-only", "-z", "HEAD"], top, None)
    return tuple(names(listed))


def newest_with_trailer(top: Path, key: str) -> tuple[str, str] | None:
    """The newest commit of HEAD's history with the trailer `key`, and its value."""
    form = f"%H %(trailers:key={key},valueonly,separator=%x20)"
    for line in git(["log", "--topo-order", f"--grep=^{key}:", f"--format={form}"], top).split(
        "\n"
    ):
        commit, _, value = line.partition(" ")
        if value.strip():
            return commit, value.strip()
    return None


def is_shallow(top: Path) -> bool:
    """Whether the clone lacks the older part of its history."""
    return git(["rev-parse", "--is-shallow-repository"], top).strip() == "true"


def file_at(top: Path, commit: str, name: str) -> str:
    """The text of a file in a commit; ConfigurationError if it is not there."""
    return git(["show", f"{commit}:{name}"], top)


def replaced(
    top: Path, base: str, folder: Path, keep: str, *, dry_run: bool
) -> tuple[str, tuple[str, ...]]:
    """`base` with the files in `folder` in place of all its own, except those under `keep`.

    Returns the tree, and the files in which it differs from `base`. Neither the work tree nor the
    user's index is touched; with `dry_run` the repository gets no objects either.
    """
    with scratch_index(top) as scratch:
        variables = scratch if dry_run else {"GIT_INDEX_FILE": scratch["GIT_INDEX_FILE"]}
        directory = git(["rev-parse", "--absolute-git-dir"], top).removesuffix("\n")
        variables = {**variables, "GIT_DIR": directory, "GIT_WORK_TREE": str(folder)}
        git(["read-tree", base], folder, variables=variables)
        chosen = ["--", ".", f":(exclude){keep}"]
        git(["add", "--all", "--force", *chosen], folder, variables=variables)
        tree = git(["write-tree"], folder, variables=variables).strip()
        listed = run(["diff-tree", "-r", "-z", "--name-only", base, tree], folder, variables)
    return tree, tuple(names(listed))


def commit_tree(top: Path, tree: str, parent: str, message: str) -> str:
    """A commit of `tree` on top of `parent`, on no branch."""
    made = [*_identity(top), "commit-tree", tree, "-p", parent, "-m", message]
    return git(made, top).strip()


def merge(top: Path, commit: str, message: str) -> tuple[str, ...]:
    """Merge `commit` into what is checked out; returns the files in conflict, as git left them.

    Raises ConfigurationError where git does not begin (a file of the user's is in the way).
    """
    try:
        git([*_identity(top), "merge", "--quiet", "--ff", f"--message={message}", commit], top)
    except ConfigurationError:
        conflicts = names(run(["diff", "--name-only", "-z", "--diff-filter=U"], top, None))
        if not conflicts:
            raise
        return tuple(conflicts)
    return ()
