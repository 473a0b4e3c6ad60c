"""Making a recorded run again, in a clean work tree, and comparing what comes out."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlp.adapters import data, git, tracking
from mlp.adapters.base import venv
from mlp.core.compare.reproduction import (
    Item,
    Match,
    Reproduction,
    compare_environment,
    compare_metrics,
    compare_stages,
)
from mlp.core.errors import ConfigurationError, RemoteError, UserCodeError
from mlp.core.runs import environment, recorded_run
from mlp.core.runs.recorded_run import RunRecord, Tag
from mlp.flows import project as projects
from mlp.flows.project import Project
from mlp.flows.runs import syncing, tracking_stores


@dataclass(frozen=True, slots=True)
class ReproductionRequest:
    """Which run, and how. `tolerance` is relative; None means that outputs match bit for bit.

    `env` is `check` (this environment, differences told) or `create` (one of the run's packages).
    """

    reference: str
    env: str = "check"
    tolerance: float | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What a run left behind that it can be made again from."""

    run: RunRecord
    provenance: Mapping[str, Any]
    stages: Sequence[Mapping[str, Any]]
    patch: bytes


def reproduce(
    project: Project, request: ReproductionRequest, note: Callable[[str], None]
) -> Reproduction:
    """Make the run again; returns the item-by-item comparison. `note` is told of each step.

    Raises ConfigurationError where the code or the environment is not available, UserCodeError
    where the run fails this time.
    """
    before = _recorded(project, request.reference)
    top = git.repository(project.root)
    if top is None:
        raise ConfigurationError(
            "only a run of code in git can be made again", fix="git init, and commit the project"
        )
    place = project.layout.state / "reproduce" / before.run.run_id
    if place.exists():
        git.remove_work_tree(top, place)
    keep = request.keep
    note(f"checking out the code of run {before.run.run_id[:8]} in {os.path.relpath(place)}")
    try:
        code = _check_out(project, top, place, before)
        copy = projects.load(place / os.path.relpath(project.root, top))
        data.share_cache(project.root, copy.root)
        missing = data.check_out_sources(copy.root)
        if request.env == "create":
            note("making an environment of the run's packages")
        python = _python(request, copy, before)
        again = _run_again(project, copy, before, python)
        items = [
            *code,
            *(
                Item("input", name, Match.UNCHECKED, "in no cache and no remote")
                for name in missing
            ),
            *_compare(before, again, request.tolerance),
            *_unchecked(before),
        ]
    except UserCodeError:
        keep = True  # with the log of the stage that failed
        raise
    finally:
        if not keep:
            git.remove_work_tree(top, place)
    kept = str(copy.root) if keep else None
    return Reproduction(before.run.run_id, again.run.run_id, tuple(items), kept)


def _recorded(project: Project, reference: str) -> _Recorded:
    run = tracking_stores.find_run(project, reference, f"mlp runs reproduce {reference}")
    texts = {
        name: tracking.artifact_text(project.tracking_uri, run, name)
        for name in (recorded_run.PROVENANCE, recorded_run.STAGES, recorded_run.PATCH)
    }
    if texts[recorded_run.PROVENANCE] is None or texts[recorded_run.STAGES] is None:
        raise ConfigurationError(
            f"run {run.run_id[:8]} has no provenance record: mlp did not make it to its end",
            fix="`mlp runs list` shows the others",
        )
    return _Recorded(
        run,
        json.loads(texts[recorded_run.PROVENANCE] or "{}"),
        json.loads(texts[recorded_run.STAGES] or "[]"),
        (texts[recorded_run.PATCH] or "").encode(errors="surrogateescape"),
    )


def _check_out(project: Project, top: Path, place: Path, before: _Recorded) -> list[Item]:
    code = before.provenance["code"]
    commit = code["commit"]
    if commit is None and not before.patch:
        raise ConfigurationError(
            "the run's code was not in git", fix="commit it: runs from then on can be made again"
        )
    if commit is not None and not git.has_commit(top, commit):
        raise ConfigurationError(
            f"commit {commit[:12]} of the run is not in this clone", fix="git fetch --all"
        )
    git.check_out(top, place, commit, before.patch)
    copy = place / os.path.relpath(project.root, top)
    state, patch = git.code(copy, git.ignored(copy))
    same = (commit is None or state.commit == commit) and _lines(patch) == _lines(before.patch)
    changes = f" with {before.patch.count(b'diff --git')} changed files" if before.patch else ""
    name = commit[:12] if commit else "no commit"
    return [Item("code", f"{name}{changes}", Match.SAME if same else Match.DIFFERS)]


def _lines(patch: bytes) -> list[bytes]:
    """A patch without the names of git's objects, whose length depends on the repository."""
    return [line for line in patch.splitlines() if not line.startswith(b"index ")]


def _python(request: ReproductionRequest, copy: Project, before: _Recorded) -> str:
    if request.env == "check":
        return sys.executable
    needed = before.provenance["environment"]
    path = copy.layout.state / "venv"
    return str(venv.create(path, needed["python"], needed["packages"]))


def _run_again(project: Project, copy: Project, before: _Recorded, python: str) -> _Recorded:
    """Run the copy as the original was run, and read back what was recorded of it."""
    record = before.provenance
    settings = [
        f"--config=launch.{stage}.{key}={json.dumps(value)}"
        for stage, launch in record["launches"].items()
        for key, value in launch.items()
        if "." not in stage
    ]
    variables = {
        **os.environ,
        environment.TRACKING_URI: project.tracking_uri,
        environment.RUN_TAGS: json.dumps({Tag.REPRODUCES: before.run.run_id}),
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    settings.append(f"--config=tracking.experiment={json.dumps(project.config.experiment)}")
    command = [python, "-m", "mlp", "run", *record["targets"], "--force", "--json", *settings]
    done = subprocess.run(
        command, cwd=copy.root, env=variables, stdout=subprocess.PIPE, check=False
    )
    left = syncing.sync(copy).left
    if done.returncode != 0:
        raise UserCodeError(
            f"the run failed this time, as told above (exit code {done.returncode})",
            fix=f"look at its work tree, with its logs: {os.path.relpath(copy.root)}",
        )
    if left:
        raise RemoteError("the new run could not be delivered to MLflow", cause=left[0].reason)
    return _recorded(project, json.loads(done.stdout)["run_id"])


def _compare(before: _Recorded, again: _Recorded, tolerance: float | None) -> list[Item]:
    items = compare_stages(before.stages, again.stages, bits_count=tolerance is None)
    items += compare_metrics(before.run.metrics, again.run.metrics, tolerance or 0.0, counts=True)
    logged = {stage.stage: stage.metrics for stage in again.run.stages}
    for stage in before.run.stages:
        own = {k: v for k, v in stage.metrics.items() if k not in before.run.metrics}
        compared = compare_metrics(own, logged.get(stage.stage, {}), tolerance or 0.0, counts=False)
        items += compared if stage.tags.get(Tag.OUTCOME) == "ran" else []
    return items + compare_environment(before.provenance, again.provenance)


def _unchecked(before: _Recorded) -> list[Item]:
    """What nobody can compare: files that the patch leaves out, and an image."""
    items = [
        Item("code", name, Match.UNCHECKED, reason)
        for name, reason in before.provenance["code"]["left_out"].items()
    ]
    items.append(
        Item(
            "environment",
            f"{len(before.provenance['environment']['variables'])} variables",
            Match.UNCHECKED,
            "their values are never recorded",
        )
    )
    if before.provenance.get("image"):
        items.append(Item("environment", before.provenance["image"], Match.UNCHECKED, "an image"))
    return items
