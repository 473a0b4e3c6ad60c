"""The challenger's process: loads one version and answers its worker, until that goes.

`python -m mlp.runtime.serving.challenger_process DESCRIPTOR SETTINGS`; it has no state, so that it
may be killed at any moment.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from mlp.adapters.scoring import Refusal, Scorer
from mlp.runtime.serving import challenger_framing

_CHUNK = 1 << 18
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(descriptor: int, settings: dict[str, Any]) -> int:
    """Answer requests on a socket; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to handle
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with_parent()
    os.nice(settings["nice"])
    with socket.socket(fileno=descriptor) as link:
        try:
            scorer = Scorer.load(Path(settings["path"]), probabilities=settings["probabilities"])
            if scorer.example is not None:
                scorer.answer(scorer.read(*scorer.example))
        except Exception as e:  # noqa: BLE001 - a model's own code may raise anything
            link.sendall(challenger_framing.packed({"broken": f"it cannot be loaded: {_said(e)}"}))
            return 1
        link.sendall(challenger_framing.packed({"ready": True}))
        unpacker = challenger_framing.Unpacker()
        while data := link.recv(_CHUNK):
            for header, body in unpacker.feed(data):
                link.sendall(_answer(scorer, header, body))
    return 0


def _die_with_parent() -> None:
    """A model that hangs would not see that its worker has gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answer(scorer: Scorer, header: dict[str, Any], body: bytes) -> bytes:
    started = time.monotonic()
    told: dict[str, Any] = {"id": header["id"]}
    answer = b""
    try:
        request = scorer.read(body, header["type"])
        if header["rows"] is not None:
            request = request.take(header["rows"])
        found = scorer.answer(request)
        answer = found.body
        if found.probabilities is not None:
            told["probabilities"] = [[float(p) for p in row] for row in found.probabilities]
    except Refusal as e:
        told |= {"failed": "refused", "detail": _said(e), "by_model": e.by_model}
    except Exception as e:  # noqa: BLE001 - a model's own code may raise anything
        told |= {"failed": "error", "detail": _said(e), "by_model": True}
    told["latency_ms"] = (time.monotonic() - started) * 1000
    return challenger_framing.packed(told, answer)


def _said(error: Exception) -> str:
    """What failed, in a line; of a refusal the status and the last line of MLflow's traceback.

    What comes before that line may quote the user's data.
    """
    if not isinstance(error, Refusal):
        return f"{type(error).__name__}: {error}"[:300]
    try:
        trace = str(json.loads(error.body).get("stack_trace", ""))
    except (ValueError, AttributeError):
        trace = ""
    return f"{error.status} {trace.strip().rpartition(chr(10))[2]}".strip()[:300]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), json.loads(sys.argv[2])))
