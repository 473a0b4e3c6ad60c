"""What a look at the project and the machine found."""

from dataclasses import dataclass
from enum import StrEnum


class CheckVerdict(StrEnum):
    """How one check came out."""

    OK = "ok"
    NOTE = "note"  # works, and could be better
    PROBLEM = "problem"
    UNKNOWN = "unknown"  # cannot be known from here


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found, what the tool below said, and what to do."""

    name: str
    verdict: CheckVerdict
    message: str
    fix: str = ""
    cause: str = ""
