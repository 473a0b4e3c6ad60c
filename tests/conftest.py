"""Real projects for the tests: git, DVC and MLflow on SQLite, driven through the command line."""

import contextlib
import fcntl
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from mlflow import MlflowClient
from mlflow.entities import Run

from mlp.cli import main
from mlp.core.runs.recorded_run import Tag
from mlp.runtime.runs import recorder
from tests import commands

BIN = Path(sys.executable).parent
# Who starts the tests in the background may let them ignore Ctrl-C, and what they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The tools that stand beside this Python are found, whether its environment is active or not.
os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"

# No test is about the time that an example takes; the rest stays, which is another in CI.
settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")

MLP_YAML = "project: demo\n"
PARAMS_YAML = """\
# What the stages read.
n: 5
train:
  lr: 0.1  # the rate
  layers: [1, 2]
"""
DVC_YAML = """\
stages:
  prep:
    cmd: python prep.py
    deps: [prep.py]
    params: [n]
    outs: [data.csv]
  train:
    cmd: python train.py
    deps: [train.py, data.csv]
    params: [train]
    outs: [model.txt]
    metrics:
    - metrics.json: {cache: false}
    plots:
    - loss.csv
"""
PREP_PY = """\
n = int(next(l for l in open("params.yaml") if l.startswith("n:")).split()[1])
open("data.csv", "w").write("x\\n" + "".join(f"{i}\\n" for i in range(n)))
print("prepared")
"""
TRAIN_PY = """\
import json
import mlp

open("model.txt", "w").write("weights of " + str(len(open("data.csv").read())))
json.dump({"acc": 0.5, "nested": {"f1": 0.25}}, open("metrics.json", "w"))
open("loss.csv", "w").write("step,loss\\n0,1.0\\n1,0.5\\n")
for step in range(3):
    mlp.log({"train_loss": 1.0 / (step + 1)}, step)
print("trained")
"""
FILES: Mapping[str, str] = {
    "mlp.yaml": MLP_YAML,
    "params.yaml": PARAMS_YAML,
    "dvc.yaml": DVC_YAML,
    "prep.py": PREP_PY,
    "train.py": TRAIN_PY,
    ".gitignore": "mlflow.db*\n/mlartifacts/\n__pycache__/\n",
}


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def called(directory: Path, *arguments: str) -> Done:
    """What a command line does in this process and that directory."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(directory),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main.call(list(arguments))
    assert "this is a bug in mlp" not in err.getvalue(), err.getvalue()
    return Done(code, out.getvalue(), err.getvalue())


def single(name: str, command: str, **more: Any) -> str:
    """A dvc.yaml with one stage; JSON is YAML, so that any name and command is quoted rightly."""
    return json.dumps({"stages": {name: {"cmd": command, **more}}})


@dataclass
class Project:
    """A project in a directory of its own, and the tools in it."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    installed: bool = False
    """Whether `mlp` is the console script, as users have it, or forked, which saves seconds."""

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def start(self, *arguments: str, cwd: Path | None = None, **environ: str) -> Any:
        """`mlp ARGUMENTS` as a process that goes on."""
        return subprocess.Popen(
            [str(BIN / "mlp"), *arguments],
            cwd=cwd or self.root,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def mlp(self, *arguments: str, cwd: Path | None = None, **environ: str) -> Done:
        """What `mlp ARGUMENTS` did, as a process of its own."""
        if self.installed:
            process = self.start(*arguments, cwd=cwd, **environ)
            out, err = process.communicate()
            done = Done(process.returncode, out.decode(), err.decode())
        else:
            done = Done(*commands.run("mlp", arguments, cwd or self.root, self.environ | environ))
        for sign in ("cli/main.py", "this is a bug in mlp"):  # a stage may have its own tracebacks
            assert sign not in done.err, done.err
        return done

    def call(self, *arguments: str) -> Done:
        """`mlp ARGUMENTS` in this process, which has imported long ago what takes seconds."""
        return called(self.root, *arguments)

    def tool(self, *command: str, cwd: Path | None = None) -> str:
        """What git, dvc or another program prints; it is to succeed."""
        program, *arguments = command
        if program == "dvc" and not self.installed:
            code, out, err = commands.run(program, arguments, cwd or self.root, self.environ)
            assert code == 0, err
            return out
        return subprocess.run(
            command, cwd=cwd or self.root, env=self.environ, check=True, capture_output=True
        ).stdout.decode()

    def commit(self, message: str = "a commit") -> None:
        self.tool("git", "add", "--all")
        self.tool("git", "commit", "--quiet", "--message", message)

    # --- what was recorded ----------------------------------------------------------------------

    @property
    def runs(self) -> list[Path]:
        """The directories of all runs, the oldest first."""
        paths = (self.root / ".mlp" / "runs").glob("*/run.json")
        return [p.parent for p in sorted(paths, key=lambda p: json.loads(p.read_text())["started"])]

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.root}/mlflow.db"

    def await_recorders(self) -> None:
        """Block until no recorder of this project is alive."""
        for process in self._recorders():
            with contextlib.suppress(ProcessLookupError):
                select.select([os.pidfd_open(process)], [], [])

    def stop_recorders(self) -> None:
        """End this project's recorders, which try for half a minute where a server is away."""
        for process in self._recorders():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.await_recorders()

    def _recorders(self) -> list[int]:
        """They write what they have to say into a file of their run."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                said = (process / "fd" / "2").readlink()
                if said.name == "recorder.log" and said.is_relative_to(self.root):
                    found.append(int(process.name))
        return found

    def deliver(self) -> None:
        """Wait for the recorders, and do what they left; everything is in MLflow then."""
        self.await_recorders()
        left = [str(run) for run in self.runs if not self.delivery(run).get("done")]
        assert not left or recorder.main(left) == 0, [self.delivery(Path(run)) for run in left]

    def delivery(self, run: Path) -> dict[str, Any]:
        path = run / "delivery.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def client(self, uri: str | None = None) -> MlflowClient:
        return MlflowClient(tracking_uri=uri or self.uri, registry_uri=uri or self.uri)

    def recorded(self, uri: str | None = None) -> "Recorded":
        """Everything in MLflow, once it is delivered."""
        self.deliver()
        return Recorded.read(self.client(uri))


@dataclass
class Recorded:
    """All runs of a store, the oldest first."""

    client: MlflowClient
    all: list[Run]

    @classmethod
    def read(cls, client: MlflowClient) -> "Recorded":
        experiments = [e.experiment_id for e in client.search_experiments()]
        runs = client.search_runs(experiments, order_by=["attributes.start_time ASC"])
        return cls(client, list(runs))

    @property
    def pipelines(self) -> list[Run]:
        return [run for run in self.all if run.data.tags.get(Tag.KIND) == "pipeline"]

    def children(self, run: Run) -> list[Run]:
        return [r for r in self.all if r.data.tags.get("mlflow.parentRunId") == run.info.run_id]

    def stage(self, name: str, of: int = -1) -> Run:
        """The run of a stage in the newest pipeline run, or the one numbered `of`."""
        found = [
            run for run in self.children(self.pipelines[of]) if run.data.tags.get(Tag.STAGE) == name
        ]
        assert len(found) == 1, [run.data.tags for run in self.all]
        return found[0]

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        points = self.client.get_metric_history(run.info.run_id, metric)
        return [(point.step, point.value) for point in points]

    def artifacts(self, run: Run, folder: str | None = None) -> set[str]:
        """The paths of a run's artifacts, those in directories too."""
        found: set[str] = set()
        for entry in self.client.list_artifacts(run.info.run_id, folder):
            found |= self.artifacts(run, entry.path) if entry.is_dir else {entry.path}
        return found

    def text(self, run: Run, artifact: str) -> str:
        return Path(self.client.download_artifacts(run.info.run_id, artifact)).read_text()


