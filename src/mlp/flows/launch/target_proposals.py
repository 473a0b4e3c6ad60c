"""What a new target is asked about: each key as a proposal, and what is taken of it."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mlp.adapters.cluster import ForbiddenError, NotFoundError
from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.nearest import did_you_mean

T = TypeVar("T")

# How the value of an option looks that has to be given.
_FORMS = {"image": "REGISTRY/NAME", "remote": "s3://BUCKET/PATH"}


@dataclass(frozen=True, slots=True)
class WantedTarget:
    """What is said on the command line of the target to be made; None for what is to be found."""

    context: str | None = None
    namespace: str | None = None
    image: str | None = None
    base: str | None = None
    build_flags: Sequence[str] = ()
    push_flags: Sequence[str] = ()
    gpus: int | None = None
    queue: str | None = None
    claim: str | None = None
    remote: str | None = None
    endpoint: str | None = None
    secrets: Sequence[str] | None = None
    make_secret: str | None = None
    tracking_uri: str | None = None
    project_tracking_uri: str | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A key of the new target: the value found (None, 0 or empty: left out), the others that there
    are, and where it comes from. `settled` where there is nothing to ask; `known` are all values
    that there can be, None where that is not known; `hint` helps whoever has no value for it."""

    key: str
    value: Any
    reason: str
    alternatives: Sequence[str] = ()
    settled: bool = False
    required: bool = False
    known: Sequence[str] | None = None
    hint: str = ""


Choose = Callable[[Proposal], Any]


def given(key: str, value: Any, known: Sequence[str] | None = None) -> Proposal:
    """A value of the command line."""
    return Proposal(key, value, "as given", known or (), settled=True, known=known)


def told(ask: Callable[[], T]) -> T | None:
    """What the cluster answers, None where we may not ask that."""
    try:
        return ask()
    except (ForbiddenError, NotFoundError):
        return None


class Choices:
    """What is taken of each proposal; `choose` says so of those that are not settled."""

    def __init__(self, name: str, choose: Choose) -> None:
        self._name = name
        self._choose = choose
        self._missing: list[str] = []
        self.proposals: list[Proposal] = []

    def take(self, proposal: Proposal, where: str = "") -> Any:
        """What is chosen. Raises ConfigurationError for what is not there, in the place `where`."""
        chosen = proposal.value if proposal.settled else self._choose(proposal)
        if proposal.required and not chosen:
            self._missing.append(proposal.key)
        self._require_known(proposal, chosen, where)
        self.note(dataclasses.replace(proposal, value=chosen))
        return chosen

    def note(self, proposal: Proposal) -> None:
        """Show what follows from other choices, and is not asked for."""
        self.proposals.append(dataclasses.replace(proposal, settled=True))

    def require_complete(self) -> None:
        """Raises UsageError where something is missing that nobody can guess."""
        if self._missing:
            options = " ".join(f"--{key} {_FORMS[key]}" for key in self._missing)
            raise UsageError(
                f"{' and '.join(self._missing)} cannot be guessed: a terminal is asked, a script"
                " says so",
                fix=f"mlp targets add {self._name} … {options}",
            )

    @staticmethod
    def _require_known(proposal: Proposal, chosen: Any, where: str) -> None:
        have = proposal.known
        if have is None:
            return
        for each in (chosen,) if isinstance(chosen, str) else chosen or ():
            if each not in have:
                raise ConfigurationError(
                    f"there is no {proposal.key} {each!r} in {where}"
                    f" (have: {', '.join(have) or 'none'}){did_you_mean(each, have)}",
                    fix=f"name one that there is, or make {each!r} first",
                )
