"""MLflow's model registry: versions of models, their aliases, tags and files."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlp.adapters.base import importing
from mlp.adapters.tracking.artifact_places import local_path
from mlp.adapters.tracking.client import client
from mlp.adapters.tracking.client_store import as_version
from mlp.adapters.tracking.mlflow_errors import Refused, translated
from mlp.adapters.tracking.mlflow_store import opened
from mlp.adapters.tracking.run_query import RunQuery
from mlp.core.errors import RemoteError, UsageError
from mlp.core.models.model_version import LoggedModel, ModelVersion, RegisteredModel
from mlp.core.runs.recorded_run import Tag
from mlp.core.runs.tracking_uri import file_of

_SQLITE = "sqlite:///"
_FOR_FILES = ("mlflow.pyfunc", "mlflow.store.artifact.artifact_repository_registry")
# MLflow keeps the whole address that they had when the model was logged.
_MISSING = "put them back where they were, or log and register the model again"


def there(uri: str) -> bool:
    """Whether the SQLite file at `uri` is there; of a server only a request can tell, so True.

    MLflow makes a file that is not, which would hide that one was moved away.
    """
    return not uri.startswith(_SQLITE) or Path(file_of(uri)).exists()


def registered(uri: str, model: str) -> RegisteredModel | None:
    """The model of that name; None where nothing is registered under it."""
    with opened(uri) as store:
        return store.model(model)


def aliases(uri: str, model: str) -> dict[str, str]:
    """The version of each alias; {} where nothing is registered under that name."""
    found = registered(uri, model)
    return dict(found.aliases) if found else {}


def versions(uri: str, model: str) -> list[ModelVersion]:
    """All versions, the newest first; [] where nothing is registered under that name."""
    with opened(uri) as store:
        return store.versions(model)


def version(uri: str, model: str, number: str) -> ModelVersion:
    """One version, by its number. Raises UsageError where there is none."""
    with opened(uri) as store:
        found = store.version(model, number)
        if found is None:
            raise no_version(model, number)
        return found


def no_version(model: str, number: str) -> UsageError:
    """Of a version that is not there."""
    return UsageError(f"model {model!r} has no version {number}", fix="mlp models list")


def register(
    uri: str, model: str, logged: LoggedModel, tags: Mapping[str, str], description: str = ""
) -> ModelVersion:
    """Make a logged model the next version of `model`, which is made if need be."""
    from mlflow.exceptions import MlflowException

    with translated(uri):
        server = client(uri)
        try:
            server.create_registered_model(model)
        except MlflowException as e:
            if e.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
                raise
        made = server.create_model_version(
            model,
            logged.location,
            logged.run_id,
            tags=dict(tags),
            description=description or None,
            model_id=logged.model_id,
        )
        return as_version(made, RegisteredModel(0))


def set_alias(uri: str, model: str, alias: str, number: str) -> None:
    """Let `alias` mean that version. Raises UsageError where there is none."""
    with opened(uri) as store:
        if store.version(model, number) is None:
            raise no_version(model, number)
        store.set_alias(model, alias, number)


def delete_alias(uri: str, model: str, alias: str) -> None:
    """Let `alias` mean nothing any more; it may do so already."""
    with opened(uri) as store:
        store.delete_alias(model, alias)


def set_tags(uri: str, model: str, number: str, tags: Mapping[str, str]) -> None:
    """Set tags of a version, where it is there: one that was deleted needs none."""
    with opened(uri) as store:
        if store.version(model, number) is not None:
            store.set_tags(model, number, tags)


def download(uri: str, model: str, number: str, to: Path) -> Path:
    """The files of a version in the folder `to`, which is there completely or not at all.

    Where it is there already, nothing is asked. Raises UsageError where there is no such version.
    """
    if to.is_dir():
        return to
    place = _place(uri, model, number)
    return fetch(uri, place, to)


@contextmanager
def files(uri: str, model: str, number: str) -> Iterator[Path]:
    """The files of a version as they lie in the store now, in a folder that is only to be read.

    It is the store's own folder where that is on this machine, else a copy that goes afterwards.
    """
    place = _place(uri, model, number)
    with files_at(uri, place) as folder:
        yield folder


@contextmanager
def files_at(uri: str, location: str) -> Iterator[Path]:
    """The same for an address that MLflow knows: `LoggedModel.location`."""
    own = local_path(location)
    if own is not None:
        if not own.is_dir():
            raise Refused(f"the files at {location} are gone", fix=_MISSING)
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="mlp-model-") as scratch:
        yield fetch(uri, location, Path(scratch) / "model")


def fetch(uri: str, location: str, to: Path) -> Path:
    """Download the files at an address that MLflow knows, in the same way."""
    importing.whole(*_FOR_FILES)  # a server fetches the files of two versions at once
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    to.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
    try:
        with translated(uri):
            repository = get_artifact_repository(location, tracking_uri=uri, registry_uri=uri)
            repository.download_artifacts("", str(part))
        if not any(part.iterdir()):
            raise RemoteError(f"there are no files at {location}", fix=_MISSING)
        part.chmod(0o755)
        _put(part, to)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return to


def logged_models(uri: str, run_ids: Iterable[str]) -> list[LoggedModel]:
    """What runs, by MLflow's ids, and the runs nested in them have logged; the newest first."""
    with translated(uri):
        server = client(uri)
        found: dict[str, LoggedModel] = {}
        for run_id in run_ids:
            run = server.get_run(run_id)
            experiment = run.info.experiment_id
            query = str(RunQuery(tags={Tag.PARENT: run_id}))
            nested = server.search_runs([experiment], query, max_results=1000)
            for each in (run, *nested):
                for model in _logged_by(server, experiment, each.info.run_id):
                    found[model.model_id] = model
        return sorted(found.values(), key=lambda model: -model.created)


def _logged_by(server: Any, experiment: str, run_id: str) -> list[LoggedModel]:
    found = server.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    return [
        LoggedModel(m.model_id, m.name, run_id, m.artifact_location, m.creation_timestamp / 1000)
        for m in found
        if str(getattr(m.status, "value", m.status)) == "READY"
    ]


def _place(uri: str, model: str, number: str) -> str:
    with opened(uri) as store:
        place = store.files(model, number)
    if place is None:
        raise no_version(model, number)
    return place


def _put(part: Path, to: Path) -> None:
    """Give the folder its name, unless another process has just made the same."""
    try:
        os.rename(part, to)  # noqa: PTH104 - Path.rename says the same
    except OSError:
        if not to.is_dir():
            raise
