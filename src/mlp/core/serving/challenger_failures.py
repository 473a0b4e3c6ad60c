"""When a challenger has failed too often to go on."""

from collections import deque
from typing import Any

WINDOW, TROUBLES = 20, 5  # so many of its last answers were not used
ENDS, WITHIN_S = 2, 600.0  # its process ended so often within so long


class Failures:
    """What went wrong with a challenger of late."""

    def __init__(self) -> None:
        self._answers: deque[str] = deque(maxlen=WINDOW)
        self._ends: list[tuple[float, str]] = []

    def used(self) -> None:
        """An answer of its was good."""
        self._answers.append("")

    def unused(self, why: str) -> str | None:
        """An answer of its was not; returns why it is to be taken out now, if it is."""
        self._answers.append(why)
        count = len(self._troubles)
        if count < TROUBLES:
            return None
        return f"{count} of its last {len(self._answers)} answers were not used"

    def ended(self, why: str, now: float) -> str | None:
        """Its process ended, at `now` in seconds; returns why it is to be taken out now, if so."""
        self._ends = [each for each in self._ends if now - each[0] < WITHIN_S] + [(now, why)]
        if len(self._ends) < ENDS:
            return None
        return f"its process ended {len(self._ends)} times: {why}"

    @property
    def evidence(self) -> dict[str, Any]:
        """What the ledger keeps of it."""
        return {"troubles": self._troubles, "ended": [why for _, why in self._ends]}

    @property
    def _troubles(self) -> list[str]:
        return [why for why in self._answers if why]
