"""What a run was made from: what is needed to make it again, or to say why it differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Code:
    """The state of the repository. `commit` is None before the first commit or without git."""

    commit: str | None = None
    branch: str | None = None
    remotes: Mapping[str, str] = field(default_factory=dict)
    dirty: bool = False
    submodules: Mapping[str, str] = field(default_factory=dict)
    # Untracked files that the patch leaves out, with the reason.
    left_out: Mapping[str, str] = field(default_factory=dict)
    # Where the repository's root is, seen from the project: "." or "..", "../..".
    repository: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran. Memory in bytes."""

    host: str
    system: str
    cpu: str
    cores: int
    memory: int
    gpus: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Environment:
    """The Python that ran it, and every package in it by version."""

    python: str
    executable: str
    packages: Mapping[str, str]
    # Names only: values may be secret.
    variables: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Provenance:
    """One run's full record, as JSON in the artifact `mlp/provenance.json`."""

    run_id: str
    started: float
    command_line: Sequence[str]
    directory: str
    user: str
    targets: Sequence[str]
    overrides: Sequence[str]
    # How each stage was launched, as `launch` in mlp.yaml has it.
    launches: Mapping[str, Mapping[str, Any]]
    seed: int | None
    image: str | None
    code: Code
    machine: Machine
    environment: Environment
