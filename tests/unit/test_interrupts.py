"""Ctrl-C at moments at which Python would lose it."""

import signal
import subprocess
import sys

LOSES = """
import os, signal, time

class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

Dying()
time.sleep(20)
"""


def test_ctrl_c_while_an_object_is_destroyed_is_not_lost() -> None:
    code = f"from mlp.adapters.base import interrupts\ninterrupts.keep()\n{LOSES}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT, done.stderr
    assert "Exception ignored" not in done.stderr
