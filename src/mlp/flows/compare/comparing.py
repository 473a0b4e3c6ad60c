"""What differs between two runs, and why one is better."""

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlp.adapters import git, tracking
from mlp.core.compare import blame, contrast
from mlp.core.compare.blame import MetricExplanation
from mlp.core.compare.run_comparison import (
    CodeDifference,
    DataChange,
    Difference,
    FileChange,
    RunState,
)
from mlp.core.runs import run_artifacts
from mlp.core.runs.pipeline import StageState
from mlp.core.runs.recorded_run import PATCH, PROVENANCE, STAGES
from mlp.flows.compare import data_versions
from mlp.flows.compare.data_versions import Sources
from mlp.flows.project import Project
from mlp.flows.runs import tracking_stores


def diff(project: Project, a: str, b: str) -> Difference:
    """What differs between two runs: params, code, data, environment, metrics.

    Raises UsageError where a reference means no run. What cannot be compared is said in the notes.
    """
    command = shlex.join(["mlp", "runs", "diff", a, b])
    return difference(project, _state(project, a, command), _state(project, b, command))


def why(project: Project, a: str, b: str, metric: str | None = None) -> MetricExplanation:
    """What made a metric differ between two runs, the likeliest first.

    Without `metric` it is the first that differs. Raises UsageError where the runs have no metric
    of that name in common.
    """
    command = shlex.join(["mlp", "runs", "why", a, b])
    before, after = _state(project, a, command), _state(project, b, command)
    return blame.explain(difference(project, before, after), before, after, metric)


def _state(project: Project, reference: str, command: str) -> RunState:
    uri = project.tracking_uri
    record = tracking_stores.find_run(project, reference, command)
    provenance = tracking.artifact_text(uri, record, PROVENANCE)
    stages = tracking.artifact_text(uri, record, STAGES)
    patch = tracking.artifact_text(uri, record, PATCH) or ""
    return contrast.state_of(
        record,
        run_artifacts.provenance(provenance) if provenance else None,
        run_artifacts.stages(stages) if stages else (),
        patch.encode(errors="surrogateescape"),
    )


def difference(project: Project, before: RunState, after: RunState) -> Difference:
    """What differs between two states, with this clone's git and DVC cache to look things up in."""
    with _sources(project.root, before, after) as sources:
        changes = contrast.data(before, after)
        code = [change for change in changes if sources.is_code(change)]
        data = [change for change in changes if not sources.is_code(change)]
        old, new = (state.provenance for state in (before, after))
        return Difference(
            before=contrast.side(before),
            after=contrast.side(after),
            params=contrast.params(before, after),
            code=CodeDifference(
                files=_files(sources.files, code, data, (*before.stages, *after.stages)),
                commands=contrast.commands(before, after),
                notes=sources.notes,
            ),
            data=data_versions.described(project, data, sources),
            environment=contrast.environment(old, new),
            launches=contrast.launches(before, after),
            seed=contrast.seed(before, after),
            metrics=contrast.metrics(before, after),
            notes=contrast.gaps(before, after),
        )


def _files(
    changed: Sequence[FileChange],
    code: Sequence[DataChange],
    data: Sequence[DataChange],
    stages: Sequence[StageState],
) -> tuple[FileChange, ...]:
    """The code that differs: what git says, and what DVC saw that git has no part in.

    Left out is what other sections show by its content: params, data and what stages make.
    """
    shown = [*(out.path for stage in stages for out in stage.outs), *(d.path for d in data)]
    files = [
        file
        for file in changed
        if not file.path.endswith((".dvc", "dvc.lock"))
        and file.path != "params.yaml"
        and not any(contrast.overlap(file.path, path) for path in shown)
    ]
    seen = [
        FileChange(change.path, "differs")
        for change in code
        if not any(contrast.overlap(change.path, file.path) for file in files)
    ]
    return (*files, *seen)


@contextmanager
def _sources(root: Path, before: RunState, after: RunState) -> Iterator[Sources]:
    """What git has of both runs' code; less of it where it lacks a commit, which the notes say."""
    if git.repository(root) is None or not (before.provenance and after.provenance):
        yield Sources(contrast.patched_files(before.patch, after.patch), (), None, None)
        return
    pair = [(before.commit, before.patch), (after.commit, after.patch)]
    with git.trees(root, pair) as trees:
        prefix = os.path.relpath(root, trees.top)

        def here(name: str) -> str:
            return name if prefix == "." else os.path.relpath(name, prefix)

        def content(side: int, path: str) -> bytes | None:
            tree = trees.ids[side]
            return git.content(trees, tree, os.path.normpath(f"{prefix}/{path}")) if tree else None

        names = [
            frozenset(map(here, git.file_names(trees, tree))) if tree else None
            for tree in trees.ids
        ]
        notes = tuple(
            f"{failure} (run {state.record.run_id[:8]}): `git fetch --all` may bring it"
            for failure, state in zip(trees.failures, (before, after), strict=True)
            if failure
        )
        if notes:
            found = contrast.patched_files(before.patch, after.patch)
        else:
            found = git.changed_files(trees, str(trees.ids[0]), str(trees.ids[1]))
        files = tuple(FileChange(here(f.path), f.status, f.added, f.removed) for f in found)
        known = [some for some in names if some is not None]
        yield Sources(files, notes, frozenset().union(*known) if known else None, content)
