"""Ctrl-C, which is to end a process whenever it comes."""

import signal
import sys
import threading

_AGAIN_S = 0.05  # until the destructor and what called it have returned


def keep() -> None:
    """Bring a Ctrl-C that comes while an object is destroyed once more, a moment later.

    Python lets no exception out of `__del__`: it prints the KeyboardInterrupt and goes on. Called
    in the main thread, which is the one that gets it.
    """
    otherwise = sys.unraisablehook
    # To the thread itself: a call that waits ends early.
    again = (threading.get_ident(), signal.SIGINT)

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            threading.Timer(_AGAIN_S, signal.pthread_kill, again).start()
        else:
            otherwise(lost)

    sys.unraisablehook = hook
