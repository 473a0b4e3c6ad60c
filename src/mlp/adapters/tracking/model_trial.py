"""Trying a model in a process of its own."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlp.core.errors import UserCodeError
from mlp.core.patience import waiting_for
from mlp.core.runs.environment import QUIET
from mlp.core.secrets import Masker

_LAST_CHARACTERS = 1500
_TRACEBACK = "Traceback (most recent call last):"
# What would lead the process to this project's runs, or to modules that the model does not bring.
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI")


@dataclass(frozen=True, slots=True)
class Tried:
    """What a model answered: its stored example, and the rows of a table with their labels.

    `failed` says why it could not answer the table.
    """

    example: Any = None
    labels: Any = None
    predictions: Any = None
    probabilities: Any = None
    failed: str = ""


def attempt(
    python: Path,
    model: Path,
    *,
    example: bool = True,
    table: Path | None = None,
    target: str = "",
    prediction: str | None = None,
    probability: str | None = None,
    seconds: float = 600.0,
) -> Tried:
    """Load the model in `model` by the interpreter `python` and let it answer.

    `target` is the column of `table` that has the labels, `prediction` and `probability` are those
    of an answer that has several columns.

    Raises UserCodeError where it does not, or takes longer than `seconds`: the message has what
    ended it, the cause its last lines.
    """
    order = {
        "model": str(model),
        "example": example,
        "table": str(table) if table else None,
        "target": target,
        "prediction": prediction,
        "probability": probability,
    }
    text = Path(__file__).with_name("model_process.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="mlp-trial-") as scratch:
        paths = [Path(scratch) / name for name in ("order.json", "result.json")]
        paths[0].write_text(json.dumps(order), encoding="utf-8")
        command = [str(python), "-c", text, *map(str, paths)]
        _run(command, scratch, seconds)
        result: Mapping[str, Any] = json.loads(paths[1].read_text(encoding="utf-8"))
    return Tried(**result)


def _run(command: list[str], folder: str, seconds: float) -> None:
    variables = {name: v for name, v in os.environ.items() if name not in _NOT_INHERITED} | QUIET
    try:
        with waiting_for("the model to load and predict"):
            done = subprocess.run(
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
            )
    except subprocess.TimeoutExpired as e:
        raise UserCodeError(f"the model has not answered in {seconds:g} s") from e
    if done.returncode != 0:
        said = Masker(os.environ).text(done.stderr.strip())
        why = _raised(said)[:_LAST_CHARACTERS] or f"its process ended with {done.returncode}"
        raise UserCodeError(
            f"the model does not answer: {why}",
            cause=said[-_LAST_CHARACTERS:],
        )


def _raised(said: str) -> str:
    """The line of the last traceback that names the exception; without one, the last line."""
    lines = said.rpartition(_TRACEBACK)[2].splitlines()
    if _TRACEBACK in said:
        lines = [line for line in lines if line and not line[0].isspace()] or lines
        return lines[0] if lines else ""
    return lines[-1] if lines else ""
