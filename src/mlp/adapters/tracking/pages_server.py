"""MLflow's own pages (its web interface) on a store, served from this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from mlp.adapters.tracking.client import client
from mlp.core.runs.environment import QUIET
from mlp.core.runs.tracking_uri import artifacts_beside, file_of

_ASK_S = 5.0


def start(uri: str, host: str, port: int, root: Path, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start the server in a session of its own; `root` is where it runs, `log` gets its output.

    The store's address goes by the environment: it may hold a password.
    """
    variables = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
    variables |= QUIET | {
        "MLFLOW_BACKEND_STORE_URI": uri,
        # One process answers one user well, and starts in half the time.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Experiments made through the pages keep their artifacts where `mlp run` keeps its own.
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": _artifacts(uri, root),
    }
    if uri.startswith("sqlite:///") and not Path(file_of(uri)).exists():
        client(uri)  # makes its tables, before the server's processes all try to
    options = [f"--host={host}", f"--port={port}", "--workers=1"]
    return subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options],
        cwd=root,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # it has a child of its own: both are ended as one group
    )


_NOT_INHERITED = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
)


def experiment_page(address: str, experiment: str) -> str | None:
    """The page of an experiment at `address`, the start page while there is no such experiment.

    None where nothing answers there yet.
    """
    from urllib.error import HTTPError, URLError
    from urllib.parse import quote
    from urllib.request import ProxyHandler, build_opener

    # A proxy of the environment has no way to this machine.
    opener = build_opener(ProxyHandler({}))
    name = quote(experiment, safe="")
    question = f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}"
    try:
        with opener.open(question, timeout=_ASK_S) as answer:
            found = json.load(answer)["experiment"]["experiment_id"]
    except HTTPError as e:
        return address if e.code == 404 else None
    except (URLError, OSError, ValueError, KeyError):
        return None
    return f"{address}/#/experiments/{found}"


def _artifacts(uri: str, root: Path) -> str:
    if uri.startswith("sqlite:///"):
        return str(artifacts_beside(uri))
    return str(root / "mlartifacts")
