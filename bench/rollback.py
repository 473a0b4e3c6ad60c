"""From `mlp models rollback` to the last answer of the version that was left.

A project on one machine (registry and ledger in SQLite) with two versions is served by two workers
and asked without a break, a new user each time. In each turn the newer version is made champion,
and rolled back by the command; the time runs from the start of the command. Once while nothing else
runs, once beside as many busy processes as there are cores. Prints one JSON document.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import turns

_MODEL = "answers"
_BODY = json.dumps({"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}).encode()
_PAUSE_S = 0.01
_GIVE_UP_S = 60.0


class Project:
    """A project in a folder, with versions 1 and 2 of its model."""

    def __init__(self, root: Path) -> None:
        import mlflow
        import pandas as pd
        from sklearn.dummy import DummyRegressor

        from mlp.adapters.base import folder_digests
        from mlp.core.models.model_version import VersionTag

        self.root = root
        serve = {"port": 0, "workers": 2, "log": None}
        config = {"project": "bench", "model": {"name": _MODEL, "task": "regression"}}
        (root / "mlp.yaml").write_text(json.dumps({**config, "serve": serve}), encoding="utf-8")
        mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
        mlflow.create_experiment("bench", (root / "artifacts").as_uri())
        mlflow.set_experiment("bench")
        self.client = mlflow.MlflowClient()
        table = pd.DataFrame({"x": [1.0, 2.0]})
        for number in (1.0, 2.0):
            model = DummyRegressor(strategy="constant", constant=number).fit(table, [0.0, 1.0])
            with mlflow.start_run():
                logged = mlflow.sklearn.log_model(model, name="model", input_example=table[:1])
            made = mlflow.register_model(logged.model_uri, _MODEL)
            place = Path(mlflow.artifacts.download_artifacts(logged.model_uri))
            digest = folder_digests.of(place)
            self.client.set_model_version_tag(_MODEL, made.version, VersionTag.DIGEST, digest)
        self.champion("1")

    def champion(self, version: str) -> None:
        """Let that version be champion, and the ledger know of it."""
        self.client.set_registered_model_alias(_MODEL, "champion", version)
        self.mlp("models", "list")

    def mlp(self, *arguments: str) -> None:
        """Run a command, which is to succeed."""
        command = [sys.executable, "-m", "mlp", *arguments]
        environ = turns.environment()
        subprocess.run(command, cwd=self.root, env=environ, check=True, capture_output=True)

    @contextlib.contextmanager
    def served(self) -> Iterator[tuple[str, int]]:
        """The host and port of its server, which is ready."""
        command = [sys.executable, "-m", "mlp", "serve", "--json"]
        with (self.root / "server.log").open("wb") as log:
            server = subprocess.Popen(
                command,
                cwd=self.root,
                env=turns.environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert server.stdout is not None
        try:
            address = json.loads(server.stdout.readline())["address"]
            host, _, port = address.removeprefix("http://").partition(":")
            yield host, int(port)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(_GIVE_UP_S)


class Asked:
    """A client that asks without a break, and when each version answered last."""

    def __init__(self, host: str, port: int) -> None:
        self.last: dict[str, float] = {}
        self._connection = http.client.HTTPConnection(host, port, timeout=_GIVE_UP_S)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Asked":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        for user in itertools.count():
            headers = {"Content-Type": "application/json", "X-Route-Key": f"user-{user}"}
            self._connection.request("POST", "/invocations", _BODY, headers)
            answer = self._connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"an answer with status {answer.status}")
            self.last[answer.headers["X-Model-Version"]] = time.monotonic()
            if self._over.wait(_PAUSE_S):
                return

    def until_only(self, version: str) -> None:
        """Wait until no other version has answered for a second."""
        end = time.monotonic() + _GIVE_UP_S
        while time.monotonic() < end:
            now, others = time.monotonic(), [t for v, t in self.last.items() if v != version]
            if now - self.last.get(version, 0) < 1 and all(now - t > 1 for t in others):
                return
            time.sleep(_PAUSE_S)
        raise SystemExit(f"version {version} does not answer alone after {_GIVE_UP_S:.0f} s")


def rolled_back(project: Project, asked: Asked, count: int) -> dict[str, list[float]]:
    """Seconds of the command, and until the last answer of the old version, for each turn."""
    found: dict[str, list[float]] = {"command": [], "last_old_answer": []}
    for turn in range(count):
        project.champion("2")
        asked.until_only("2")
        start = time.monotonic()
        project.mlp("models", "rollback", "--reason", "bench")
        found["command"].append(time.monotonic() - start)
        asked.until_only("1")
        found["last_old_answer"].append(asked.last["2"] - start)
        print(f"turn {turn + 1}/{count}: {found['last_old_answer'][-1]:.2f} s", file=sys.stderr)
    return found


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """As many busy processes as there are cores."""
    cores = len(os.sched_getaffinity(0))
    processes = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(cores)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _spin() -> None:
    while True:
        pass


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    seconds = {}
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as folder:
        project = Project(Path(folder))
        with project.served() as (host, port), Asked(host, port) as asked:
            asked.until_only("1")
            seconds["alone"] = rolled_back(project, asked, options.turns)
            with busy():
                seconds["busy"] = rolled_back(project, asked, options.turns)
    limits = {"alone": 1, "busy": 5}
    figures = [
        turns.figure(
            f"`mlp models rollback` until the last old answer, {where}",
            round(statistics.median(seconds[name]["last_old_answer"]), 1),
            at_most=limits[name],
            unit="s",
            note=f"slowest of {options.turns}: {max(seconds[name]['last_old_answer']):.1f} s;"
            f" the command takes {statistics.median(seconds[name]['command']):.1f} s",
        )
        for name, where in (
            ("alone", "nothing else running"),
            ("busy", "beside a busy process on each core"),
        )
    ]
    print(json.dumps({"figures": figures, "seconds": seconds}, indent=2))


if __name__ == "__main__":
    main()
