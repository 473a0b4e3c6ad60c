"""The challenger's process as its worker holds it: started, looked at, killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_END_S = 1.0  # from the end of the link until the process is killed
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Child:
    """A process that answers on a socket, whose `descriptor` it inherits. Raises OSError."""

    def __init__(self, descriptor: int, settings: Mapping[str, Any]) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlp.runtime.serving.challenger_process"),
                *(str(descriptor), json.dumps(settings)),
            ],
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # what it starts itself is ended with it
        )

    @property
    def has_ended(self) -> bool:
        """Whether it is gone; what it started may not be."""
        return self._process.poll() is not None

    @property
    def resident(self) -> int:
        """Its memory in bytes; 0 where it has ended."""
        try:
            text = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii")
        except OSError:
            return 0
        return int(text.split()[1]) * _PAGE

    def kill(self) -> None:
        """Kill it with all that it has started."""
        if not self.has_ended:
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code. It may tell that itself for a moment, and is killed then."""
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()
