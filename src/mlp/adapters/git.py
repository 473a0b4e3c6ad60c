"""The door to git: its command line, called."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlp.core.errors import ConfigurationError
from mlp.core.provenance import Code
from mlp.core.secrets import mask_urls

if TYPE_CHECKING:
    from mlp.core.comparison import FileChange

# An untracked file above this size is data rather than code: it stays out of a run's patch.
MAX_UNTRACKED_BYTES = 5 * 2**20
_STATUS = {"A": "added", "D": "deleted", "T": "type changed"}
_KEYS = (".pem", ".key", ".p12", ".pfx", ".kdbx", ".keystore")
_KEY_NAMES = ("id_rsa", "id_ed25519", "id_ecdsa", "id_dsa", ".netrc", ".pypirc", "credentials")


def git(arguments: Sequence[str], cwd: Path, *, variables: Mapping[str, str] | None = None) -> str:
    """The output of one git command in `cwd`; ConfigurationError with git's words if it fails."""
    return _run(arguments, cwd, variables).decode(errors="surrogateescape")


def _run(
    arguments: Sequence[str], cwd: Path, variables: Mapping[str, str] | None, data: bytes = b""
) -> bytes:
    # The user's hooks and optional index refreshes are not ours to trigger.
    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **(variables or {})}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, env=environ, input=data, capture_output=True, check=True
        )
    except FileNotFoundError as e:
        raise ConfigurationError("git is not installed", fix="install git") from e
    except subprocess.CalledProcessError as e:
        message = mask_urls(e.stderr.decode(errors="replace").strip())
        raise ConfigurationError(f"git {arguments[0]} failed", cause=message) from e
    return done.stdout


def repository(path: Path) -> Path | None:
    """The root of the work tree that `path` is in, None outside of git."""
    try:
        return Path(git(["rev-parse", "--show-toplevel"], path).removesuffix("\n"))
    except ConfigurationError:
        return None


def head(path: Path) -> str | None:
    """The commit that is checked out, None before the first one."""
    try:
        return git(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], path).strip()
    except ConfigurationError:
        return None


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
    with _scratch_index(top) as variables:
        left_out = _stage_everything(top, path, ignore, variables)
        base = commit or _empty_tree(top)
        # Not `git diff`, whose form the user's settings change.
        patch = _run(["diff-index", "--cached", "--binary", "--patch", base], top, variables)
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
    with _scratch_index(top) as variables:
        made = [_tree(top, commit, patch, variables) for commit, patch in states]
        ids, failures = (tuple(part) for part in zip(*made, strict=True))
        yield Trees(top, ids, failures, variables)


def _tree(
    top: Path, commit: str | None, patch: bytes, variables: Mapping[str, str]
) -> tuple[str | None, str]:
    try:
        _run(["read-tree", f"{commit}^{{tree}}" if commit else "--empty"], top, variables)
    except ConfigurationError:
        return None, f"commit {commit} is not in this clone"
    try:
        if patch:
            apply = ["apply", "--cached", "--whitespace=nowarn", "-"]
            _run(apply, top, variables, patch)
        return _run(["write-tree"], top, variables).decode().strip(), ""
    except ConfigurationError as e:
        return None, f"its uncommitted changes do not apply to commit {commit}: {e.cause}"


def changed_files(trees: Trees, before: str, after: str) -> tuple["FileChange", ...]:
    """The files that differ between two trees, by their path from the repository's root."""
    from mlp.core.comparison import FileChange  # 8 ms that `mlp run` has no use for

    compare = ["diff-tree", "-r", "-z", "--no-renames", "--no-ext-diff"]
    found = _run([*compare, "--name-status", before, after], trees.top, trees.variables)
    fields = [os.fsdecode(field) for field in found.split(b"\0")]
    status = dict(zip(fields[1::2], fields[0::2], strict=False))
    changes = []
    counts = _run([*compare, "--numstat", before, after], trees.top, trees.variables)
    for entry in filter(None, counts.split(b"\0")):
        added, removed, name = entry.split(b"\t", 2)
        lines = [None if count == b"-" else int(count) for count in (added, removed)]
        file = os.fsdecode(name)
        changes.append(FileChange(file, _STATUS.get(status[file], "modified"), *lines))
    return tuple(changes)


def file_names(trees: Trees, tree: str) -> frozenset[str]:
    """Every file of a tree, by its path from the repository's root."""
    listed = _run(
        ["ls-tree", "-r", "-z", "--full-tree", "--name-only", tree], trees.top, trees.variables
    )
    return frozenset(_names(listed))


def content(trees: Trees, tree: str, name: str) -> bytes | None:
    """A file of a tree, None where the tree has none of that name."""
    try:
        return _run(["cat-file", "blob", f"{tree}:{name}"], trees.top, trees.variables)
    except ConfigurationError:
        return None


