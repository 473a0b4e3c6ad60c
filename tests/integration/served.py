"""A running model server for tests: MLflow on SQLite, models that do what a request says."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from mlflow import MlflowClient

from mlp.adapters.base import folder_digests
from mlp.adapters.state import StateDatabase, open_state
from mlp.core.models.ledger import Action, LedgerEntry

MODEL = "demo"
# It answers with its number; what `do` says happens where it is made to obey.
MODEL_PY = """
import ctypes
import os
import sys
import threading
import time

import mlflow
from mlflow.pyfunc import PythonModel


class Model(PythonModel):
    kept = []

    def predict(self, context, model_input, params=None):
        config = context.model_config
        if config["obeys"]:
            for what in model_input["do"]:
                self.do(what)
        return [config["says"]] * len(model_input)

    def do(self, what):
        if what == "raise":
            raise RuntimeError("as told")
        if what == "hang":
            time.sleep(3600)
        if what == "wait":
            time.sleep(0.5)
        if what == "segfault":
            ctypes.string_at(0)
        if what == "linger":
            threading.Thread(target=time.sleep, args=(3600,)).start()
            sys.exit(3)
        if what == "fork":
            os.fork()
            time.sleep(3600)
        while what == "leak":
            self.kept.append(b"x" * 30_000_000)


mlflow.models.set_model(Model())
"""
# It answers with what two modules say that it brings: one is read when it loads, one when asked.
CODE_PY = """
import mlflow
from mlflow.pyfunc import PythonModel


class Model(PythonModel):
    def load_context(self, context):
        import prep_features
        self.says = prep_features.SAYS

    def predict(self, context, model_input, params=None):
        import prep_later
        return [self.says + prep_later.SAYS] * len(model_input)


mlflow.models.set_model(Model())
"""


@dataclass
class World:
    """A registry and a ledger, beside which servers run."""

    root: Path
    client: MlflowClient = field(init=False)
    state: StateDatabase = field(init=False)

    def __post_init__(self) -> None:
        self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        self.state = open_state(self.state_uri)

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.root}/mlflow.db"

    @property
    def state_uri(self) -> str:
        return f"sqlite:///{self.root}/state.db"

    def register(self, *, obeys: bool = False, says: str = "") -> str:
        """Another version, with its digest in the ledger; it answers with its number.

        With `says`, a number in Python, it brings modules along, and answers with twice of that.
        """
        import pandas
        from mlflow.models import infer_signature
        from mlflow.pyfunc import save_model

        if not self.client.search_registered_models():
            self.client.create_registered_model(MODEL)
        number = len(self.client.search_model_versions(f"name = '{MODEL}'")) + 1
        folder = self.root / "models" / str(number)
        script = self.root / "model.py"
        script.write_text(CODE_PY if says else MODEL_PY)
        modules = [self.root / f"{name}.py" for name in ("prep_features", "prep_later") if says]
        for module in modules:
            module.write_text(f"SAYS = {says}\n")
        example = pandas.DataFrame({"user": ["a"], "do": [""]})
        save_model(
            folder,
            signature=infer_signature(example, [1]),
            python_model=str(script),
            code_paths=[str(module) for module in modules] or None,
            model_config={"says": number, "obeys": obeys},
            input_example=example,
            pip_requirements=[],
        )
        version = self.client.create_model_version(MODEL, str(folder)).version
        evidence = {"digest": folder_digests.of(folder)}
        self.state.append_next(
            LedgerEntry(MODEL, Action.REGISTERED, str(version), evidence=evidence)
        )
        return str(version)

    def files(self, version: str) -> Path:
        return self.root / "models" / version

    def alias(self, alias: str, version: str) -> None:
        self.client.set_registered_model_alias(MODEL, alias, version)

    def share(self, version: str, share: float, shadow: bool = False) -> None:
        evidence = {"share": share, "shadow": shadow}
        self.state.append_next(LedgerEntry(MODEL, Action.SHARED, version, evidence=evidence))

    def taken_out(self) -> list[LedgerEntry]:
        return [e for e in self.state.entries(MODEL) if e.action == Action.TAKEN_OUT]


def world(root: Path, empty_store: Path) -> World:
    root.mkdir(exist_ok=True)
    shutil.copyfile(empty_store, root / "mlflow.db")
    return World(root)


class Server:
    """`python -m mlp.runtime.serving`, ready when this is made."""

    def __init__(self, of: World, *, environ: Mapping[str, str] | None = None, **serve: Any):
        self.world = of
        self.log = of.root / "predictions"
        spec = {
            "model": MODEL,
            "tracking_uri": of.uri,
            "state": of.state_uri,
            "cache": str(of.root / "cache"),
            "journal": str(of.root / "journal"),
            "serve": {"port": 0, "poll": 0.2, "log": str(self.log), **serve},
        }
        path = of.root / "spec.json"
        path.write_text(json.dumps(spec))
        self.stderr = (of.root / "stderr").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlp.runtime.serving", str(path), "--json"],
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=os.environ | (environ or {}),
            start_new_session=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.said()
        self.url = json.loads(line)["address"]
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def said(self) -> str:
        return (self.world.root / "stderr").read_text()

    def predict(self, *rows: Mapping[str, Any], **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        records = [{"user": "a", "do": "", **row} for row in rows or ({},)]
        return self.client.post("/invocations", json={"dataframe_records": records}, headers=named)

    def route(self, key: str) -> str:
        """Who answers a user, asked on a connection of its own: any worker may answer."""
        headers = {"x-route-key": key, "connection": "close"}
        body = {"dataframe_records": [{"user": key, "do": ""}]}
        answer = self.client.post("/invocations", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-route"]

    def workers(self) -> dict[int, Any]:
        """What /ready tells, by worker; all of them are asked."""
        found: dict[int, Any] = {}
        expected = self.worker_pids()
        until(lambda: found.update(self._ready()) or set(found) >= expected)
        return {pid: about for pid, about in found.items() if pid in expected}

    def _ready(self) -> dict[int, Any]:
        about = httpx.get(self.url + "/ready").json()
        return {about["worker"]: about}

    def await_all(self, condition: Callable[[Any], bool]) -> None:
        """Until what /ready tells is so in every worker."""
        until(lambda: all(condition(about) for about in self.workers().values()))

    def worker_pids(self) -> set[int]:
        return children(self.process.pid, "mlp.runtime.serving.worker")

    def challenger_pids(self) -> set[int]:
        found: set[int] = set()
        for pid in self.worker_pids():
            found |= children(pid, "mlp.runtime.serving.challenger_process")
        return found

    def metric(self, line: str) -> float:
        """The value of the metric with that name and labels, 0 where there is none."""
        for text in self.client.get("/metrics").text.splitlines():
            name, _, value = text.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate()
        self.stderr.close()
        return self.process.returncode


def children(parent: int, module: str) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            its = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if its == parent and module.encode() in command:
            found.add(int(path.name))
    return found


def until(condition: Callable[[], Any], seconds: float = 300.0) -> Any:
    """What the condition gives when it is true at last."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
