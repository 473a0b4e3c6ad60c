"""What a run is made from, gathered at its start."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlp.adapters import git
from mlp.adapters.base import machine
from mlp.core.runs.pipeline import flatten
from mlp.core.runs.provenance import Provenance
from mlp.core.secrets import Masker
from mlp.flows.project import Project


def gather(
    project: Project,
    run_id: str,
    *,
    targets: Sequence[str],
    overrides: Sequence[str],
    launches: Mapping[str, Mapping[str, Any]],
    command_line: Sequence[str],
    params: Mapping[str, Any],
) -> tuple[Provenance, bytes]:
    """The record, and the patch of all that is not committed."""
    code, patch = git.code(project.root, git.ignored(project.root))
    masker = Masker(os.environ)
    record = Provenance(
        run_id=run_id,
        started=time.time(),
        command_line=[masker.text(argument) for argument in command_line],
        directory=str(project.root),
        user=machine.user(),
        targets=tuple(targets),
        overrides=tuple(masker.text(override) for override in overrides),
        launches=launches,
        seed=_seed(params),
        image=os.environ.get("MLP_IMAGE"),
        code=code,
        machine=machine.machine(),
        environment=machine.environment(),
    )
    return record, patch


def _seed(params: Mapping[str, Any]) -> int | None:
    """PL_GLOBAL_SEED, or the param that is called seed."""
    named = [v for k, v in flatten(params).items() if k.rpartition(".")[2] == "seed"]
    values = [os.environ.get("PL_GLOBAL_SEED"), *named]
    seeds = [str(value) for value in values if str(value).lstrip("-").isdigit()]
    return int(seeds[0]) if seeds else None
