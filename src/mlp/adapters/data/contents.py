"""What DVC keeps: metrics, plots, cached versions of files."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.data.dvc_pipeline import is_pipeline, state_of
from mlp.adapters.data.dvc_project import opened
from mlp.core.errors import ConfigurationError
from mlp.core.runs.pipeline import StageState

if TYPE_CHECKING:
    from dvc.repo import Repo


def metrics(path: Path) -> dict[str, dict[str, Any]]:
    """The contents of every metrics file of the project that can be read, by its path."""
    with opened(path) as repo:
        shown = (
            repo.metrics.show(on_error="ignore", hide_workspace=False).get("", {}).get("data", {})
        )
        return {name: result["data"] for name, result in shown.items() if "data" in result}


def plots(path: Path) -> tuple[str, ...]:
    """The paths of every plot's data or image in the project, files and directories."""
    with opened(path) as repo:
        of_stages = [str(out) for out in repo.index.outs if out.plot]
        return tuple(dict.fromkeys([*of_stages, *_top_level_plots(repo)]))


def _top_level_plots(repo: "Repo") -> Iterator[str]:
    """The files under `plots:` at the top of each dvc.yaml.

    DVC's own list of them asks the cache whether one is a directory, and fails where the cache
    does not have it.
    """
    for file, definitions in repo.index._plots.items():
        folder = os.path.relpath(Path(file).parent, repo.root_dir)
        for definition in definitions:
            plots = {definition: None} if isinstance(definition, str) else definition
            for name, shape in plots.items():
                # Where an axis is a mapping, its keys are the files, and the name is a title.
                axes = [axis for axis in (shape or {}).values() if isinstance(axis, dict)]
                for source in chain(*axes) if axes else [name]:
                    yield os.path.normpath(Path(folder, source))


def cached_files(path: Path, digests: Iterable[str]) -> dict[str, Path]:
    """Where the versions with these digests lie in the local cache; those that it lacks are left
    out. A directory's is the file that lists it: `directory_entries` reads that."""
    with opened(path) as repo:
        # DVC 2 kept its objects elsewhere; DVC 3 still reads them.
        stores = (repo.cache.local, repo.cache.legacy)
        return {
            digest: Path(store.oid_to_path(digest))
            for digest in digests
            for store in reversed(stores)
            if Path(store.oid_to_path(digest)).is_file()
        }


def directory_entries(path: Path, digest: str) -> dict[str, str] | None:
    """The files of a directory's version, by their path in it, with the digest of each.

    None where the local cache does not have that version's list. Raises ConfigurationError where
    the list is damaged.
    """
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.errors import ObjectFormatError

    with opened(path) as repo:
        for store in (repo.cache.local, repo.cache.legacy):
            if not Path(store.oid_to_path(digest)).is_file():
                continue
            try:
                tree = Tree.load(store, HashInfo(store.hash_name, digest), store.hash_name)
            except ObjectFormatError as e:
                raise ConfigurationError(str(e), fix="dvc fetch") from e
            return {"/".join(key): str(info.value) for key, _, info in tree if info}
    return None


def sources(path: Path) -> tuple[StageState, ...]:
    """The data of `dvc add` and of imports, each like a stage without a command that is named by
    its .dvc file."""
    with opened(path) as repo:
        return tuple(
            replace(state_of(stage), command=())
            for stage in repo.index.stages
            if not is_pipeline(stage)
        )


def differences(path: Path) -> dict[tuple[str, str], str]:
    """How the workspace differs from what is recorded, by stage (or .dvc file) and path:
    `modified`, `deleted`, or `new` where nothing is recorded. A param comes as `param NAME`."""
    from dvc.dependency.repo import RepoDependency

    found: dict[tuple[str, str], str] = {}
    with opened(path) as repo:
        for stage in repo.index.stages:
            for entry in (*stage.deps, *stage.outs):
                # Asking a remote takes long, and may need a password.
                if entry.protocol != "local" or isinstance(entry, RepoDependency):
                    continue
                for name, status in entry.workspace_status().items():
                    if isinstance(status, dict):  # a params file
                        for key, how in status.items():
                            found[stage.addressing, f"param {key}"] = how
                    else:
                        found[stage.addressing, name] = status
    return found
