"""Whatever is killed, and when: what was recorded is delivered, and ends as what it was."""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Make, Project, single

pytestmark = pytest.mark.slow

SCRIPT = """
import os, signal, subprocess, sys
import mlp
if "ENDS_WITH" in os.environ:  # whatever it is asked to end by
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(int(os.environ["ENDS_WITH"])))
mlp.log({"before": 1.0}, 0)
print("begun")
child = subprocess.Popen(["sleep", "600"])
with open(sys.argv[1], "w") as pipe:
    pipe.write(f"{os.getpid()} {child.pid}")
child.wait()
"""


@dataclass
class Going:
    """A run in the middle of its stage, whose command and a child of it are `processes`."""

    project: Project
    mlp: "subprocess.Popen[bytes]"
    processes: list[int]

    @property
    def shell(self) -> int:
        """The process of the stage shell, found above the stage's command."""
        pid = self.processes[0]
        while "stage_shell.py -c" not in cmdline(pid):
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return pid

    @property
    def recorder(self) -> int:
        run = str(self.project.runs[-1])
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        (found,) = [
            p for p in pids if "mlp.runtime.runs.recorder" in cmdline(p) and run in cmdline(p)
        ]
        return found

    def kill(self, *pids: int) -> None:
        for pid in pids:
            descriptor = os.pidfd_open(pid)
            os.kill(pid, signal.SIGKILL)
            await_end(descriptor)
            if pid == self.mlp.pid:
                self.mlp.wait()

    def end(self) -> tuple[int, str]:
        """The exit code and what was told; every process of the stage is gone."""
        descriptors = []
        for pid in self.processes:
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                descriptors.append(os.pidfd_open(pid))
        _, err = self.mlp.communicate()
        for descriptor in descriptors:
            await_end(descriptor)
        return self.mlp.returncode, err.decode()


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def await_end(descriptor: int) -> None:
    assert select.select([descriptor], [], [], 30)[0], "it is still there"
    os.close(descriptor)


Start = Callable[[], Going]


def begun(make_project: Make, pipe: Path, **environ: str) -> Going:
    os.mkfifo(pipe)
    project = make_project(
        {
            "dvc.yaml": single("train", f"exec python train.py {pipe}", outs=["x"]),
            "train.py": SCRIPT,
        }
    )
    process = project.start("run", **environ)
    return Going(project, process, [int(pid) for pid in pipe.read_text().split()])


@pytest.fixture
def going(make_project: Make, tmp_path: Path) -> Going:
    return begun(make_project, tmp_path / "pipe")


def assert_recorded(project: Project, pipeline: str, stage: str, *, shell: bool = True) -> None:
    recorded = project.recorded()
    run = recorded.stage("train", 0)
    assert (recorded.pipelines[0].info.status, run.info.status) == (pipeline, stage)
    assert run.info.end_time is not None
    assert recorded.history(run, "before") == [(0, 1.0)]
    # What the shell had not read yet when it was killed is in no file.
    assert recorded.text(run, "logs/log.txt").startswith("begun\n" if shell else "")


def assert_the_next_run_works(project: Project) -> None:
    project.write({"dvc.yaml": single("train", "echo > x", outs=["x"])})
    assert project.mlp("run").code == 0
    recorded = project.recorded()
    assert [run.info.status for run in recorded.pipelines][1:] == ["FINISHED"]


def test_kill_of_mlp_run_ends_its_stage_and_marks_both_killed(going: Going) -> None:
    going.kill(going.mlp.pid)
    going.end()
    assert_recorded(going.project, "KILLED", "KILLED")
    assert_the_next_run_works(going.project)


def test_kill_of_the_stage_shell_ends_the_stage_and_fails_the_run(going: Going) -> None:
    going.kill(going.shell)
    code, err = going.end()
    assert code == 6
    assert "stage 'train' failed" in err
    assert_recorded(going.project, "FAILED", "KILLED", shell=False)


def test_kill_of_a_stages_command_fails_the_run(going: Going) -> None:
    going.kill(going.processes[0])
    code, err = going.end()
    assert code == 6
    assert "exit code 137" in err
    assert_recorded(going.project, "FAILED", "KILLED")


def test_kill_of_the_recorder_loses_nothing(going: Going) -> None:
    going.kill(going.recorder)
    going.kill(going.processes[0])
    assert going.end()[0] == 6
    assert_recorded(going.project, "FAILED", "KILLED")


def test_kill_of_everything_but_the_stage_is_mended_by_the_next_command(going: Going) -> None:
    recorder, shell = going.recorder, going.shell
    going.kill(recorder, going.mlp.pid, shell)
    going.project.write({"dvc.yaml": single("train", "echo > x", outs=["x"])})
    assert going.project.mlp("run").code == 0
    going.end()
    assert_recorded(going.project, "KILLED", "KILLED", shell=False)


@pytest.mark.parametrize("left", ["", '{"write": {'])
def test_what_a_kill_left_of_dvcs_own_lock_file_is_mended(make_project: Make, left: str) -> None:
    project = make_project({"dvc.yaml": single("train", "echo > x", outs=["x"])})
    project.write({".dvc/tmp/rwlock": left})
    done = project.mlp("run")
    assert done.code == 0, done.err
    project.deliver()


def test_sigterm_interrupts_the_stage_and_the_run_is_recorded_as_killed(going: Going) -> None:
    going.mlp.terminate()
    code, _ = going.end()
    assert code == 130
    assert_recorded(going.project, "KILLED", "KILLED")
    assert_the_next_run_works(going.project)


def test_ctrl_c_interrupts_the_stage_and_the_run_is_recorded_as_killed(going: Going) -> None:
    os.killpg(going.mlp.pid, signal.SIGINT)
    code, _ = going.end()
    assert code == 130
    assert_recorded(going.project, "KILLED", "KILLED")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_makes_a_failure_of_its_interruption_is_killed_all_the_same(
    make_project: Make, tmp_path: Path, number: signal.Signals
) -> None:
    going = begun(make_project, tmp_path / "pipe", ENDS_WITH="1")
    if number == signal.SIGINT:
        os.killpg(going.mlp.pid, number)
    else:
        going.mlp.send_signal(number)
    code, err = going.end()
    assert code == 130, err
    assert_recorded(going.project, "KILLED", "KILLED")


def test_another_run_at_once_is_refused_with_who_is_running(going: Going) -> None:
    done = going.project.mlp("run")
    assert done.code == 3
    assert going.project.runs[0].name[:8] in done.err
    assert str(going.mlp.pid) in done.err
    done = going.project.mlp("run", "--dry-run", "--set", "n=1")
    assert done.code == 3
    assert len(going.project.runs) == 1
    going.kill(going.mlp.pid)
    going.end()
    going.project.deliver()
