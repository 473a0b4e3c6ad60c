"""What somebody asks for when a pipeline is to run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlp.core.launch.launch_section import LaunchSection


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What is asked of a run. `targets` are stages, none for all; `launches` by stage.

    `pull` has DVC fetch what is missing, as `dvc repro --pull` does.
    `detach` leaves a stage alone once it is a job of a cluster. `continues` is an earlier run to go
    on with, whose stage runs as the job `attach`: that one stage and no other is run then.
    """

    targets: Sequence[str] = ()
    force: bool = False
    pull: bool = False
    overrides: Sequence[str] = ()
    launches: Mapping[str, LaunchSection] = field(default_factory=dict)
    command_line: Sequence[str] = ()
    detach: bool = False
    show_all_ranks: bool = False
    continues: str | None = None
    attach: str | None = None
