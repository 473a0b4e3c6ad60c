"""Which stage trains, and how it is launched."""

from collections.abc import Mapping, Sequence

from mlp.adapters import data
from mlp.core.errors import UsageError
from mlp.core.launch.launch import LOCAL
from mlp.core.launch.launch_section import LaunchSection
from mlp.core.nearest import did_you_mean
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
) -> Mapping[str, LaunchSection]:
    """What `--target` says of the stages named, or of all."""
    if target is None:
        return {}
    said = LaunchSection(target=target)
    return launches(stages or [state.name for state in data.stages(project.root)], said)


def launches(stages: Sequence[str], said: LaunchSection) -> Mapping[str, LaunchSection]:
    """What the command line says on how `stages` are launched, by stage."""
    over = {}
    if said.gpus and said.processes_per_node is None:
        over["processes_per_node"] = said.gpus
    if said.target == LOCAL and said.nodes is None:  # which is one machine, whatever mlp.yaml has
        over["nodes"] = 1
    nothing = said == LaunchSection()
    return {} if nothing else dict.fromkeys(stages, said.model_copy(update=over))
