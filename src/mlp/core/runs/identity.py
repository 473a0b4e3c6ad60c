"""Names of runs. Imported at every stage's start: standard library only, and little of it."""

import hashlib
import os


def new_run_id() -> str:
    """A run's id: 32 hexadecimal characters, 128 random bits, the shape of MLflow's own."""
    return os.urandom(16).hex()


def stage_run_id(run_id: str, stage: str) -> str:
    """The id of a stage's run inside the pipeline run `run_id`.

    Derived, not drawn: the stage shell, the training process and `mlp run` need no word with each
    other to agree on it, and a restarted stage continues the same run.
    """
    return hashlib.sha256(f"{run_id}/{stage}".encode()).hexdigest()[:32]
