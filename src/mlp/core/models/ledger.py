"""The ledger of a model: who changed what serves, when, from what to what, why, on what evidence.

Entries are never changed. What a model's traffic is follows from them and from MLflow's aliases.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

CHAMPION, CHALLENGER = "champion", "challenger"


class Action(StrEnum):
    """What an entry tells."""

    REGISTERED = "registered"  # version: the new one
    INTENDED = "intended"  # an alias is about to change: the entry after it says what came of it
    PROMOTED = "promoted"  # alias: previous -> version
    ROLLED_BACK = "rolled back"  # the same, to the last good version
    FOUND = "found"  # an alias was changed by something else: previous -> version
    ABANDONED = "abandoned"  # an intended change that never happened
    ARCHIVED = "archived"
    SHARED = "shared"  # evidence: {"share": 0.1, "shadow": false}, for challenger `version`
    TAKEN_OUT = "taken out"  # the challenger `version` gets no request any more


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One entry; `number` counts from 1 within the model, without gaps. `at`: seconds, epoch."""

    model: str
    action: Action
    version: str | None
    alias: str | None = None
    previous: str | None = None
    actor: str = ""
    reason: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0
    number: int = 0
