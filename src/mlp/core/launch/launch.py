"""How a stage is started: the one form that it has from the command line to the training process.

A named tuple, for a stage's shell imports it at every start and a dataclass costs it 10 ms.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar, get_args

T = TypeVar("T")

Strategy = Literal["single", "ddp"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

# The target that needs no section in mlp.yaml: this machine.
LOCAL = "local"


class Launch(NamedTuple):
    """Where a stage runs, as how many processes, trained by which strategy.

    Rank r of `world_size` runs on node r // processes_per_node. The defaults are what holds where
    neither mlp.yaml nor the command line says anything.
    """

    target: str = LOCAL
    """`local`, or a name under `targets` in mlp.yaml."""
    strategy: Strategy = "single"
    nodes: int = 1
    processes_per_node: int = 1
    gpus: int | None = None
    """Of each node; None: as many as the target has."""
    max_restarts: int = 0
    log_all_ranks: bool = False
    """Ranks other than 0 record too, each metric named rank_R/NAME."""

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self.nodes * self.processes_per_node

    @property
    def is_local(self) -> bool:
        """Whether the stage runs on this machine."""
        return self.target == LOCAL

    def to_dict(self) -> dict[str, Any]:
        """The launch as JSON has it."""
        return self._asdict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Launch":
        """What `to_dict` gave; what another version of mlp says beside it is passed over."""
        return cls(**{name: value for name, value in values.items() if name in cls._fields})


def launch_of(launches: Mapping[str, T], stage: str) -> T | None:
    """What `launches` has for a stage: by its full name, its name, or its matrix; None where DVC
    runs it as it is."""
    name = stage.rpartition(":")[2]
    for form in (stage, name, name.partition("@")[0]):
        if form in launches:
            return launches[form]
    return None
