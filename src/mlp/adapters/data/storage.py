"""The default DVC remote as a place for files of ours: code bundles, what jobs leave behind."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlp.adapters.data.dvc_project import opened
from mlp.adapters.data.remotes import is_local
from mlp.adapters.data.storage_errors import storage_translated
from mlp.core.errors import ConfigurationError
from mlp.core.secrets import is_secret_name, mask_urls

# Half of a credential, or files of this machine: pods have their own, from a Secret.
_OF_THIS_MACHINE = (
    *("access_key_id", "profile", "credentialpath", "configpath"),
    *("keyfile", "ask_password", "cert_path", "key_path"),
)


@dataclass(frozen=True, slots=True)
class Storage:
    """A folder that this machine and the pods of a cluster can read and write."""

    url: str
    _fs: Any
    _path: str

    def exists(self, name: str) -> bool:
        """Whether there is a file `name`."""
        with storage_translated(self.url):
            return bool(self._fs.exists(self._at(name)))

    def put(self, file: Path, name: str) -> None:
        """Store a file; it is there completely or not at all."""
        with storage_translated(self.url):
            self._fs.put_file(str(file), self._at(name))

    def get(self, name: str, file: Path) -> None:
        """Fetch `name` to `file`. Raises RemoteError where it is not there."""
        with storage_translated(self.url):
            file.parent.mkdir(parents=True, exist_ok=True)
            self._fs.get_file(self._at(name), str(file))

    def write(self, name: str, content: bytes) -> None:
        """Store a small file."""
        with storage_translated(self.url):
            self._fs.pipe_file(self._at(name), content)

    def read(self, name: str) -> bytes | None:
        """A small file, None where it is not there."""
        with storage_translated(self.url):
            try:
                with self._fs.open(self._at(name), mode="rb") as file:
                    return bytes(file.read())
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        """The files below `folder`, by their names from the top."""
        with storage_translated(self.url):
            try:
                found = list(self._fs.find(self._at(folder)))
            except FileNotFoundError:
                return []
        return [str(path).removeprefix(f"{self._path}/") for path in found]

    def remove(self, folder: str) -> None:
        """Remove a folder and all in it."""
        for name in self.names(folder):
            with storage_translated(self.url):
                self._fs.remove(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"


def remote_settings(path: Path) -> dict[str, str]:
    """The settings of the default remote but for credentials, as pods need them.

    Raises ConfigurationError where there is none, or one that only this machine has.
    """
    with opened(path) as repo:
        name = repo.config["core"].get("remote")
        if name is None:
            raise ConfigurationError(
                "there is no default DVC remote: pods could not get the code and the data",
                fix="dvc remote add --default storage s3://BUCKET/PATH",
            )
        # Opening the remote would import its library, which takes longer than all the rest.
        settings = dict(repo.config["remote"].get(name, {}))
        if "url" not in settings:
            repo.cloud.get_remote(name, "push")  # which says what is wrong with it
        if is_local(str(settings.get("url", ""))):
            raise ConfigurationError(
                f"the DVC remote {name!r} is a directory of this machine: pods cannot reach it",
                fix="dvc remote add --default storage s3://BUCKET/PATH",
            )
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint and str(settings["url"]).startswith("s3://"):
            settings.setdefault("endpointurl", endpoint)  # which pods do not have from here
        return {
            "name": name,
            **{
                key: mask_urls(str(value))
                for key, value in settings.items()
                if not is_secret_name(key) and key not in _OF_THIS_MACHINE
            },
        }


def storage(path: Path) -> Storage:
    """The default remote of a project."""
    with opened(path) as repo:
        settings = remote_settings(path)
        with storage_translated(settings["url"]):
            remote = repo.cloud.get_remote(settings["name"], "push")
        return Storage(settings["url"], remote.fs, str(remote.path).rstrip("/"))


def storage_of(settings: Mapping[str, str]) -> Storage:
    """The storage that `remote_settings` describes, without a project around it."""
    with storage_translated(settings["url"]):
        from dvc.fs import get_cloud_fs

        kind, config, path = get_cloud_fs(
            None, **{k: v for k, v in settings.items() if k != "name"}
        )
        return Storage(settings["url"], kind(**config), str(path).rstrip("/"))
