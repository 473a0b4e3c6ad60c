"""The door to git: its command line, called."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlp.core.errors import ConfigurationError
from mlp.core.provenance import Code
from mlp.core.secrets import mask_urls

# An untracked file above this size is data rather than code: it stays out of a run's patch.
MAX_UNTRACKED_BYTES = 5 * 2**20
_KEYS = (".pem", ".key", ".p12", ".pfx", ".kdbx", ".keystore")
_KEY_NAMES = ("id_rsa", "id_ed25519", "id_ecdsa", "id_dsa", ".netrc", ".pypirc", "credentials")


def git(arguments: Sequence[str], cwd: Path, *, variables: Mapping[str, str] | None = None) -> str:
    """The output of one git command in `cwd`; ConfigurationError with git's own words if it fails."""
    return _run(arguments, cwd, variables).decode(errors="surrogateescape")


def _run(
    arguments: Sequence[str], cwd: Path, variables: Mapping[str, str] | None, data: bytes = b""
) -> bytes:
    # The user's hooks and optional index refreshes are not ours to trigger.
    environ = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"} | (variables or {})
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
        patch = _run(
            ["diff", "--cached", "--binary", "--no-color", "--no-ext-diff", base], top, variables
        )
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


@contextmanager
def _scratch_index(top: Path) -> Iterator[dict[str, str]]:
    """Variables under which `git add` writes to a scratch index and object store, not the user's."""
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
    fields = (line[1:].split(" ") for line in lines)
    return {name: commit for commit, name, *_ in fields}
