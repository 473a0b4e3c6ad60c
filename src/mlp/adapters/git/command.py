"""Git's command line, called."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlp.core.errors import ConfigurationError
from mlp.core.secrets import mask_urls


def git(arguments: Sequence[str], cwd: Path, *, variables: Mapping[str, str] | None = None) -> str:
    """The output of one git command in `cwd`; ConfigurationError with git's words if it fails."""
    return run(arguments, cwd, variables).decode(errors="surrogateescape")


def run(
    arguments: Sequence[str], cwd: Path, variables: Mapping[str, str] | None, data: bytes = b""
) -> bytes:
    """The same as bytes, with `data` as its input."""
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


def names(output: bytes) -> dict[str, None]:
    """File names that git has listed with `-z`, in its order."""
    return {os.fsdecode(name): None for name in output.split(b"\0") if name}


def empty_tree(top: Path) -> str:
    """The id of a tree without files."""
    return run(["hash-object", "-t", "tree", "--stdin"], top, None).decode().strip()


def has_commit(path: Path, commit: str) -> bool:
    """Whether this clone has the commit."""
    try:
        run(["cat-file", "-e", f"{commit}^{{commit}}"], path, None)
    except ConfigurationError:
        return False
    return True
