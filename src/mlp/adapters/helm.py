"""The door to Helm: the program `helm`, which the user has."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlp.core.errors import ConfigurationError, RemoteError
from mlp.core.patience import waiting_for

Values = Mapping[str, Any]

_GIVE_UP_S = 900.0
_NOT_FOUND = "release: not found"
# What helm says of values that the chart's schema does not know.
_SCHEMA = "values don't meet the specifications of the schema"


@dataclass(frozen=True, slots=True)
class Release:
    """A deployment as Helm keeps it; `values` are those that were given."""

    name: str
    revision: int
    status: str  # deployed, failed, pending-upgrade, uninstalling, …
    updated: str
    values: Values
    chart: str


@dataclass(frozen=True, slots=True)
class Helm:
    """Helm in a namespace of a cluster; `context` is the kubeconfig's current one unless given.

    Every call raises ConfigurationError where the program is missing, RemoteError where it fails.
    """

    context: str | None
    namespace: str

    def template(self, release: str, chart: Path, values: Values) -> str:
        """The manifests, as YAML. No cluster is asked."""
        command = ["template", release, str(chart), "--values=-"]
        return self._run(command, values)

    def upgrade(self, release: str, chart: Path, values: Values, wait_s: int | None = None) -> None:
        """Install the release, or make it what `values` say; with `wait_s` until its pods are
        ready, for so many seconds at most. A release that was interrupted is taken up again."""
        waiting = [] if wait_s is None else ["--wait", f"--timeout={wait_s}s"]
        command = ["upgrade", "--install", release, str(chart), "--values=-", "--reset-values"]
        self._run([*command, "--history-max=10", *waiting], values, wait_s)

    def release(self, name: str) -> Release | None:
        """The release as it is now, None where there is none."""
        try:
            told = json.loads(self._run(["status", name, "--output=json"]))
            given = json.loads(self._run(["get", "values", name, "--output=json"])) or {}
        except RemoteError as e:
            if _NOT_FOUND in e.cause:
                return None
            raise
        about = next((each for each in self.releases() if each["name"] == name), {})
        info = told.get("info", {})
        return Release(
            name,
            int(told.get("version", 0)),
            str(info.get("status", "")),
            str(info.get("last_deployed", "")),
            given,
            str(about.get("chart", "")),
        )

    def releases(self) -> Sequence[Mapping[str, Any]]:
        """All releases of the namespace, whoever made them: name, status, chart, revision."""
        found: list[Mapping[str, Any]] = json.loads(self._run(["list", "--all", "--output=json"]))
        return found

    def rollback(self, release: str, revision: int) -> None:
        """Make the release what an earlier revision was."""
        self._run(["rollback", release, str(revision)])

    def uninstall(self, release: str, *, wait: bool = False) -> bool:
        """Remove the release with all that belongs to it; False where there is none."""
        waiting = ["--wait"] if wait else []
        try:
            self._run(["uninstall", release, *waiting])
        except RemoteError as e:
            if _NOT_FOUND in e.cause:
                return False
            raise
        return True

    def _run(
        self, arguments: Sequence[str], values: Values | None = None, wait_s: int | None = None
    ) -> str:
        program = shutil.which("helm")
        if program is None:
            raise ConfigurationError(
                "deploying needs the program helm, which is not on PATH",
                fix="install Helm 3.14 or newer: https://helm.sh/docs/intro/install/",
            )
        where = [f"--namespace={self.namespace}"]
        where += [f"--kube-context={self.context}"] if self.context else []
        stdin = None if values is None else json.dumps(values)
        try:
            with waiting_for(f"helm {arguments[0]}"):
                done = subprocess.run(
                    [program, *arguments, *where],
                    input=stdin or "",
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=_GIVE_UP_S + (wait_s or 0),
                )
        except subprocess.TimeoutExpired as e:
            raise RemoteError(
                f"helm {arguments[0]} gave no answer in {e.timeout:.0f} s",
                fix="check `kubectl cluster-info`",
            ) from e
        if done.returncode:
            raise _failure(arguments, where, done.stderr.strip() or done.stdout.strip())
        return done.stdout


def _failure(
    arguments: Sequence[str], where: Sequence[str], said: str
) -> ConfigurationError | RemoteError:
    """Helm's words as ours."""
    said = said.removeprefix("Error: ")
    if _SCHEMA in said:
        return ConfigurationError(
            "the chart does not know these values",
            fix="correct deploy.values in mlp.yaml; helm/mlp/values.yaml has those that there are",
            cause=said,
        )
    fix = ""
    if "another operation" in said and "in progress" in said:
        release = arguments[2] if arguments[:2] == ["upgrade", "--install"] else arguments[1]
        fix = (
            "wait for the other one; if it was killed: "
            f"`helm rollback {release} {' '.join(where)}`"
            " (`mlp deploy remove` where it was the first)"
        )
    elif "Kubernetes cluster unreachable" in said:
        fix = "check `kubectl cluster-info`"
    elif "is forbidden" in said:
        fix = "docs/role-deploy.yaml is the least role for deploying"
    return RemoteError(f"helm {arguments[0]} failed", fix=fix, cause=said)
