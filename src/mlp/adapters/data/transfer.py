"""Moving a stage's inputs and outputs between machines by way of the DVC remote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.data.dvc_errors import translated
from mlp.adapters.data.dvc_project import opened
from mlp.adapters.data.storage_errors import storage_translated
from mlp.core.errors import ConfigurationError, RemoteError
from mlp.core.secrets import mask_urls

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a stage reads. `tracked` are paths that DVC has in its cache, with the digest of each;
    `plain` are the other files and directories. All from the project's root."""

    tracked: Mapping[str, str]
    plain: Sequence[str]
    size: int
    """Bytes of what is tracked, as far as it is known."""
    outside: Sequence[str] = ()
    """Files beyond the project, absolute."""


def inputs(path: Path, stage: str) -> Inputs:
    """What `stage` reads, and its outputs that it is to find as they are (`persist`).

    Raises ConfigurationError where DVC has no version of an input yet.
    """
    with opened(path) as repo:
        loaded = _stage(repo, stage)
        tracked: dict[str, str] = {}
        plain: list[str] = []
        outside: list[str] = []
        size = 0
        for dep in loaded.deps:
            if not dep.is_in_repo:
                outside += [str(dep.fs_path)] if dep.protocol == "local" else []
                continue
            name = _relative(repo, dep)
            outs = [out for out in _made_by(repo, str(dep.fs_path)) if out.use_cache]
            for out in outs:
                if not out.hash_info:
                    raise ConfigurationError(
                        f"DVC has no version of {out} yet, which {stage} reads",
                        fix=f"mlp run {out.stage.addressing}",
                    )
                # A part of an output is pulled by its own path.
                inside = out.fs_path != dep.fs_path and str(dep.fs_path).startswith(
                    f"{out.fs_path}/"
                )
                tracked[name if inside else _relative(repo, out)] = str(out.hash_info.value)
                size += out.meta.size or 0
            if not outs:
                plain.append(name)
        for out in loaded.outs:
            if out.persist and out.hash_info and out.use_cache:
                tracked[_relative(repo, out)] = str(out.hash_info.value)
        return Inputs(tracked, plain, size, outside)


def push(path: Path, names: Sequence[str]) -> int:
    """Push outputs or parts of them to the default remote, or stages' outputs by the stages'
    names; returns how many files were missing there."""
    if not names:
        return 0
    with opened(path) as repo, translated("pushing data"), storage_translated(_remote(repo)):
        return int(repo.push(targets=list(names)))


def pull(path: Path, names: Sequence[str]) -> None:
    """Put outputs in place from the default remote. Raises RemoteError for what is not there."""
    if not names:
        return
    with opened(path) as repo, translated("pulling data"), storage_translated(_remote(repo)):
        repo.pull(targets=list(names))


def working_directory(path: Path, stage: str) -> str:
    """Where a stage's command runs, from the project's root."""
    with opened(path) as repo:
        return str(repo.fs.relpath(_stage(repo, stage).wdir, repo.root_dir))


@dataclass(frozen=True, slots=True)
class Made:
    """An output that a stage made elsewhere, by its path from the project's root.

    `digest` is None where DVC does not keep it in its cache: then it has to be brought as a file.
    """

    path: str
    digest: str | None
    hash_name: str
    size: int | None
    files: int | None
    executable: bool


def commit(path: Path, stage: str) -> tuple[Made, ...]:
    """Take the stage's outputs into DVC's cache, as `dvc commit` does; returns them.

    Raises ConfigurationError for an output that the stage did not make.
    """
    with opened(path) as repo, translated(f"taking the outputs of {stage} into DVC's cache"):
        repo.commit(stage, force=True)
        return tuple(_made(repo, out) for out in _stage(repo, stage).outs)


def receive(path: Path, stage: str, made: Sequence[Made]) -> None:
    """Put outputs that were made and pushed elsewhere into the workspace, as the stage's command
    would have left them. `dvc.lock` stays as it is: DVC writes it when the command ends.

    Raises RemoteError for an output that the remote does not have.
    """
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    by_path = {item.path: item for item in made if item.digest is not None}
    with opened(path) as repo, translated("fetching outputs"), storage_translated(_remote(repo)):
        for out in _stage(repo, stage).outs:
            item = by_path.get(_relative(repo, out))
            if item is None:
                continue
            out.hash_info = HashInfo(item.hash_name, item.digest)
            out.meta = Meta(size=item.size, nfiles=item.files, isexec=item.executable)
            for store, objects in out.get_used_objs().items():
                result = repo.cloud.pull(objects, odb=store)
                if result.failed:
                    raise RemoteError(f"the DVC remote does not have all of {item.path}")
            out.checkout(force=True)


def input_states(path: Path, stage: str) -> dict[str, Any]:
    """The hash of every dependency and the value of every param of a stage, as they are now."""
    with opened(path) as repo, translated(f"reading the inputs of {stage}"):
        loaded = _stage(repo, stage)
        loaded.save_deps(allow_missing=True)
        return {
            _relative(repo, dep) if dep.is_in_repo else str(dep.def_path): dep.hash_info.value
            for dep in loaded.deps
        }


def _remote(repo: "Repo") -> str:
    """The address of the default remote, for messages."""
    name = repo.config["core"].get("remote")
    return mask_urls(str(repo.config["remote"].get(name, {}).get("url", name)))


def _stage(repo: "Repo", name: str) -> "Stage":
    found: Stage = next(stage for stage in repo.index.stages if stage.addressing == name)
    return found


def _made_by(repo: "Repo", path: str) -> "list[Output]":
    from dvc.exceptions import OutputNotFoundError

    try:
        # With the outputs given, DVC does not make a graph of them first.
        outs = list(repo.index.outs)
        found: list[Output] = repo.find_outs_by_path(path, outs, recursive=True, strict=False)
    except OutputNotFoundError:
        return []
    return found


def _made(repo: "Repo", out: "Output") -> Made:
    return Made(
        _relative(repo, out),
        str(out.hash_info.value) if out.use_cache else None,
        out.hash_name,
        out.meta.size,
        out.meta.nfiles,
        bool(out.meta.isexec),
    )


def _relative(repo: "Repo", entry: Any) -> str:
    return str(repo.fs.relpath(entry.fs_path, repo.root_dir))
