"""The first run on a cluster, as in docs/guide.md: each command was printed by one before it."""

import json
import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import KEPT, Namespace, RemoteProject
from tests.cluster.images import build_section, repository, write_requirements
from tests.cluster.servers import MlflowServer
from tests.cluster.test_remote_stage import recorded
from tests.conftest import isolated

pytestmark = pytest.mark.cluster

# A question that waits for its answer: "  key (-: none) [default]: ".
_QUESTION = re.compile(r"^  ([\w.]+)\b[^\n]*: ?$")


@dataclass
class Terminal:
    """A person who types only what a command printed as the next one."""

    folder: Path
    environ: dict[str, str]
    printed: list[str] = field(default_factory=list)
    shown: str = ""
    """All that was printed, on both channels."""

    def type(self, command: str, *more: str, answers: Mapping[str, str] | None = None) -> str:
        """What the command prints; `more` options, and answers by the name of what is asked."""
        assert command in self.printed, (command, self.printed)
        words = shlex.split(command)
        if words[0] == "cd":
            self.folder /= words[1]
            return ""
        code, out, err = self._run([*words, *more], answers or {})
        self.shown += out + err
        assert code == 0, err + out
        self.printed += _next(out)
        return out

    def _run(self, words: list[str], answers: Mapping[str, str]) -> tuple[int, str, str]:
        keyboard, terminal = os.openpty()
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            words, cwd=self.folder, env=self.environ, stdin=terminal, stdout=pipe, stderr=pipe
        )
        os.close(terminal)
        assert process.stdout and process.stderr
        err = ""
        while chunk := os.read(process.stderr.fileno(), 65536):
            err += chunk.decode()
            if asked := _QUESTION.match(err.rpartition("\n")[2]):
                os.write(keyboard, f"{answers.get(asked[1], '')}\n".encode())
                err += "\n"
        out = process.stdout.read().decode()
        os.close(keyboard)
        return process.wait(), out, err


def _next(out: str) -> list[str]:
    """The commands behind `next:`, in lines of their own or in the same one."""
    steps = out.rpartition("next:")[2]
    return [step.strip() for step in re.split(r"\n|   ", steps) if step.strip()]


def test_each_command_prints_the_next_one_up_to_a_finished_run_on_two_nodes(
    namespace: Namespace,
    bucket: str,
    environment_image: str,
    mlflow_server: MlflowServer,
    tmp_path: Path,
) -> None:
    # The builder's store and logins are the user's own.
    environ = {**os.environ, **isolated(tmp_path / "home"), "HOME": os.environ["HOME"]}
    name = f"digits-{uuid.uuid4().hex[:8]}"
    first = f"mlp init {name} --template lightning"
    newcomer = Terminal(tmp_path, environ, [first])
    newcomer.type(first)
    newcomer.type(f"cd {name}")
    project = RemoteProject(tmp_path / name, environ, namespace=namespace)
    # Another image takes minutes: this one has what the template needs, but for the remote's part.
    write_requirements(project.root)

    build = build_section()  # what the tests' registry and network need
    flags = [f"--build-flag={flag}" for flag in build["flags"]]
    flags += [f"--push-flag={flag}" for flag in build["push_flags"]]
    flags += [f"--base={build['base']}"] if "base" in build else []
    answers = {
        "namespace": namespace.name,
        "image": repository(),
        "gpus": "1",
        "remote": f"s3://{bucket}/{name}",
        "tracking_uri": mlflow_server.uri,
    }
    newcomer.type("mlp targets add gpu", *flags, answers=answers)
    assert environment_image in newcomer.type("mlp build gpu")
    newcomer.type("mlp doctor --target gpu")
    trained = newcomer.type("mlp train --target gpu", "--nodes", "2", "--gpus", "1")
    [run] = re.findall(r"run ([0-9a-f]{8}) finished", trained)
    assert "valid_accuracy" in newcomer.type(f"mlp runs show {run}")

    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in newcomer.shown + _files(project.root)
    keys = namespace.get("secret", "s3-credentials")["data"]
    assert set(keys) == {key for key in KEPT if key.startswith("AWS_") and "ENDPOINT" not in key}
    evaluated = project.mlp("run", CI="true")
    assert evaluated.code == 0, evaluated.err
    assert "train: unchanged" in evaluated.err
    assert project.tool("dvc", "status", "--json").strip() == "{}"
    assert json.loads((project.root / "metrics" / "test.json").read_text())
    found: Any = recorded(project)
    train = found.stage("train", of=0)
    assert train.data.tags["mlp.world_size"] == "2"
    assert len(found.history(train, "valid_accuracy")) > 10
    assert train.outputs.model_outputs, "the model is in the registry's reach"


def _files(root: Path) -> str:
    """All that stands in the project's files, the records of runs among them."""
    paths = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return "".join(path.read_bytes().decode(errors="replace") for path in paths)
