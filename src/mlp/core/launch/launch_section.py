"""The section `launch` of mlp.yaml, and what the command line says over it.

It holds what is said and no more: the rest is as `Launch` has it, or follows from what is said.
"""

from typing import Annotated

from pydantic import Field

from mlp.core.launch.launch import Strategy
from mlp.core.section import Section

_AtLeastOne = Annotated[int | None, Field(ge=1)]
_NotNegative = Annotated[int | None, Field(ge=0)]


class LaunchSection(Section):
    """How mlp is to start a stage of dvc.yaml; each key is one of `Launch`."""

    target: str | None = None
    # Several processes, on a node or on several, train by ddp whatever is said here.
    strategy: Strategy | None = None
    nodes: _AtLeastOne = None
    # As many as GPUs, unless given, where the stage trains with several.
    processes_per_node: _AtLeastOne = None
    gpus: _NotNegative = None
    max_restarts: _NotNegative = None
    log_all_ranks: bool | None = None

    @property
    def several(self) -> bool:
        """Whether it says that several processes train."""
        return (self.nodes or 1) > 1 or (self.processes_per_node or 1) > 1

    def under(self, over: "LaunchSection") -> "LaunchSection":
        """The section with what `over` says laid on it."""
        return self.model_copy(update=over.model_dump(exclude_none=True))
