"""What a command waits for, said once it has been silent for some seconds.

The doors say what they ask; it is shown where somebody reads along: `tell` is the command line's.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SILENCE_S = 4.0

tell: Callable[[str], None] | None = None
_awaited: list[str] = []


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Tell that the block waits for `what`, where it takes longer than somebody waits in peace."""
    if tell is None or what in _awaited:
        yield
        return
    timer = threading.Timer(_SILENCE_S, tell, [f"waiting for {what} …"])
    timer.daemon = True
    timer.start()
    _awaited.append(what)
    try:
        yield
    finally:
        timer.cancel()
        _awaited.remove(what)
