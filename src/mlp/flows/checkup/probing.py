"""Questions whose answer may never come, each asked in a process of its own with a time limit."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mlp.core.checkup.health import Check, CheckVerdict
from mlp.core.patience import waiting_for
from mlp.core.runs import environment
from mlp.core.secrets import mask_urls

_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that is being asked. `name` is the check's."""

    name: str
    process: "subprocess.Popen[str]"
    until: float
    fix: str

    @classmethod
    def remote(cls, root: Path) -> "Probe":
        """Whether the DVC remote of the project at `root` answers."""
        return cls._of_mlp("data remote", "remote", root, {}, "check `dvc remote list`")

    @classmethod
    def store(cls, root: Path, uri: str) -> "Probe":
        """Whether the tracking address answers, and as what."""
        variables = {environment.TRACKING_URI: uri}
        return cls._of_mlp("mlflow", "store", root, variables, "check `tracking.uri` in mlp.yaml")

    @classmethod
    def torchrun(cls) -> "Probe":
        """Whether two processes can be started together here."""
        options = ["--standalone", "--nnodes=1", "--nproc-per-node=2", "--no-python", "true"]
        command = [sys.executable, "-m", "torch.distributed.run", *options]
        return cls._begun("torchrun", command, Path.cwd(), {}, "pip install 'mlp-loop[train]'")

    @classmethod
    def _of_mlp(
        cls, name: str, which: str, root: Path, variables: dict[str, str], fix: str
    ) -> "Probe":
        command = [sys.executable, "-m", "mlp.runtime.checkup.probe", which]
        return cls._begun(name, command, root, variables, fix)

    @classmethod
    def _begun(
        cls, name: str, command: list[str], cwd: Path, variables: dict[str, str], fix: str
    ) -> "Probe":
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | environment.QUIET | variables,
            stdin=subprocess.DEVNULL,  # nobody is asked for a password
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        return cls(name, process, time.monotonic() + _LIMIT_S, fix)

    def result(self) -> list[Check]:
        """The answer, once it is there; a problem where none came in time."""
        try:
            with waiting_for(f"the check of {self.name}"):
                output, errors = self.process.communicate(
                    timeout=max(0.1, self.until - time.monotonic())
                )
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            return [
                Check(
                    self.name, CheckVerdict.PROBLEM, f"no answer in {_LIMIT_S:.0f} s", fix=self.fix
                )
            ]
        if self.process.returncode != 0:
            last = [line for line in errors.splitlines() if line.strip()][-1:]
            cause = mask_urls("".join(last))
            return [
                Check(self.name, CheckVerdict.PROBLEM, "does not work", fix=self.fix, cause=cause)
            ]
        if self.name == "torchrun":
            return [Check(self.name, CheckVerdict.OK, "starts two processes")]
        return [
            Check(**{**found, "verdict": CheckVerdict(found["verdict"])})
            for found in json.loads(output.splitlines()[-1])
        ]