Make = Callable[..., Project]


def isolated(home: Path) -> dict[str, str]:
    """An environment with neither the user's settings nor CI's."""
    home.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "PYTHONPATH", "LANG", "TMPDIR")}
    return kept | {
        "HOME": str(home),
        "SHELL": "/bin/sh",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A U Thor",
        "GIT_AUTHOR_EMAIL": "author@example.com",
        "GIT_COMMITTER_NAME": "A U Thor",
        "GIT_COMMITTER_EMAIL": "author@example.com",
        "DVC_NO_ANALYTICS": "1",
        "DVC_GLOBAL_CONFIG_DIR": str(home),
        "DVC_SYSTEM_CONFIG_DIR": str(home),
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What takes seconds to make, made once for all workers: an empty store, an empty project."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / "shared"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db").search_experiments()
            project = Project(folder / "project", isolated(folder / "home"))
            project.root.mkdir()
            project.tool("git", "init", "--quiet", "--initial-branch=main")
            project.tool("dvc", "init", "--quiet")
            (folder / "made").touch()
    return folder


def build(shared: Path, root: Path, home: Path, files: Mapping[str, str], commit: bool) -> Project:
    """A project with an empty store, git and DVC."""
    shutil.copytree(shared / "project", root, dirs_exist_ok=True)
    shutil.copyfile(shared / "mlflow.db", root / "mlflow.db")
    project = Project(root, isolated(home))
    project.write({**FILES, **files})
    if commit:
        project.commit("the project")
    return project


@pytest.fixture
def make_project(shared: Path, tmp_path: Path) -> Make:
    """Make the project, with `files` beside or instead of the usual ones, in `root`."""

    def make(
        files: Mapping[str, str] | None = None, root: Path | None = None, commit: bool = True
    ) -> Project:
        return build(shared, root or tmp_path / "project", tmp_path / "home", files or {}, commit)

    return make


@pytest.fixture
def project(make_project: Make) -> Project:
    """The usual project: two stages, params, metrics and a plot; all committed."""
    return make_project()


@pytest.fixture(scope="module")
def make_shared_project(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The same for a project that the tests of a module only read."""

    def make(files: Mapping[str, str] | None = None, commit: bool = True) -> Project:
        folder = tmp_path_factory.mktemp("module")
        return build(shared, folder / "project", folder / "home", files or {}, commit)

    return make
