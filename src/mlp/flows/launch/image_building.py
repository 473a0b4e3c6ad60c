"""Making the environment image of a target: which one it is, whether it is there, building it."""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlp.adapters import data
from mlp.core.errors import ConfigurationError, MlpError
from mlp.core.launch import image as images
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.flows.project import Project

if TYPE_CHECKING:
    from mlp.adapters.wheel import Wheel


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What `build` is going to do for a target, and from what."""

    target: str
    image: str
    """The full reference that comes out."""
    reason: str
    """Why it does what it does."""
    builder: str | None = None
    """None where nothing is to be done."""
    build: bool = False
    push: bool = False
    base: str = ""
    flags: Sequence[str] = ()
    push_flags: Sequence[str] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """The build's context, the Containerfile among it."""
    launched: str = ""
    """What launches on the target use: another one, where an option is not in mlp.yaml."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was done; durations in seconds, None for what was not needed."""

    target: str
    image: str
    builder: str | None
    build_seconds: float | None = None
    push_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Recipe:
    image: str
    containerfile: str
    texts: Mapping[str, str]
    ours: "Wheel"


def image(project: Project, target_name: str) -> str:
    """The full reference of the image that a launch on the target uses; asks nobody.

    Raises ConfigurationError where the requirements that it is made from are missing.
    """
    target = project.target(target_name)
    if images.reference(target.image).fixed:
        return target.image
    return _recipe(project, target, target.build.base, target.build.flags).image


def plan(
    project: Project,
    target_name: str | None = None,
    *,
    base: str | None = None,
    builder: str | None = None,
    flags: Sequence[str] = (),
    push: bool = True,
    force: bool = False,
) -> ImagePlan:
    """What there is to do; asks the registry and the builder's store, changes nothing.

    `base` and `flags` go over and behind those in mlp.yaml. Raises UsageError where mlp.yaml has
    several targets and none is named, ConfigurationError where nothing here can build.
    """
    from mlp.adapters import images as door

    name = target_name or project.only_target()
    target = project.target(name)
    if images.reference(target.image).fixed:
        why = f"mlp.yaml names it with its {'digest' if '@' in target.image else 'tag'}"
        return ImagePlan(name, target.image, f"{why}: it is taken as it is", launched=target.image)
    base = base or target.build.base
    flags = (*target.build.flags, *flags)
    recipe = _recipe(project, target, base, flags)
    launched = image(project, name)
    parts = images.reference(recipe.image)
    there = door.published(recipe.image, parts, target.build.push_flags) if push else None
    if there and not force:
        return ImagePlan(name, recipe.image, "the registry has it", base=base, launched=launched)
    chosen = door.builder(builder)
    local = not force and chosen.has(recipe.image)
    return ImagePlan(
        name,
        recipe.image,
        _reason(force, local, push, there),
        builder=chosen.name if push or not local else None,
        build=not local,
        push=push,
        base=base,
        flags=flags,
        push_flags=target.build.push_flags,
        files=_context(recipe),
        launched=launched,
    )


def build(planned: ImagePlan, progress: Callable[[str], None]) -> Result:
    """Do what was planned; `progress` gets the builder's lines.

    Raises ConfigurationError where the image cannot be built, RemoteError where the registry does
    not take it.
    """
    from mlp.adapters.images import Builder

    if planned.builder is None:
        return Result(planned.target, planned.image, None)
    builder = Builder(planned.builder)
    built = pushed = None
    if planned.build:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="mlp-build-") as folder:
            _write(Path(folder), planned.files)
            builder.build(Path(folder), planned.image, planned.flags, progress)
        built = time.monotonic() - started
    if planned.push:
        started = time.monotonic()
        builder.push(planned.image, planned.push_flags, progress)
        pushed = time.monotonic() - started
    return Result(planned.target, planned.image, planned.builder, built, pushed)


def _recipe(project: Project, target: KubernetesTarget, base: str, flags: Sequence[str]) -> _Recipe:
    from mlp.adapters import wheel
    from mlp.core.launch.image_requirements import flatten

    ours = wheel.running()
    address = f"file://{images.PLACE}/{images.REQUIREMENTS}/{ours.name}"
    wanted = flatten(
        target.build.requirements,
        lambda path: _read(project.root, path),
        address,
        also=_remote_package(project.root),
    )
    text = images.containerfile(base, ours.name)
    texts = {
        f"{images.REQUIREMENTS}/{images.INSTALL}": wanted.install,
        f"{images.REQUIREMENTS}/{images.CONSTRAINTS}": wanted.constraints,
    }
    digests = {name: hashlib.sha256(part.encode()).hexdigest() for name, part in texts.items()}
    tag = images.tag(text, {**digests, images.WHEEL: ours.digest}, flags)
    return _Recipe(f"{target.image}:{tag}", text, texts, ours)


def _remote_package(root: Path) -> Sequence[str]:
    """What pods need beside DVC to reach the project's default remote. Reads settings only."""
    place = data.root(root)
    try:
        remote = data.default_remote(place) if place else None
    except MlpError:
        return ()  # whoever uses the remote says what is wrong with it
    return (remote.package,) if remote and remote.package else ()


def _read(root: Path, path: str) -> str:
    try:
        return (root / path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as e:
        raise ConfigurationError(
            f"the image is made from {path}, which is not in {root}",
            fix="write what your code needs into it, one package a line, `mlp-loop[train]` among"
            " them; or name another file as targets.NAME.build.requirements in mlp.yaml",
        ) from e


def _context(recipe: _Recipe) -> dict[str, bytes]:
    ours = recipe.ours
    return {
        "Containerfile": recipe.containerfile.encode(),
        **{name: text.encode() for name, text in recipe.texts.items()},
        f"{images.REQUIREMENTS}/{ours.name}": ours.metadata_only.pack(),
        f"{images.WHEEL}/{ours.name}": ours.pack(),
    }


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o755 if path.is_dir() else 0o644)  # whatever the umask
        os.utime(path, (0, 0))  # a new time would be a new layer


def _reason(force: bool, local: bool, push: bool, there: bool | None) -> str:
    if force:
        return "--force"
    if local:
        return "it is built already" if not push else "it is built already, and not pushed"
    if not push:
        return "it is not built here"
    return "the registry does not have it" if there is False else "the registry does not tell"
