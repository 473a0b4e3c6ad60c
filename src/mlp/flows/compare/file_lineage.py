"""What a file was made from, back to its sources, and by which runs."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mlp.adapters import data, git, tracking
from mlp.adapters.tracking import registry
from mlp.core.compare.contrast import overlap
from mlp.core.errors import ConfigurationError, MlpError, UsageError
from mlp.core.nearest import did_you_mean
from mlp.core.runs.pipeline import DataItem, StageState
from mlp.core.runs.recorded_run import Tag
from mlp.flows.project import Project
from mlp.flows.runs import tracking_stores
from mlp.flows.runs.tracking_stores import OtherStore

_SHOWN_INSIDE = 5


@dataclass(frozen=True, slots=True)
class Producer:
    """The run that did a stage's work. `started` in seconds since the epoch."""

    run_id: str
    started: float
    commit: str | None
    dirty: bool


@dataclass(frozen=True, slots=True)
class FileOrigin:
    """Where a file is from that no stage makes.

    `kind` is git, dvc (a .dvc file), or untracked. `commit` is the last one that changed the file,
    or the .dvc file that stands for it; `changed` whether the work tree has another state of it.
    """

    kind: str
    file: str
    commit: str | None = None
    date: str | None = None
    subject: str | None = None
    changed: bool = False
    imported_from: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A file or directory as the lock (or its .dvc file) has it; `path` is seen from the project.

    `state` says how the workspace compares: same, modified, deleted, or new (nothing recorded).
    """

    path: str
    digest: str | None
    size: int | None
    files: int | None
    state: str
    made_by: Sequence[str]
    used_by: Sequence[str]
    origin: FileOrigin | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A stage as it last ran. `outdated` are inputs, and `param NAME`s, changed since."""

    name: str
    command: Sequence[str]
    params: Mapping[str, object]
    deps: Sequence[str]
    outs: Sequence[str]
    outdated: Sequence[str]
    run: Producer | None


@dataclass(frozen=True, slots=True)
class FileLineage:
    """The file asked for (`path`), and all files and stages that it comes from.

    `downstream` are the stages that use it, at first hand or through others; `runs_unknown` is why
    no run could be looked up, "" if they could; `elsewhere` is where the project has other runs,
    which may have done what none of this store has.
    """

    path: str
    files: Mapping[str, File]
    steps: Mapping[str, Step]
    downstream: Sequence[str]
    runs_unknown: str
    elsewhere: Sequence[OtherStore]


def lineage(project: Project, path: str, cwd: Path) -> FileLineage:
    """Follow `path`, as seen from `cwd`, to its sources. Nothing is changed.

    Raises UsageError where neither a stage nor a .dvc file has anything to do with it. A tracking
    server that is away is part of the result.
    """
    with data.opened(project.root):  # once for all that is read
        graph = _Graph(
            project.root,
            data.stages(project.root),
            data.sources(project.root),
            data.differences(project.root),
        )
        asked = graph.known(path, cwd)
        walk = _Walk(project, graph)
        walk.follow(asked)
    complete = all(step.run for step in walk.steps.values())
    return FileLineage(
        asked,
        walk.files,
        walk.steps,
        graph.downstream(asked),
        walk.runs_unknown,
        () if complete else tracking_stores.others(project),
    )