@contextmanager
def _scratch_index(top: Path) -> Iterator[dict[str, str]]:
    """Variables under which git writes to a scratch index and object store, not the user's."""
    directory = Path(git(["rev-parse", "--absolute-git-dir"], top).removesuffix("\n"))
    objects = Path(git(["rev-parse", "--git-path", "objects"], top).removesuffix("\n"))
    with tempfile.TemporaryDirectory(prefix="mlp-index-") as scratch:
        index = Path(scratch) / "index"
        if (directory / "index").exists():
            shutil.copyfile(directory / "index", index)
        (Path(scratch) / "objects").mkdir()
        yield {
            "GIT_INDEX_FILE": str(index),
            "GIT_OBJECT_DIRECTORY": f"{scratch}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(top / objects),
        }


def _stage_everything(
    top: Path, path: Path, ignore: Sequence[str], variables: Mapping[str, str]
) -> dict[str, str]:
    """Add every change to the scratch index; returns the untracked files left out, with why."""
    listed = ["ls-files", "-z", "--others", "--exclude-standard"]
    untracked = _names(_run(listed, top, variables))
    wanted = _names(_run([*listed, *(f"--exclude={i}" for i in ignore)], top, variables))
    left_out = {name: "ignored by .mlpignore" for name in untracked if name not in wanted}
    for name in wanted:
        reason = _unfit(top / name)
        if reason:
            left_out[name] = reason
    chosen = [name for name in wanted if name not in left_out]
    _run(["add", "--update", "."], top, variables)
    if chosen:
        data = b"\0".join(os.fsencode(name) for name in chosen)
        added = ["--literal-pathspecs", "add", "--pathspec-from-file=-", "--pathspec-file-nul"]
        _run(added, top, variables, data)
    return left_out


def _names(output: bytes) -> dict[str, None]:
    return {os.fsdecode(name): None for name in output.split(b"\0") if name}


def _unfit(file: Path) -> str:
    """Why an untracked file stays out of the patch, "" if it may come in."""
    name = file.name.lower()
    if name == ".env" or name.startswith(".env.") or name in _KEY_NAMES or name.endswith(_KEYS):
        return "looks like a secret"
    if file.is_dir():  # a nested repository; git lists it by its directory
        return "a repository of its own"
    size = file.lstat().st_size
    if size > MAX_UNTRACKED_BYTES:
        return f"{size} bytes: data is versioned by DVC"
    return ""


def _empty_tree(top: Path) -> str:
    return _run(["hash-object", "-t", "tree", "--stdin"], top, None).decode().strip()


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


# --- repositories that mlp makes and updates ----------------------------------------------------


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
    listed = _run(["diff", "--name-only", "-z", "HEAD"], top, None)
    return tuple(_names(listed))


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
    with _scratch_index(top) as scratch:
        variables = scratch if dry_run else {"GIT_INDEX_FILE": scratch["GIT_INDEX_FILE"]}
        directory = git(["rev-parse", "--absolute-git-dir"], top).removesuffix("\n")
        variables = {**variables, "GIT_DIR": directory, "GIT_WORK_TREE": str(folder)}
        git(["read-tree", base], folder, variables=variables)
        chosen = ["--", ".", f":(exclude){keep}"]
        git(["add", "--all", "--force", *chosen], folder, variables=variables)
        tree = git(["write-tree"], folder, variables=variables).strip()
        names = _run(["diff-tree", "-r", "-z", "--name-only", base, tree], folder, variables)
    return tree, tuple(_names(names))


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
        conflicts = _names(_run(["diff", "--name-only", "-z", "--diff-filter=U"], top, None))
        if not conflicts:
            raise
        return tuple(conflicts)
    return ()


def has_commit(path: Path, commit: str) -> bool:
    """Whether this clone has the commit."""
    try:
        _run(["cat-file", "-e", f"{commit}^{{commit}}"], path, None)
    except ConfigurationError:
        return False
    return True


def check_out(top: Path, path: Path, commit: str | None, patch: bytes) -> None:
    """Make `path` a work tree of the repository at `commit`, with `patch` applied.

    Without a commit it becomes a repository of its own that holds the patch. Submodules are
    checked out too. Raises ConfigurationError with git's words where the patch does not apply.
    """
    if commit is None:
        path.mkdir(parents=True)
        _run(["init", "--quiet", "."], path, None)
    else:
        _run(["worktree", "add", "--quiet", "--detach", str(path), commit], top, None)
        if (path / ".gitmodules").exists():
            _run(["submodule", "--quiet", "update", "--init", "--recursive"], path, None)
    if patch:
        _run(["apply", "--whitespace=nowarn", "-"], path, None, patch)


def remove_work_tree(top: Path, path: Path) -> None:
    """Remove what `check_out` made."""
    if (path / ".git").is_dir():
        shutil.rmtree(path)
    elif path.exists():
        _run(["worktree", "remove", "--force", "--force", str(path)], top, None)
