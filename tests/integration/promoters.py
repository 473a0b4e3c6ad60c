"""Processes that promote at the same moment, or die in the middle of it; run as a script.

promoters.py race ROOT MODEL PREVIOUS VERSION…   prints a line of JSON for each
promoters.py die before|after ROOT MODEL PREVIOUS VERSION
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

# Loaded once, for all the processes that come of this one; nothing is connected yet.
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

from mlp.adapters.tracking import registry
from mlp.core.errors import MlpError
from mlp.flows import project as projects
from mlp.flows.models import promoting


def promote(root: str, model: str, previous: str, version: str) -> dict[str, Any]:
    project = projects.load(Path(root), settings=[f"model.name={model}"])
    plan = promoting.PromotionPlan(
        model, version, "champion", previous or None, previous or None, "a race", (), None, 0
    )
    try:
        entry = promoting.apply(project, plan)
    except MlpError as e:
        return {"version": version, "code": e.exit_code, "says": e.message}
    return {"version": version, "code": 0, "number": entry.number}


def race(root: str, model: str, previous: str, *versions: str) -> None:
    start, go = os.pipe()
    children = []
    for version in versions:
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(start, 1)  # until all are there
            told = json.dumps(promote(root, model, previous, version)) + "\n"
            os.write(1, told.encode())
            os._exit(0)
        children.append(child)
    os.close(go)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0


def die(when: str, *arguments: str) -> None:
    real = registry.set_alias

    def deadly(*args: str) -> None:
        if when == "after":
            real(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    registry.set_alias = deadly
    promote(*arguments)


if __name__ == "__main__":
    {"race": race, "die": die}[sys.argv[1]](*sys.argv[2:])
