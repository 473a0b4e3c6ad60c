"""How a stage's command is started: its shell, its processes, its environment.

Imported at every stage's start: standard library only.
"""

import json
import os
from collections.abc import Mapping, Sequence

from mlp.core.launch.launch import Launch
from mlp.core.runs import environment

# As DVC calls a user's shell: without its start-up files, which could change what a stage does.
_SHELL_OPTIONS = {"bash": ["--noprofile", "--norc"], "zsh": ["--no-rcs"]}
# Set by whoever started `mlp run` for that process alone; inherited, they would send the stage's
# MLflow calls elsewhere.
_NOT_INHERITED = (
    *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"),
    *(environment.PYTHON, environment.ELSEWHERE),
)
# One machine that needs no address to meet itself at.
_ALONE = ("--standalone", "--nnodes=1")


def in_shell(command: str, shell: str) -> list[str]:
    """`command` for the shell that the user has."""
    return [shell, *_SHELL_OPTIONS.get(os.path.basename(shell), []), "-c", command]


def in_gang(
    command: str,
    shell: str,
    launch: Launch,
    python: str,
    rendezvous: Sequence[str] = _ALONE,
    *,
    show_all_ranks: bool = False,
) -> list[str]:
    """`command` in each process of a torchrun gang on this machine."""
    # One process talks for all, but what makes another one fail is to be seen.
    quiet = "" if show_all_ranks else '[ "$LOCAL_RANK" = 0 ] || exec >/dev/null\n'
    return [
        python,
        *("-m", "mlp.adapters.gang", *rendezvous),
        f"--nproc-per-node={launch.processes_per_node}",
        f"--max-restarts={launch.max_restarts}",
        "--no-python",
        *in_shell(f"{quiet}{command}", shell),
    ]


def variables(
    environ: Mapping[str, str], stage: str, stage_run: str, launch: Launch
) -> dict[str, str]:
    """The command's environment: the caller's own, pointed at this stage's run."""
    found = {k: v for k, v in environ.items() if k not in _NOT_INHERITED}
    shell = found.pop(environment.USER_SHELL, "")
    found.pop("SHELL", None)
    found |= {"SHELL": shell} if shell else {}
    found |= environment.QUIET | {
        environment.STAGE: stage,
        environment.STAGE_RUN_ID: stage_run,
        environment.LAUNCH: json.dumps(launch.to_dict()),
        "MLFLOW_TRACKING_URI": environment.EVENT_STORE,
        "PYTHONUNBUFFERED": "1",  # what a killed process printed is in the log
    }
    found.setdefault("MLFLOW_REGISTRY_URI", found[environment.TRACKING_URI])
    if launch.world_size > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        found.setdefault("OMP_NUM_THREADS", str(max(1, cores // launch.processes_per_node)))
        # torchrun's own store outlives a restart, and with it the addresses of dead processes,
        # to which gloo then connects in vain (torch 2.6 to 2.13).
        found.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    return found
