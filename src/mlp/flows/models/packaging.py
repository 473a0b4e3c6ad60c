"""A version as a self-contained folder, and as a container image."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mlp.adapters.base import folder_digests
from mlp.adapters.tracking import registry
from mlp.core.digests import combined
from mlp.core.errors import ConfigurationError, GateRefused, UsageError, from_os_error
from mlp.core.models import package
from mlp.core.models.model_version import recorded_digest, registration
from mlp.flows.models.opened_model import Opened, opened
from mlp.flows.models.reconcile import settle
from mlp.flows.project import Project

if TYPE_CHECKING:
    from mlp.adapters.images import Builder


@dataclass(frozen=True, slots=True)
class PackagePlan:
    """What will be made. `texts` are the files beside the model's own, `files` those by digest."""

    model: str
    version: str
    folder: Path
    digest: str
    verified: bool
    files: dict[str, str]
    texts: dict[str, str]
    image: str | None = None
    builder: str | None = None
    flags: Sequence[str] = ()


def plan(
    project: Project,
    version: str,
    folder: Path,
    *,
    image: str | None = None,
    base: str | None = None,
    builder: str | None = None,
    flags: Sequence[str] = (),
) -> PackagePlan:
    """What there is to make. `image` is the tag of an image to be built of it, on `base`.

    Raises UsageError where the folder is there and not empty and for what does not go together,
    GateRefused where the version's files are not those that were registered, ConfigurationError
    where nothing can build an image.
    """
    from mlp.adapters import images

    _refuse_contradictions(image, base, builder, flags)
    folder = folder.resolve()
    if folder == Path.cwd():  # also what an empty path means
        raise UsageError("--to is the directory you are in", fix="name a folder to be made there")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already", fix="name a folder that is not")
    chosen = images.builder(builder).name if image else None
    with opened(project) as model:
        settle(model)
        return _plan(model, version, folder, image, base, chosen, flags)


def apply(project: Project, planned: PackagePlan, progress: Callable[[str], None]) -> Path:
    """Make the folder, which is there completely or not at all, and the image; returns the folder.

    `progress` gets the builder's lines. Raises ConfigurationError where the folder cannot be made,
    or the image cannot be built.
    """
    from mlp.adapters.images import Builder

    try:
        _folder(project, planned)
    except OSError as e:
        known = from_os_error(e)
        raise ConfigurationError(
            f"the folder {planned.folder} cannot be made: {known.message}",
            fix=known.fix or "name one where you may write: --to FOLDER",
        ) from e
    if planned.image and planned.builder:
        _image(planned, Builder(planned.builder), progress)
    return planned.folder


def _refuse_contradictions(
    image: str | None, base: str | None, builder: str | None, flags: Sequence[str]
) -> None:
    for option, value in (("--image", image), ("--base", base)):
        if value == "":
            raise UsageError(f"{option} is empty", fix="leave it out, or name one")
    if image is None and (base is not None or builder is not None or flags):
        raise UsageError("--base, --builder and flags are for an image", fix="add --image TAG")


def _folder(project: Project, planned: PackagePlan) -> None:
    planned.folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{planned.folder.name}-", dir=planned.folder.parent))
    try:
        with (
            opened(project) as model,
            registry.files(model.uri, model.name, planned.version) as files,
        ):
            for path in planned.files:
                target = part / package.MODEL / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(files / path, target)
        if folder_digests.of(part / package.MODEL) != planned.digest:
            raise GateRefused("the files of the version have changed while they were copied")
        for name, text in planned.texts.items():
            (part / name).write_text(text, encoding="utf-8")
        _readable(part)
        (part / package.SERVE).chmod(0o755)
        os.replace(part, planned.folder)  # noqa: PTH105 - over an empty folder, too
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _image(planned: PackagePlan, builder: "Builder", progress: Callable[[str], None]) -> None:
    image = planned.image or ""
    try:
        builder.build(planned.folder, image, planned.flags, progress)
    except ConfigurationError as e:
        file = planned.folder / package.CONTAINERFILE
        again = [builder.name, "build", "--file", str(file), "--tag", image, *planned.flags]
        raise ConfigurationError(
            f"{e.message}; its folder is made: {planned.folder}",
            fix="correct what its last lines name: the model's requirements, --base, the flags"
            f" behind `--`, or the network; then: {shlex.join([*again, str(planned.folder)])}",
            cause=e.cause,
        ) from e


def _plan(
    model: Opened,
    reference: str,
    folder: Path,
    image: str | None,
    base: str | None,
    builder: str | None,
    flags: Sequence[str],
) -> PackagePlan:
    entries = model.entries()
    version = model.version(reference)
    recorded = recorded_digest(entries, version.version, version.tags)
    with registry.files(model.uri, model.name, version.version) as files:
        found = folder_digests.files(files)
        digest = combined(found)
        if recorded is not None and recorded != digest:
            raise GateRefused(
                f"the files of version {version.version} are not those that were registered",
                fix="put the original files back, or register the run again",
            )
        needs = {package.REQUIREMENTS: _text(files / package.REQUIREMENTS)}
        if constraints := _text(files / package.CONSTRAINTS):
            needs[package.CONSTRAINTS] = constraints
        python = yaml.safe_load(_text(files / "python_env.yaml") or "{}").get("python", "3.11")
    evidence = registration(entries, version.version)
    made_from = {k: v for k, v in evidence.items() if k not in ("files", "digest")}
    record = {
        "model": model.name,
        "version": version.version,
        "digest": digest,
        "made_from": made_from,
    }
    minor = ".".join(str(python).split(".")[:2])
    texts = package.texts(
        model.name,
        version.version,
        base or f"docker.io/library/python:{minor}-slim",
        needs,
        found,
        record,
    )
    return PackagePlan(
        model.name,
        version.version,
        folder,
        digest,
        recorded is not None,
        found,
        texts,
        image,
        builder,
        tuple(flags),
    )


def _readable(folder: Path) -> None:
    """Whatever the umask: in the image another user reads it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