@dataclass(frozen=True, slots=True)
class _Graph:
    """The pipeline and the data beside it. Paths are seen from `root`, as DVC writes them."""

    root: Path
    stages: Sequence[StageState]
    sources: Sequence[StageState]
    differences: Mapping[tuple[str, str], str]

    def known(self, path: str, cwd: Path) -> str:
        """`path` in the words of the pipeline; UsageError where it is not part of it."""
        paths = list(dict.fromkeys(item.path for _, item in self._items()))
        if path in paths and "://" in path:
            return path
        absolute = os.path.normpath(cwd / path)  # a link stays what it is called
        shown = os.path.relpath(absolute, self.root)
        for source in self.sources:
            if source.name == shown and source.outs:  # the .dvc file stands for its data
                return source.outs[0].path
        for name in (shown, absolute):
            if any(name == p or _inside(name, p) for p in paths):
                return name
        raise self._unknown(path, shown, paths, cwd)

    def makers(self, path: str) -> tuple[str, ...]:
        """The stages that make `path`, a directory around it, or something in it."""
        return tuple(
            stage.name
            for stage in self.stages
            if any(overlap(path, out.path) for out in stage.outs)
        )

    def users(self, path: str) -> tuple[str, ...]:
        """The stages that read `path`, a directory around it, or something in it."""
        return tuple(
            stage.name
            for stage in self.stages
            if any(overlap(path, dep.path) for dep in stage.deps)
        )

    def downstream(self, path: str) -> tuple[str, ...]:
        """The stages that use `path`, the nearest first."""
        found = list(self.users(path))
        for name in found:
            outs = [out.path for stage in self.stages if stage.name == name for out in stage.outs]
            found += [user for out in outs for user in self.users(out) if user not in found]
        return tuple(dict.fromkeys(found))

    def item(self, path: str) -> tuple[str, DataItem]:
        """What is recorded of `path` itself or of the smallest thing around it, and by whom."""
        around = [
            (owner, item)
            for owner, item in self._items()
            if path == item.path or _inside(path, item.path)
        ]
        return max(around, key=lambda entry: len(entry[1].path))  # an output before an input

    def tracker(self, path: str) -> StageState | None:
        """The .dvc file's entry that has `path`."""
        for source in self.sources:
            if any(path == out.path or _inside(path, out.path) for out in source.outs):
                return source
        return None

    def outdated(self, stage: StageState) -> tuple[str, ...]:
        """The inputs and params of a stage that are no longer what it was run on."""
        made = {out.path: out.digest for other in self.stages for out in other.outs}
        changed = [name for owner, name in self.differences if owner == stage.name]
        deps = [
            dep.path
            for dep in stage.deps
            if dep.path in changed or made.get(dep.path, dep.digest) != dep.digest
        ]
        return (*deps, *(name for name in changed if name.startswith("param ")))

    def _items(self) -> Iterator[tuple[str, DataItem]]:
        """Everything recorded: outputs, then data of .dvc files, then inputs."""
        for stage in (*self.stages, *self.sources):
            yield from ((stage.name, out) for out in stage.outs)
        for stage in self.stages:
            yield from ((stage.name, dep) for dep in stage.deps)

    def _unknown(self, path: str, name: str, paths: Sequence[str], cwd: Path) -> UsageError:
        seen = [os.path.relpath(self.root / p, cwd) if "://" not in p else p for p in paths]
        inside = [shown for shown, p in zip(seen, paths, strict=True) if _inside(p, name)]
        if inside:
            more = ", …" if len(inside) > _SHOWN_INSIDE else ""
            return UsageError(
                f"{path!r} is not a single input or output of the pipeline; it holds "
                f"{', '.join(inside[:_SHOWN_INSIDE])}{more}",
                fix=f"mlp lineage {inside[0]}",
            )
        for stage in self.stages:
            if stage.name == path and stage.outs:
                out = os.path.relpath(self.root / stage.outs[0].path, cwd)
                return UsageError(
                    f"{path!r} is a stage, not a file", fix=f"mlp lineage {out}   (its output)"
                )
        return UsageError(
            f"{path!r} is not an input or output of the pipeline{did_you_mean(path, seen)}",
            fix="`mlp lineage FILE` takes what dvc.yaml has under deps and outs",
        )


