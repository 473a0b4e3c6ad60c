"""What may be in a code bundle: which files never travel, which members are refused."""

import os
import unicodedata
from collections.abc import Mapping
from itertools import pairwise

from mlp.core.launch.secret_files import looks_secret

_MAX_LINKS = 40  # the kernel follows no more of them in one path
_MAX_NAME = 255  # bytes of one part of a path, on every file system that pods have
# Directories that are the tools' own, wherever they are in the repository.
_STATE = {".git": "git's own", ".mlp": "mlp's own", "mlruns": "MLflow's own"}
_STATE["mlartifacts"] = "MLflow's own"
_OF_DVC = ("config.local", "tmp", "cache")  # of what is in .dvc/
_DATABASE = ("mlflow.db", "mlflow.db-journal", "mlflow.db-wal", "mlflow.db-shm")


def left_out(name: str) -> str:
    """Why a file of the repository never travels, "" if it may; `name` is from its root."""
    parts = name.split("/")
    last = parts[-1]
    if looks_secret(last):
        return "looks like a secret"
    if last == ".git" or last in _DATABASE:
        return "git's own" if last == ".git" else "MLflow's own"
    for folder, inside in pairwise(parts):
        if folder in _STATE:
            return _STATE[folder]
        if folder == ".dvc" and inside in _OF_DVC:
            return "DVC's own, of this machine"
    return ""


def control_characters(text: str) -> bool:
    """Whether it holds characters that a terminal obeys (line ends too), or NUL."""
    return not text.isprintable() and any(unicodedata.category(c) == "Cc" for c in text)


def refusal(name: str) -> str:
    """Why an archive's member must not be unpacked under this name, "" if it may."""
    if name.startswith("/"):
        return "its name is absolute"
    if control_characters(name):
        return "its name holds control characters"
    parts = name.split("/")
    if ".." in parts:
        return "its name leads upwards"
    if "" in parts or "." in parts:
        return "its name is not in its plain form"
    if any(len(os.fsencode(part)) > _MAX_NAME for part in parts):
        return "its name is too long"
    return ""


def leads_outside(name: str, links: Mapping[str, str]) -> bool:
    """Whether the symbolic link `name` ends outside of the tree, or nowhere (in a circle).

    `links` has the target of every link of the tree by its name. What is not in it is taken for a
    directory, so the answer is right as well for what is made in the tree afterwards.
    """
    place = name.split("/")[:-1]
    rest = _parts(links[name])
    followed = 1
    while rest:
        part = rest.pop()
        if part == "/" or (part == ".." and not place):
            return True
        if part == "..":
            place.pop()
            continue
        place.append(part)
        target = links.get("/".join(place))
        if target is not None:
            followed += 1
            if followed > _MAX_LINKS:
                return True
            place.pop()
            rest += _parts(target)
    return False


def _parts(target: str) -> list[str]:
    """The steps of a link's target, the first one last; "/" where it starts at the root."""
    steps = [part for part in target.split("/") if part not in ("", ".")]
    return [*reversed(steps), "/"] if target.startswith("/") else steps[::-1]


def shown(name: str) -> str:
    """`name` as it can be printed: on one line, whatever is in it."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
