"""What is written down when a run begins, for its stages, its recorder and later commands.

A named tuple, for a stage's shell reads it at every start and a dataclass costs it 10 ms.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mlp.core.launch.launch import Launch


class RunLaunch(NamedTuple):
    """How the stages of one run are launched, and what was asked for beside it.

    `launches` goes by stage, `targets` has the section of each target in use. `checked`: when the
    targets were looked at, in seconds since the epoch.
    """

    launches: Mapping[str, Launch] = {}
    targets: Mapping[str, Mapping[str, Any]] = {}
    stages: Sequence[str] = ()
    overrides: Sequence[str] = ()
    detach: bool = False
    show_all_ranks: bool = False
    force: bool = False
    attach: str | None = None
    checked: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        launches = {name: each.to_dict() for name, each in self.launches.items()}
        return {**self._asdict(), "launches": launches}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunLaunch":
        """What `to_dict` gave; what another version of mlp says beside it is passed over."""
        known = {name: _frozen(value) for name, value in values.items() if name in cls._fields}
        launches = {n: Launch.from_dict(each) for n, each in values.get("launches", {}).items()}
        return cls(**{**known, "launches": launches})

    def same_request(self, other: "RunLaunch") -> bool:
        """Whether both ask for the same, on whichever day."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("launches", "stages", "overrides", "attach")
        )


class RunHeader(NamedTuple):
    """One run. `tracking_uri` is relative to the project where that is a file, and without a login.

    `joins`: it is of a pod, whose events join a run that is made elsewhere.
    """

    run_id: str
    experiment: str
    tracking_uri: str | None
    project: str = ""
    mlflow_id: str | None = None
    env: str | None = None
    settings: Sequence[str] = ()
    command_line: Sequence[str] = ()
    started: float = 0.0
    pid: int = 0
    joins: bool = False
    launching: RunLaunch = RunLaunch()

    def to_json(self) -> str:
        """One line that `from_json` reads back."""
        return json.dumps({**self._asdict(), "launching": self.launching.to_dict()})

    @classmethod
    def from_json(cls, text: str) -> "RunHeader":
        """The header that `to_json` wrote; what another version of mlp says beside it is passed
        over. Raises ValueError for anything else."""
        values = json.loads(text)
        if not isinstance(values, dict) or not {"run_id", "experiment"} <= values.keys():
            raise ValueError("it is not a run's header")
        known = {name: _frozen(value) for name, value in values.items() if name in cls._fields}
        launching = RunLaunch.from_dict(values.get("launching", {}))
        return cls(**{"tracking_uri": None, **known, "launching": launching})


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples that they were written from."""
    return tuple(value) if isinstance(value, list) else value
