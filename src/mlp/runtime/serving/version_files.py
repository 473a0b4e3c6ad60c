"""The files of versions on this machine: downloaded once, checked every time, kept for rollback."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from mlp.adapters.base import folder_digests, lock
from mlp.adapters.tracking import registry
from mlp.core.errors import GateRefused, MlpError, RemoteError
from mlp.core.models.ledger import LedgerEntry
from mlp.core.models.model_version import VersionTag, recorded_digest, registration


class Versions:
    """The versions of one model under `folder`, which the workers of a machine share."""

    def __init__(self, uri: str, model: str, folder: Path) -> None:
        self._uri = uri
        self._model = model
        self._folder = folder / model

    def fetch(self, version: str, entries: Sequence[LedgerEntry]) -> tuple[Path, str | None]:
        """The folder with a version's files, and the digest that they were found to have.

        The digest is None where none was recorded: nothing was checked then. Raises GateRefused
        where the files are others than those registered, and what the registry raises where it is
        away and they are not here.
        """
        with lock.held(self._folder / f"{version}.lock", wait=True):
            path = self._folder / version
            expected = recorded_digest(entries, version) or self._tagged(version, path)
            if path.is_dir() and expected is not None and folder_digests.of(path) != expected:
                shutil.rmtree(path)  # damaged here, or of a model that had the name before
            registry.download(self._uri, self._model, version, path)
            if expected is None:
                return path, None
            found = folder_digests.of(path)
            if found != expected:
                shutil.rmtree(path)
                raise GateRefused(
                    f"the files of {self._model} version {version} are not those registered",
                    fix="find out who changed them; to serve them, register the model again",
                    cause=f"digest {found}, recorded {expected}",
                )
            return path, expected

    def run(self, version: str, entries: Sequence[LedgerEntry]) -> str | None:
        """The run that made a version: the pipeline's, or MLflow's where no pipeline did.

        None where nobody knows, or only the registry does, and is away.
        """
        if known := registration(entries, version).get("run_id"):
            return str(known)
        try:
            found = registry.version(self._uri, self._model, version)
        except MlpError:
            return None
        return found.tags.get(VersionTag.RUN_ID) or found.run_id

    def _tagged(self, version: str, path: Path) -> str | None:
        try:
            tags = registry.version(self._uri, self._model, version).tags
        except RemoteError:
            if path.is_dir():
                return None
            raise
        return recorded_digest((), version, tags)
