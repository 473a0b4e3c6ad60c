"""Trying again for as long as something remote may come back."""

import time
from collections.abc import Callable
from typing import TypeVar

from mlp.core.errors import Unavailable

T = TypeVar("T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


def patiently(act: Callable[[], T], seconds: float, note: Callable[[str], None]) -> T:
    """What `act` returns, tried again for `seconds` where it raises Unavailable.

    `note` is told each time. Raises what `act` raised last; `act` has to be safe to repeat.
    """
    until = time.monotonic() + seconds
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return act()
        except Unavailable as e:
            left = until - time.monotonic()
            if left <= 0:
                raise
            why = e.cause.strip().partition("\n")[0]
            note(f"{e.message} ({why}): trying again, for {left:.0f} s more")
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
