"""The shell that DVC starts each command of a stage with: `SHELL -c COMMAND`.

Records start and end in the run's event file, keeps the output, and runs the command with the
user's own shell: directly, or once in each process of a torchrun gang. Its exit code is the
command's. DVC stays in charge of everything else. Run as a script under `python -IS`: it starts
in about 25 ms because it imports no installed package.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(__file__))))

from mlp.adapters.journal import Journal
from mlp.core import environment
from mlp.core.identity import stage_run_id
from mlp.core.secrets import Masker
from mlp.runtime.output import run_teed

# As DVC calls a user's shell: without its start-up files, which could change what a stage does.
_SHELL_OPTIONS = {"bash": ["--noprofile", "--norc"], "zsh": ["--no-rcs"]}
# Set by whoever started `mlp run` for that process alone; inherited, they would send the stage's
# MLflow calls elsewhere.
_NOT_INHERITED = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLP_PYTHON")


def main(arguments: Sequence[str]) -> int:
    """Run `-c COMMAND` for the stage named by DVC_STAGE; returns the command's exit code."""
    command = arguments[-1]
    run_id, run_dir = os.environ[environment.RUN_ID], os.environ[environment.RUN_DIR]
    stage = os.environ["DVC_STAGE"]
    stage_run = stage_run_id(run_id, stage)
    launch = _launch(run_dir, stage)
    masker = Masker(os.environ)
    journal = Journal(f"{run_dir}/events", masker.text)

    journal.record("run_started", stage_run, parent=run_id, name=stage, stage=stage)
    log = f"{run_dir}/stages/{stage_run}/log.txt"
    code = run_teed(_command(command, launch), _environment(stage, stage_run, launch), log, masker)
    journal.record("command", stage_run, command=command, exit_code=code)
    journal.record("file", stage_run, path=log, to="logs")
    status = "FINISHED" if code == 0 else "KILLED" if code in _KILLED else "FAILED"
    journal.record("run_ended", stage_run, status=status)
    return code


_KILLED = tuple(128 + s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP))


def _launch(run_dir: str, stage: str) -> dict[str, Any]:
    """The `launch` section of mlp.yaml for this stage, {} where mlp does not launch it."""
    with open(f"{run_dir}/run.json", encoding="utf-8") as file:
        launches: dict[str, dict[str, Any]] = json.load(file)["launch"]
    name = stage.rpartition(":")[2]
    return launches.get(stage) or launches.get(name) or launches.get(name.partition("@")[0]) or {}


def _command(command: str, launch: Mapping[str, Any]) -> list[str]:
    shell = os.environ.get(environment.USER_SHELL) or "/bin/sh"
    plain = [shell, *_SHELL_OPTIONS.get(os.path.basename(shell), []), "-c", command]
    processes = launch.get("processes_per_node", 1)
    if processes == 1:
        return plain
    # One process talks for all, but what makes another one fail is to be seen.
    plain[-1] = f'[ "$LOCAL_RANK" = 0 ] || exec >/dev/null\n{command}'
    return [
        os.environ["MLP_PYTHON"],
        *("-m", "mlp.adapters.gang", "--standalone", "--nnodes=1"),
        f"--nproc-per-node={processes}",
        f"--max-restarts={launch.get('max_restarts', 0)}",
        "--no-python",
        *plain,
    ]


def _environment(stage: str, stage_run: str, launch: Mapping[str, Any]) -> dict[str, str]:
    """The command's environment: the caller's own, pointed at this stage's run."""
    variables = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
    shell = variables.pop(environment.USER_SHELL, "")
    variables.pop("SHELL", None)
    variables |= {"SHELL": shell} if shell else {}
    variables |= environment.QUIET | {
        environment.STAGE: stage,
        environment.STAGE_RUN_ID: stage_run,
        environment.LAUNCH: json.dumps(launch),
        "MLFLOW_TRACKING_URI": environment.EVENT_STORE,
        "PYTHONUNBUFFERED": "1",  # what a killed process printed is in the log
    }
    variables.setdefault("MLFLOW_REGISTRY_URI", variables[environment.TRACKING_URI])
    processes = launch.get("processes_per_node", 1)
    if processes > 1:
        cores = len(os.sched_getaffinity(0))
        variables.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
        # torchrun's own store outlives a restart, and with it the addresses of dead processes,
        # to which gloo then connects in vain (torch 2.6 to 2.13).
        variables.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    return variables


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as failure:  # a full disk, a shell that is not there
        from mlp.core.errors import from_os_error

        sys.stderr.write(f"error: {from_os_error(failure).message}\n")
        sys.exit(1)
