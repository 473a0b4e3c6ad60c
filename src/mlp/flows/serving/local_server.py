"""Serving the project's model on this machine."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mlp.adapters import http_server
from mlp.adapters.base import statefile
from mlp.core.ab.traffic import Traffic
from mlp.core.errors import ConfigurationError
from mlp.core.runs.environment import STATE
from mlp.core.serving.serve_section import Serve, ServeSpec
from mlp.flows.ab import traffic_shares
from mlp.flows.project import Project
from mlp.flows.serving.logged_predictions import destination, journal


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """A server that would be started, and what would answer. `state` has its password, if any."""

    spec: ServeSpec
    traffic: Traffic
    state: str
    folder: Path


def plan(project: Project, given: Mapping[str, Any]) -> ServingPlan:
    """The server of mlp.yaml, with the keys of `serve` that are `given`.

    Raises MissingExtraError where what serving needs is not installed, and ConfigurationError where
    there is nothing to serve.
    """
    http_server.check()
    model = project.model.name
    serve = Serve.model_validate(project.config.serve.model_dump() | dict(given))
    now = traffic_shares.current(project)
    if now.champion is None:
        raise ConfigurationError(
            f"model {model!r} has no champion: there is nothing to serve",
            fix="mlp models list shows its versions; mlp models promote VERSION --to champion",
        )
    if serve.token_env and not os.environ.get(serve.token_env):
        raise ConfigurationError(
            f"serve.token_env names {serve.token_env}, and that variable is not set",
            fix=f"export {serve.token_env}=TOKEN, with the token that requests have to bring",
        )
    if serve.log is not None:
        serve = serve.model_copy(update={"log": destination(project)})
    folder = project.layout.state / "serving"
    spec = ServeSpec(
        model=model,
        tracking_uri=project.tracking_uri,
        state=None,
        cache=str(folder / "versions"),
        journal=str(journal(project)),
        serve=serve,
        labels={"project": project.config.project},
    )
    return ServingPlan(spec, now, project.state, folder)


def execute(project: Project, planned: ServingPlan, *, as_json: bool = False) -> NoReturn:
    """Become the server, in this process. It says on standard output when it is ready.

    Raises ConfigurationError where the folder of the log cannot be made.
    """
    statefile.unlisted(project.layout.state)
    _make_log(planned.spec.serve.log)
    path = planned.folder / "spec.json"
    statefile.replace(path, planned.spec.model_dump_json(indent=2))
    path.chmod(0o600)  # an address may have a password
    os.environ[STATE] = planned.state
    os.chdir(project.root)
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", "mlp.runtime.serving", str(path)]
    os.execv(sys.executable, [*command, "--json"] if as_json else command)


def _make_log(log: str | None) -> None:
    if log is None or "://" in log:
        return
    try:
        statefile.unlisted(Path(log))
    except OSError as e:
        raise ConfigurationError(
            f"the folder of the log of predictions cannot be made: {log}",
            fix="set serve.log in mlp.yaml to a folder that can be written, or to null for no log",
            cause=str(e),
        ) from e
