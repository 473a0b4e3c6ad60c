"""Where data comes from: the cache that is shared, and the remote."""

import os
from dataclasses import dataclass
from pathlib import Path

from mlp.adapters.data.errors import translated
from mlp.adapters.data.pipeline import is_pipeline
from mlp.adapters.data.project import opened
from mlp.adapters.data.transfer import pull
from mlp.core.errors import MlpError
from mlp.core.patience import waiting_for
from mlp.core.secrets import mask_urls


def share_cache(source: Path, target: Path) -> None:
    """Let the project at `target` use the cache and the local settings of the one at `source`."""
    with opened(source) as repo:
        cache = str(repo.cache.local_cache_dir)
        local = source / ".dvc" / "config.local"
        if local.is_file():
            (target / ".dvc" / "config.local").write_bytes(local.read_bytes())
    with opened(target) as repo, repo.config.edit("local") as settings:
        # A relative path: DVC writes its settings in ASCII, and the way there may have any name.
        settings.setdefault("cache", {})["dir"] = os.path.relpath(cache)


def check_out_sources(path: Path) -> tuple[str, ...]:
    """Put the data of `dvc add` in place, from the cache or the remote; returns what is missing."""
    with opened(path) as repo:
        files = [stage.path for stage in repo.index.stages if not is_pipeline(stage)]
    missing = []
    for file in files:
        try:
            pull(path, [file])
        except MlpError:
            missing.append(str(Path(file).relative_to(path)))
    return tuple(missing)


@dataclass(frozen=True, slots=True)
class Remote:
    """The default DVC remote. `holds_data` is False where its place answers and is empty."""

    name: str
    url: str
    holds_data: bool


def remote(path: Path) -> Remote | None:
    """Ask the default DVC remote whether it is there; None where no remote is configured.

    Raises ConfigurationError where it is configured wrongly or there are several and no default.
    What the remote's own library raises (no network, no rights) comes through.
    """
    with opened(path) as repo, waiting_for("the DVC remote"):
        name = repo.config["core"].get("remote")
        if name is None and not repo.config["remote"]:
            return None
        found = repo.cloud.get_remote(name, "push")
        url = mask_urls(str(repo.config["remote"][found.name].get("url", found.path)))
        return Remote(found.name, url, bool(found.fs.exists(found.path)))


@dataclass(frozen=True, slots=True)
class DefaultRemote:
    """The default DVC remote as it is configured; nothing is asked of it.

    `local` is whether it is a directory of this machine.
    """

    name: str
    url: str
    local: bool


def default_remote(path: Path) -> DefaultRemote | None:
    """What DVC's settings say of the default remote; None where there is none.

    Raises ConfigurationError where they have mistakes.
    """
    from dvc.config import Config

    with translated("reading DVC's settings"):
        config = Config(str(path / ".dvc"))
        name = config["core"].get("remote")
        url = config["remote"].get(name, {}).get("url") if name else None
    if not name or not url:
        return None
    return DefaultRemote(name, mask_urls(url), is_local(url))


def is_local(url: str) -> bool:
    """Whether a remote is a directory of this machine, which pods cannot reach."""
    return "://" not in url or url.startswith(("file://", "local://"))
