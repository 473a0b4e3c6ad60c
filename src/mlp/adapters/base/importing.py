"""Imports that threads must not do side by side.

Where two threads import the parts of a package that import each other, Python lets one of them see
a part half made rather than have both wait for ever.
"""

import importlib
import threading

_lock = threading.Lock()


def whole(*names: str) -> None:
    """Import the modules, one thread at a time."""
    with _lock:
        for name in names:
            importlib.import_module(name)
