"""The shell that DVC starts each command of a stage with: `SHELL -c COMMAND`.

Records start and end in the run's event file, keeps the output, and runs the command with the
user's own shell: directly, once in each process of a torchrun gang, or on a target. Its exit code
is the command's. DVC stays in charge of everything else. Run as a script under `python -IS`: it
starts in about 25 ms because it imports no installed package.
"""

import os
import signal
import sys
from collections.abc import Sequence

if __name__ == "__main__":
    package = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    sys.path.insert(0, os.path.dirname(package))

from mlp.adapters.base.event_file import EventFile
from mlp.core.launch.launch import Launch, launch_of
from mlp.core.runs import environment
from mlp.core.runs.identity import stage_run_id
from mlp.core.runs.run_header import RunHeader
from mlp.core.secrets import Masker
from mlp.runtime.runs.output import run_teed
from mlp.runtime.runs.stage_command import in_gang, in_shell, variables


def main(arguments: Sequence[str]) -> int:
    """Run `-c COMMAND` for the stage named by DVC_STAGE; returns the command's exit code.

    Where it was asked to end and failed, that is 128 and the signal's number, whatever the command
    made of it: Lightning ends with 1 after Ctrl-C, as if the training had a mistake.
    """
    command = arguments[-1]
    run_id, run_dir = os.environ[environment.RUN_ID], os.environ[environment.RUN_DIR]
    stage = os.environ["DVC_STAGE"]
    stage_run = stage_run_id(run_id, stage)
    header = _header(run_dir)
    launch = launch_of(header.launching.launches, stage) or Launch()
    masker = Masker(os.environ)
    journal = EventFile(f"{run_dir}/events", masker.text)

    journal.record("run_started", stage_run, parent=run_id, name=stage, stage=stage)
    log = f"{run_dir}/stages/{stage_run}/log.txt"
    environ = variables(os.environ, stage, stage_run, launch)
    signals: list[int] = []
    command_line = _command(command, launch, header.launching.show_all_ranks)
    code = run_teed(command_line, environ, log, masker, signals.append)
    if code == environment.DETACHED:  # it goes on elsewhere
        return code
    journal.record("command", stage_run, command=command, exit_code=code)
    # What launches it elsewhere has Ctrl-C in hand.
    if signals and launch.is_local and code != 0 and code not in _KILLED:
        code = 128 + signals[0]
    journal.record("file", stage_run, path=log, to="logs")
    status = "FINISHED" if code == 0 else "KILLED" if code in _KILLED else "FAILED"
    journal.record("run_ended", stage_run, status=status)
    return code


_KILLED = tuple(128 + s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP))


def _header(run_dir: str) -> RunHeader:
    with open(f"{run_dir}/run.json", encoding="utf-8") as file:
        return RunHeader.from_json(file.read())


def _command(command: str, launch: Launch, show_all_ranks: bool) -> list[str]:
    """What is started in place of `command`: on a target, what launches it there."""
    python = os.environ[environment.PYTHON]
    if not launch.is_local:
        return [python, "-m", os.environ[environment.ELSEWHERE], command]
    shell = os.environ.get(environment.USER_SHELL) or "/bin/sh"
    if launch.processes_per_node == 1:
        return in_shell(command, shell)
    return in_gang(command, shell, launch, python, show_all_ranks=show_all_ranks)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as failure:  # a full disk, a shell that is not there
        from mlp.core.errors import from_os_error

        sys.stderr.write(f"error: {from_os_error(failure).message}\n")
        sys.exit(1)
