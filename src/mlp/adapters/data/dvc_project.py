"""A DVC project, opened."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvc.repo import Repo
from mlp.adapters.data.dvc_errors import translated


def root(start: Path) -> Path | None:
    """The DVC project that `start` is in, None where it is in none."""
    for folder in (start, *start.parents):
        if (folder / ".dvc").is_dir():
            return folder
    return None


def init(path: Path, *, no_scm: bool = False) -> None:
    """Make `path` a DVC project with DVC's analytics off."""
    import logging

    from dvc.repo import Repo

    logging.getLogger("dvc.repo.init").setLevel(logging.WARNING)  # says "Initialized" on stdout
    with translated("initialising DVC"):
        repo = Repo.init(str(path), no_scm=no_scm)
        with repo.config.edit("repo") as settings:
            settings.setdefault("core", {})["analytics"] = False
        repo.close()


def adopt(path: Path, remote: Mapping[str, str]) -> None:
    """Make a copy of a project's files that has no git work like the project, with its remote."""
    import configparser

    settings = configparser.ConfigParser(interpolation=None)
    settings["core"] = {"no_scm": "true", "analytics": "false", "remote": remote["name"]}
    section = f"'remote \"{remote['name']}\"'"
    settings[section] = {name: value for name, value in remote.items() if name != "name"}
    with (path / ".dvc" / "config.local").open("w", encoding="utf-8") as file:
        settings.write(file)


_open: dict[Path, "Repo"] = {}


@contextmanager
def opened(path: Path) -> Iterator["Repo"]:
    """DVC's own object for the project at `path`, which is the working directory for the block.

    DVC names files as seen from there, and finds `dvc.yaml` there. Opened again inside of the
    block, it is the same one: what DVC has read is not read again.
    """
    with translated("opening the DVC project"):
        if path in _open:
            yield _open[path]
            return
        from dvc.repo import Repo

        # What DVC says of each stage, mlp says itself.
        logging.getLogger("dvc").setLevel(logging.WARNING)
        with chdir(path), Repo(str(path)) as repo:
            _open[path] = repo
            try:
                yield repo
            finally:
                del _open[path]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """`opened`, with DVC's lock on the project: what is read in the block is read once."""
    with opened(path) as repo:
        from dvc.repo import lock_repo

        with lock_repo(repo):
            _repair_files_in_use(repo)
            yield


def _repair_files_in_use(repo: "Repo") -> None:
    """Remove DVC's list of files in use where a kill left half of it: DVC would refuse for ever."""
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    path = Path(repo.tmp_dir) / RWLOCK_FILE
    if _is_json(path):
        return
    with make_lock(str(Path(repo.tmp_dir) / RWLOCK_LOCK), tmp_dir=repo.tmp_dir):
        if not _is_json(path):  # nobody was just writing it
            path.unlink()


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True