@dataclass(slots=True)
class _Walk:
    """Goes from a file to its sources and keeps what it meets."""

    project: Project
    graph: _Graph
    files: dict[str, File] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    runs_unknown: str = ""

    def follow(self, path: str) -> None:
        """Take in `path` and all that it is made from."""
        waiting = [path]
        for current in waiting:
            if current in self.files:
                continue
            self.files[current] = self._file(current)
            for stage in self.graph.stages:
                if stage.name in self.files[current].made_by and stage.name not in self.steps:
                    self.steps[stage.name] = self._step(stage)
                    waiting += [dep.path for dep in stage.deps]

    def _file(self, path: str) -> File:
        owner, item = self.graph.item(path)
        differs = self.graph.differences.get((owner, item.path), "same")
        state = differs if item.digest else "new"
        size, files = item.size, item.files
        digest = item.digest
        if path != item.path:  # a file of a directory
            digest, size, files, state = self._entry(path, item)
        made_by = self.graph.makers(path)
        return File(
            path=path,
            digest=digest,
            size=size,
            files=files,
            state=state,
            made_by=made_by,
            used_by=self.graph.users(path),
            origin=None if made_by else self._origin(path),
        )

    def _entry(self, path: str, around: DataItem) -> tuple[str | None, int | None, int | None, str]:
        """Digest, size, count and state of a file in a recorded directory."""
        root = self.project.root
        inner = PurePosixPath(path).relative_to(around.path).as_posix()
        listed = data.directory_entries(root, around.digest) if around.digest else None
        file = root / path
        size = file.stat().st_size if file.is_file() else None
        if listed is None:  # the local cache lacks the list of that version
            return None, size, None, "new" if file.exists() else "deleted"
        below = [name for name in listed if _inside(name, inner)]
        if below:  # a directory in it
            return None, None, len(below), "same" if file.is_dir() else "deleted"
        if inner not in listed:
            if not file.exists():
                raise UsageError(
                    f"{around.path} has no {inner!r}{did_you_mean(inner, listed)}",
                    fix=f"mlp lineage {around.path}",
                )
            return None, size, None, "new"
        if not file.is_file():
            return listed[inner], None, None, "deleted"
        with file.open("rb") as content:
            here = hashlib.file_digest(content, "md5").hexdigest()
        return listed[inner], size, None, "same" if here == listed[inner] else "modified"

    def _origin(self, path: str) -> FileOrigin:
        tracker = self.graph.tracker(path)
        if tracker is None:
            return _in_git("git", path, self.project.root)
        origin = _in_git("dvc", tracker.name, self.project.root)
        sources = tuple(dep.path for dep in tracker.deps)
        return FileOrigin(
            "dvc",
            tracker.name,
            origin.commit,
            origin.date,
            origin.subject,
            origin.changed,
            sources,
        )

    def _step(self, stage: StageState) -> Step:
        return Step(
            name=stage.name,
            command=stage.command,
            params=stage.params,
            deps=tuple(dep.path for dep in stage.deps),
            outs=tuple(out.path for out in stage.outs),
            outdated=self.graph.outdated(stage),
            run=self._run(stage),
        )

    def _run(self, stage: StageState) -> Producer | None:
        """The run that did the stage's work, so far as MLflow can be asked."""
        project = self.project
        uri = project.tracking_uri
        if not registry.there(uri):
            self.runs_unknown = "no run was recorded here yet"
        if self.runs_unknown or any(out.digest is None for out in stage.outs):
            return None
        try:
            found = tracking.producer_of(uri, project.config.experiment, stage.fingerprint)
        except MlpError as e:
            self.runs_unknown = e.message  # asked once: the next answer would take as long
            return None
        if found is None:
            return None
        dirty = found.tags.get(Tag.DIRTY) == "true"
        return Producer(found.run_id, found.started, found.tags.get(Tag.COMMIT), dirty)


def _in_git(kind: str, file: str, root: Path) -> FileOrigin:
    """The last commit that changed `file`."""
    otherwise = kind if kind == "dvc" else "untracked"
    form = "--format=%H%x00%cI%x00%s"
    try:
        last = git.git(["--literal-pathspecs", "log", "-1", form, "--", file], root)
        changes = git.git(["--literal-pathspecs", "status", "--porcelain", "--", file], root)
    except ConfigurationError:  # no repository, no commit yet, or a file outside of it
        return FileOrigin(otherwise, file)
    if not last:
        return FileOrigin(otherwise, file, changed=bool(changes))
    commit, date, subject = last.removesuffix("\n").split("\0", 2)
    return FileOrigin(kind, file, commit, date, subject, bool(changes))


def _inside(path: str, folder: str) -> bool:
    return path.startswith(f"{folder.rstrip('/')}/")
