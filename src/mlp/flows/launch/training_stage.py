"""Which stage trains, and how it is launched."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlp.adapters import data
from mlp.core.errors import UsageError
from mlp.core.nearest import did_you_mean
from mlp.core.runs.environment import LOCAL
from mlp.flows.project import Project

_USUAL_NAME = "train"


def stage(project: Project, named: str | None) -> str:
    """The training stage: the one named, the one called `train`, or the only one launched.

    Raises UsageError where that is none, or where the stage is not in dvc.yaml.
    """
    known = [state.name for state in data.stages(project.root)]
    launched = list(project.config.launch)
    if named is None:
        named = _USUAL_NAME if _USUAL_NAME in known else launched[0] if len(launched) == 1 else None
    if named is None:
        raise UsageError(
            f"which stage trains? None is called {_USUAL_NAME!r} (have: {', '.join(known)})",
            fix="mlp train STAGE",
        )
    if named not in known and not any(name.partition("@")[0] == named for name in known):
        raise UsageError(
            f"there is no stage {named!r} (have: {', '.join(known) or 'none'})"
            f"{did_you_mean(named, known)}",
            fix="`dvc stage list` shows them",
        )
    return named


def on_target(
    project: Project, stages: Sequence[str], target: str | None
) -> Mapping[str, Mapping[str, Any]]:
    """What `--target` says of the stages named, or of all."""
    if target is None:
        return {}
    return launches(stages or [state.name for state in data.stages(project.root)], target=target)


def launches(stages: Sequence[str], **given: object) -> Mapping[str, Mapping[str, Any]]:
    """What the command line says on how `stages` are launched, by stage; None is nothing said."""
    over = {name: value for name, value in given.items() if value is not None}
    if over.get("gpus"):
        over.setdefault("processes_per_node", over["gpus"])
    if over.get("target") == LOCAL:  # which is one machine, whatever mlp.yaml has
        over.setdefault("nodes", 1)
    return dict.fromkeys(stages, over) if over else {}
