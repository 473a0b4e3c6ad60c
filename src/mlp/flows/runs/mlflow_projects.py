"""Running a project for `mlflow run --backend mlp`."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlp.adapters import data, params, tracking
from mlp.core.errors import UsageError
from mlp.core.launch.launch import LOCAL
from mlp.core.nearest import did_you_mean
from mlp.core.runs.pipeline import flatten
from mlp.flows import project as projects


def make() -> Any:
    """The backend, as MLflow asks for it by the entry point `mlflow.project_backend`."""
    return tracking.backend(start)


def start(
    directory: Path,
    entry_point: str,
    parameters: Mapping[str, str],
    settings: Mapping[str, Any],
    variables: Mapping[str, str],
) -> "subprocess.Popen[bytes]":
    """Start `mlp run` in `directory`, for a stage where the entry point has the name of one.

    `settings` may have a `target`: a name under `targets` in mlp.yaml, or "local". Raises
    UsageError for a parameter that is not a param, or a setting that is not known.
    """
    launched = _target(directory, settings)
    stages = [state.name for state in data.stages(directory)]
    targets = [entry_point] if entry_point in stages else []
    if entry_point != "main" and not targets:
        raise UsageError(
            f"there is no stage {entry_point!r}{did_you_mean(entry_point, stages)}",
            fix=f"--entry-point main, or one of {', '.join(stages)}",
        )
    known = list(flatten(params.read(directory / "params.yaml")))
    overrides = [f"--set={full_name(name, known)}={value}" for name, value in parameters.items()]
    return subprocess.Popen(
        [sys.executable, "-m", "mlp", "run", *targets, *launched, *overrides],
        cwd=directory,
        env={**os.environ, **variables},
    )


def _target(directory: Path, settings: Mapping[str, Any]) -> list[str]:
    """The options of `mlp run` that `settings` mean."""
    known = [LOCAL, *projects.load(directory).config.targets]
    problem = ""
    for name, value in settings.items():
        if name != "target":
            problem = f"{name!r} is not known (have: target)"
        elif value not in known:
            have = ", ".join(known)
            near = did_you_mean(str(value), known)
            problem = f"target {value!r} is not in mlp.yaml (have: {have}){near}"
    if problem:
        raise UsageError(
            f"--backend-config: {problem}", fix=f'--backend-config \'{{"target": "{known[-1]}"}}\''
        )
    return [f"--target={settings['target']}"] if "target" in settings else []


def full_name(name: str, known: list[str]) -> str:
    """The dotted param that `name` means: itself, or the only one whose last part it is."""
    if name in known:
        return name
    matches = [param for param in known if param.rpartition(".")[2] == name]
    if len(matches) == 1:
        return matches[0]
    raise UsageError(
        f"-P {name}: {'several params end so' if matches else 'there is no such param'} "
        f"(have: {', '.join(matches or known)})",
        fix=f"-P {(matches or known or ['train.lr'])[0]}=VALUE",
    )
