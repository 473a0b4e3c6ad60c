"""What is told of a model that does not answer in a process of its own."""

from pathlib import Path

import pytest

from mlp.adapters.tracking import model_trial
from mlp.core.errors import UserCodeError

TRACEBACK = """a warning
Traceback (most recent call last):
  File "model.py", line 1, in inner
KeyError: 'x'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "model.py", line 3, in predict
    raise ValueError(text)
          ^^^^^^^^^^^^^^^^
ValueError: row too big
it has 3 columns
"""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (TRACEBACK, "ValueError: row too big"),
        ("one\nno space left\n", "no space left"),
        ("", "its process ended with 3"),
    ],
)
def test_the_exception_is_told_and_its_traceback_is_the_cause(
    tmp_path: Path, said: str, told: str
) -> None:
    (tmp_path / "said").write_text(said)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat {tmp_path}/said >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(UserCodeError) as failed:
        model_trial.attempt(python, tmp_path)
    assert failed.value.message == f"the model does not answer: {told}"
    assert failed.value.cause == said.strip()
