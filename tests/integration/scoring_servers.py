"""Real servers of one model: ours, and MLflow's own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from mlflow import MlflowClient

BIN = Path(sys.executable).parent
# Sets are part of MLflow's messages: with the same seed all processes write them in one order.
_SAME = {"PYTHONHASHSEED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
_PATIENCE_S = 120


def registered(empty_store: Path, folder: Path, name: str, model: Path) -> str:
    """The address of a registry in `folder` in which the model is the champion of that name."""
    shutil.copyfile(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri, uri)
    client.create_registered_model(name)
    made = client.create_model_version(name, str(model))
    client.set_registered_model_alias(name, "champion", made.version)
    return uri


@contextmanager
def ours(folder: Path, name: str, uri: str, **serve: Any) -> Iterator[str]:
    """The address of our server once it is ready."""
    port = free_port()
    spec = {
        "model": name,
        "tracking_uri": uri,
        "state": f"sqlite:///{folder}/state.db",
        "cache": str(folder / "cache"),
        "journal": str(folder / "journal"),
        "serve": {"port": port, "log": str(folder / "predictions"), "drain": 1, **serve},
    }
    path = folder / "spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    command = [sys.executable, "-m", "mlp.runtime.serving", str(path)]
    with _running(command, port, "/ready", folder / "ours.log") as address:
        yield address


@contextmanager
def mlflows(folder: Path, model: Path) -> Iterator[str]:
    """The address of `mlflow models serve` once it is ready."""
    port = free_port()
    command = [
        *(str(BIN / "mlflow"), "models", "serve", "--model-uri", str(model)),
        *("--env-manager", "local", "--port", str(port), "--workers", "1"),
    ]
    with _running(command, port, "/ping", folder / "mlflow.log") as address:
        yield address


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: Sequence[str], port: int, path: str, log: Path) -> Iterator[str]:
    environment: Mapping[str, str] = {**os.environ, **_SAME}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _await(address + path, process, log)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(address, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)  # nothing tells that a port is bound
    raise AssertionError(log.read_text(encoding="utf-8"))
