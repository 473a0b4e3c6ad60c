"""Where data comes from: the cache that is shared, and the remote."""

import itertools
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlp.adapters.data.dvc_errors import translated
from mlp.adapters.data.dvc_pipeline import is_pipeline
from mlp.adapters.data.dvc_project import opened
from mlp.adapters.data.packages import missing_package, package_for
from mlp.adapters.data.transfer import pull
from mlp.core.errors import ConfigurationError, MlpError
from mlp.core.patience import waiting_for
from mlp.core.secrets import mask_urls

_REMOTE = "storage"  # how a remote is called that we add


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
        try:
            found = repo.cloud.get_remote(name, "push")
        except ImportError as e:
            raise missing_package(str(repo.config["remote"].get(name, {}).get("url")), e) from e
        url = mask_urls(str(repo.config["remote"][found.name].get("url", found.path)))
        return Remote(found.name, url, bool(found.fs.exists(found.path)))


@dataclass(frozen=True, slots=True)
class DefaultRemote:
    """The default DVC remote as it is configured; nothing is asked of it.

    `local` is whether it is a directory of this machine, `package` what DVC needs beside itself to
    reach it, `endpoint` the S3 server that is set for it.
    """

    name: str
    url: str
    local: bool
    package: str | None = None
    endpoint: str | None = None


def default_remote(path: Path) -> DefaultRemote | None:
    """What DVC's settings say of the default remote; None where there is none.

    Raises ConfigurationError where they have mistakes.
    """
    with translated("reading DVC's settings"):
        config = _settings(path)
        name = config["core"].get("remote")
        remote = config["remote"].get(name, {}) if name else {}
        url = remote.get("url")
    if not name or not url:
        return None
    package = package_for(_base_url(config["remote"], url))
    return DefaultRemote(name, mask_urls(url), is_local(url), package, remote.get("endpointurl"))


@dataclass(frozen=True, slots=True)
class NewRemote:
    """A remote that becomes the default one of the project: what `dvc remote` is told of it."""

    name: str
    url: str
    endpoint: str | None = None

    @property
    def commands(self) -> tuple[str, ...]:
        """The same by DVC's own commands."""
        add = f"dvc remote add --default {self.name} {shlex.quote(self.url)}"
        if self.endpoint is None:
            return (add,)
        return add, f"dvc remote modify {self.name} endpointurl {shlex.quote(self.endpoint)}"


def new_remote(path: Path, url: str, endpoint: str | None) -> NewRemote:
    """The remote at `url`, under a name that no other one has; changes nothing.

    Raises ConfigurationError for an address that DVC does not know, or that pods cannot reach, and
    where this machine has a default remote of its own, which would hide it.
    """
    if is_local(url):
        raise ConfigurationError(
            f"{url!r} is a directory of this machine: pods cannot reach it",
            fix="give an address that both reach, as in s3://BUCKET/PATH",
        )
    from dvc.config import Config

    with translated(f"adding the DVC remote {url}"):
        Config.validate({"remote": {_REMOTE: {"url": url}}})
        config = _settings(path)
        taken, own = config["remote"], config.load_one("local")["core"].get("remote")
    names = itertools.chain([_REMOTE], (f"{_REMOTE}-{number}" for number in itertools.count(2)))
    free = next(name for name in names if taken.get(name, {}).get("url", url) == url)
    if own not in (None, free):
        raise ConfigurationError(
            f".dvc/config.local makes {own} the default remote on this machine: a new one would not"
            " be used here",
            fix="dvc remote default --local --unset",
        )
    return NewRemote(free, url, endpoint)


def write_remote(path: Path, remote: NewRemote) -> None:
    """Put the remote into `.dvc/config` of the project at `path`, as `dvc remote add` does."""
    with (
        translated("adding the DVC remote"),
        _settings(path).edit("repo") as settings,
    ):
        section = settings["remote"].setdefault(remote.name, {})
        section["url"] = remote.url
        if remote.endpoint is not None:
            section["endpointurl"] = remote.endpoint
        settings["core"]["remote"] = remote.name


def _settings(path: Path) -> Any:
    """DVC's settings of the project, from all their files."""
    from dvc.config import Config

    return Config(str(path / ".dvc"))


def _base_url(remotes: Mapping[str, Mapping[str, str]], url: str) -> str:
    """The address behind remote://NAME/PATH, which stands for that of another remote."""
    seen: set[str] = set()
    while url.startswith("remote://"):
        name = url.removeprefix("remote://").partition("/")[0]
        if name in seen or "url" not in remotes.get(name, {}):
            break
        seen.add(name)
        url = remotes[name]["url"]
    return url


def is_local(url: str) -> bool:
    """Whether a remote is a directory of this machine, which pods cannot reach."""
    return "://" not in url or url.startswith(("file://", "local://"))
