"""The environment variables through which `mlp run`, the stage shell and user code meet."""

import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from mlp.core.launch.launch import Launch

RUN_ID = "MLP_RUN_ID"
RUN_DIR = "MLP_RUN_DIR"
TRACKING_URI = "MLP_TRACKING_URI"
STATE = "MLP_STATE"
STAGE = "MLP_STAGE"
STAGE_RUN_ID = "MLP_STAGE_RUN_ID"
LAUNCH = "MLP_LAUNCH"
USER_SHELL = "MLP_USER_SHELL"
# For a stage's shell alone: mlp's interpreter, and the module that runs a command on a target.
PYTHON = "MLP_PYTHON"
ELSEWHERE = "MLP_ELSEWHERE"
# Where a stage's checkpoints lie, a directory or an s3:// address; beside its log unless set.
CHECKPOINTS = "MLP_CHECKPOINTS"
# In a pod, which volume claim is mounted where: a JSON object of claims by path.
VOLUMES = "MLP_VOLUMES"
# The file in which torchrun's door says that the gang could not meet, or lost its meeting place.
GANG_LOST = "MLP_GANG_LOST"
# Tags of the next run, a JSON object: what a CI job or `mlp runs reproduce` has to say of it.
RUN_TAGS = "MLP_RUN_TAGS"

# What a stage's plain MLflow calls go to: the tracking-store plugin of this scheme, which finds the
# run in the variables above and appends to its event file.
EVENT_STORE = "mlp://stage"

# What a stage's command ends with where it goes on in a cluster without us.
DETACHED = 79

# Nothing phones home: the tools' own analytics and update checks are off in whatever we start.
QUIET = {
    "DVC_NO_ANALYTICS": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


class Stage(NamedTuple):
    """The stage that a process belongs to."""

    run_id: str
    run_dir: str
    name: str
    stage_run_id: str
    launch: Launch


def stage(environ: Mapping[str, str] = os.environ) -> Stage | None:
    """The stage that this process belongs to, None outside of `mlp run`."""
    if STAGE_RUN_ID not in environ:
        return None
    return Stage(
        environ[RUN_ID],
        environ[RUN_DIR],
        environ[STAGE],
        environ[STAGE_RUN_ID],
        Launch.from_dict(json.loads(environ.get(LAUNCH, "{}"))),
    )


def claim_at(path: str, environ: Mapping[str, str] = os.environ) -> tuple[str, str] | None:
    """The volume claim that `path` lies on and where it is mounted, None where it is on none."""
    claims: dict[str, str] = json.loads(environ.get(VOLUMES, "{}"))
    mounts = [m for m in claims if f"{path}/".startswith(f"{m.rstrip('/')}/")]
    mount = max(mounts, key=len, default=None)
    return None if mount is None else (claims[mount], mount)


def rank(environ: Mapping[str, str] = os.environ) -> int:
    """This process's rank among those that train one model (torchrun sets it); 0 alone."""
    return int(environ.get("RANK", "0"))


def rank_prefix(stage: Stage, environ: Mapping[str, str] = os.environ) -> str | None:
    """What the names of this rank's metrics begin with, None where the rank is not to record."""
    number = rank(environ)
    if number == 0:
        return ""
    return f"rank_{number}/" if stage.launch.log_all_ranks else None
