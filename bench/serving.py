"""Model servers against each other: one worker, a logistic regression on 30 features, wrk.

Every server gets the same bytes, a row as `dataframe_split`, each request another row of another
user. Ours routes by user, a tenth to a challenger, writes every prediction down and counts it.
LitServe, MLflow's own server and uvicorn by hand only predict. In each turn every server is
started, warmed up and measured alone. Then the latency at half of our load, ours with two workers,
and batches of a thousand rows against the same model in a process. Prints one JSON document.
"""

import argparse
import http.client
import json
import os
import pickle
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peers
import turns

FEATURES = 30
CONNECTIONS = 8
LOGISTIC, FOREST = "logistic", "forest"
_REQUESTS = 500
_HERE = Path(__file__).parent
_READY_S = 60
_WRK_LUA = """\
local requests, at, pause = {}, 0, 0
function init(arguments)
  pause = tonumber(arguments[2])
  local count = 0
  for line in io.lines(arguments[1]) do
    count = count + 1
    local headers = {["Content-Type"] = "application/json", ["X-Route-Key"] = "user" .. count}
    requests[count] = wrk.format("POST", "/invocations", headers, line)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function delay()
  return math.floor(2 * pause * math.random() + 0.5)
end
"""


@dataclass(frozen=True)
class Server:
    """How a server is started for a port."""

    command: Callable[[int], Sequence[str]]
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """What wrk saw: requests a second, and latencies in milliseconds by percentile."""

    rate: float
    latency: Mapping[str, float]


class Bench:
    """A model in a folder, in every form that the servers want, and the requests."""

    def __init__(self, folder: Path) -> None:
        import numpy as np
        import pandas as pd
        from sklearn.datasets import make_classification
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression

        self.folder = folder
        x, y = make_classification(5000, FEATURES, n_informative=10, random_state=0)
        self.frame = pd.DataFrame(x, columns=[f"feature_{i}" for i in range(FEATURES)])
        self.model = LogisticRegression(max_iter=1000).fit(self.frame, y)
        # By hand nobody keeps the names, of whose lack scikit-learn would warn at each request.
        plain = LogisticRegression(max_iter=1000).fit(x, y)
        assert np.array_equal(plain.coef_, self.model.coef_)
        (folder / "model.pkl").write_bytes(pickle.dumps(plain))
        rows = (self.frame.iloc[[i]].reset_index(drop=True) for i in range(_REQUESTS))
        bodies = [request(row) for row in rows]
        (folder / "requests").write_text("\n".join(bodies) + "\n", encoding="utf-8")
        (folder / "wrk.lua").write_text(_WRK_LUA, encoding="utf-8")
        self.first = bodies[0].encode()
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self._register(LOGISTIC, self.model)
        self._register(FOREST, RandomForestClassifier(100, random_state=0).fit(self.frame, y))

    def _register(self, name: str, model: Any) -> None:
        """Two versions in a registry, and the model in a folder for MLflow's own server."""
        import mlflow
        from mlflow.models import infer_signature

        mlflow.set_tracking_uri(self.uri)
        if mlflow.get_experiment_by_name("bench") is None:
            mlflow.create_experiment("bench", (self.folder / "artifacts").as_uri())
        mlflow.set_experiment("bench")
        logged = {
            "signature": infer_signature(self.frame, model.predict(self.frame)),
            "input_example": self.frame.head(2),
            "pip_requirements": ["scikit-learn"],
            "serialization_format": "cloudpickle",
        }
        mlflow.sklearn.save_model(model, str(self.folder / name), **logged)
        client = mlflow.MlflowClient()
        for alias in ("champion", "challenger"):
            with mlflow.start_run():
                made = mlflow.sklearn.log_model(
                    model, name="model", registered_model_name=name, **logged
                )
            client.set_registered_model_alias(name, alias, str(made.registered_model_version))

    def ours(self, workers: int = 1, model: str = LOGISTIC) -> Server:
        """Our server, with everything that it does beside predicting."""
        spec = {
            "model": model,
            "tracking_uri": self.uri,
            "state": f"sqlite:///{self.folder}/state.db",
            "cache": str(self.folder / "cache"),
            "journal": str(self.folder / "journal"),
            "serve": {
                "workers": workers,
                "challenger": 0.1,
                "log": str(self.folder / "predictions"),
            },
        }

        def command(port: int) -> Sequence[str]:
            spec["serve"]["port"] = port  # type: ignore[index]
            path = self.folder / f"spec-{workers}.json"
            path.write_text(json.dumps(spec), encoding="utf-8")
            return [sys.executable, "-m", "mlp.runtime.serving", str(path)]

        return Server(command)

    def servers(self) -> dict[str, Server]:
        """All that are compared, ours first."""
        model = str(self.folder / "model.pkl")

        def by_script(peer: str) -> Callable[[int], Sequence[str]]:
            script = str(_HERE / f"server_{peer}.py")
            return lambda port: [peers.program(peer), script, model, str(port)]

        saved = str(self.folder / LOGISTIC)
        mlflow = peers.program("mlflow", "mlflow")
        # Its servers are started as programs of its environment.
        path = {"PATH": f"{Path(mlflow).parent}{os.pathsep}{os.environ['PATH']}"}
        serve = [mlflow, "models", "serve", "-m", saved, "--env-manager", "local", "--workers", "1"]
        return {
            "mlp serve": self.ours(),
            "uvicorn": Server(by_script("uvicorn")),
            "litserve": Server(by_script("litserve")),
            "mlflow": Server(lambda port: [*serve, "--port", str(port)], path),
        }

    @contextmanager
    def running(self, server: Server) -> Iterator[int]:
        """A server's port, while it runs and is ready."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with (self.folder / "server.log").open("wb") as log:
            process = subprocess.Popen(
                server.command(port),
                env=turns.environment(server.variables),
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._await(port, process)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def _await(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        end = time.monotonic() + _READY_S
        while time.monotonic() < end and process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                post(connection, self.first)
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
            else:
                return
            finally:
                connection.close()
        raise SystemExit((self.folder / "server.log").read_text(encoding="utf-8")[-5000:])

    def wrk(
        self, port: int, seconds: int, pause_ms: float = 0, connections: int = CONNECTIONS
    ) -> Load:
        """Put load on it; with a pause each of the connections waits so long between requests."""
        command = [
            *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"),
            *("-s", self.folder / "wrk.lua"),
            *(f"http://127.0.0.1:{port}", "--", self.folder / "requests", f"{pause_ms:.2f}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
            raise SystemExit(done.stdout)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        parts = re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s)$", done.stdout, re.MULTILINE)
        scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}
        latency = {f"p{name}": float(value) * scale[unit] for name, value, unit in parts}
        assert rate is not None
        return Load(float(rate.group(1)), latency)

    def rate(self, workers: int) -> float:
        """Our requests a second with so many workers."""
        with self.running(self.ours(workers)) as port:
            self.wrk(port, 2)
            return self.wrk(port, 4, connections=2 * CONNECTIONS).rate

    def load(self, server: Server, seconds: int, pause_ms: float = 0) -> Load:
        """What a server bears, once it is warm."""
        with self.running(server) as port:
            self.wrk(port, 2)
            return self.wrk(port, seconds, pause_ms)


def request(frame: Any) -> str:
    """A scoring request as MLflow's clients send it."""
    return json.dumps({"dataframe_split": frame.to_dict(orient="split")})


def post(connection: http.client.HTTPConnection, body: bytes) -> None:
    """Ask for predictions, on a connection that stays open; raises OSError where none are made."""
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise OSError(f"{answer.status}: {text.decode()}")


def in_turns(bench: Bench, count: int, seconds: int) -> dict[str, list[Load]]:
    """All servers, one at a time, in an order that rotates."""
    servers = bench.servers()
    names = list(servers)
    found: dict[str, list[Load]] = {name: [] for name in names}
    for turn in range(count):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(bench.load(servers[name], seconds))
            print(f"turn {turn + 1}/{count}, {name}: {found[name][-1]}", file=sys.stderr)
    return found


def batches(bench: Bench, name: str, rows: int, count: int) -> dict[str, float]:
    """Seconds of a batch: over HTTP, in a process from the same JSON, and from a frame."""
    import mlflow
    import pandas as pd

    frame = bench.frame.head(rows)
    body = request(frame).encode()
    model = mlflow.pyfunc.load_model(str(bench.folder / name))

    def from_json() -> None:
        split = json.loads(body)["dataframe_split"]
        made = pd.DataFrame(split["data"], columns=split["columns"], index=split["index"])
        json.dumps({"predictions": model.predict(made).tolist()})

    with bench.running(bench.ours(model=name)) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        ways = {
            "http": lambda: post(connection, body),
            "from_json": from_json,
            "from_frame": lambda: model.predict(frame),
        }
        found = medians(ways, count)
        connection.close()
    print(f"batches, {name}: {found}", file=sys.stderr)
    return found


def medians(ways: Mapping[str, Callable[[], Any]], count: int) -> dict[str, float]:
    """Seconds that each takes, in the middle of so many, one after the other in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(count + 1):
        for name, action in ways.items():
            start = time.perf_counter()
            action()
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as folder:
        bench = Bench(Path(folder))
        loads = in_turns(bench, options.turns, options.seconds)
        rates = {name: [load.rate for load in each] for name, each in loads.items()}
        ours = statistics.median(rates["mlp serve"])
        # Each of the eight connections asks so often that it is half of the load; an answer takes
        # less than a millisecond of that, and wrk waits for whole ones.
        half = bench.load(bench.ours(), options.seconds, pause_ms=2000 * CONNECTIONS / ours - 0.8)
        print(f"half load: {half}", file=sys.stderr)
        workers = {count: [bench.rate(count) for _ in range(options.turns)] for count in (1, 2)}
        print(f"workers: {workers}", file=sys.stderr)
        batch = {name: batches(bench, name, 1000, 50) for name in (LOGISTIC, FOREST)}
    figures = list(compared(rates))
    figures += [
        turns.figure(
            "p99 at half of that load",
            round(half.latency["p99"], 2),
            at_most=10,
            unit="ms",
            note=f"{half.rate:,.0f} requests/s",
        ),
        turns.figure(
            "two workers against one",
            round(statistics.median(workers[2]) / statistics.median(workers[1]), 2),
            at_least=1.3,
            note="both share two cores with their challengers and wrk",
        ),
    ]
    for name, base, what in (
        (FOREST, "from_frame", "the model on a frame in a process: a forest of 100 trees"),
        (LOGISTIC, "from_json", "the model in a process from the same JSON: logistic regression"),
    ):
        value = round(batch[name][base] / batch[name]["http"], 3)
        title = f"batches of 1,000 rows against {what}"
        figures.append(turns.figure(title, value, at_least=0.8))
    document = {
        "figures": figures,
        "requests_per_second": rates,
        "half_load": {"requests_per_second": half.rate, "milliseconds": dict(half.latency)},
        "requests_per_second_by_workers": workers,
        "batch_seconds": batch,
    }
    print(json.dumps(document, indent=2))


def compared(rates: Mapping[str, Sequence[float]]) -> Iterator[dict[str, Any]]:
    """Our requests a second against each peer's, turn by turn."""
    ours = rates["mlp serve"]
    targets = {"litserve": 2.0, "mlflow": 12.0, "uvicorn": 0.5}
    names = {"litserve": "LitServe", "mlflow": "`mlflow models serve`", "uvicorn": "bare uvicorn"}
    for peer, at_least in targets.items():
        ratios = [mine / theirs for mine, theirs in zip(ours, rates[peer], strict=True)]
        yield turns.figure(
            f"`mlp serve` against {names[peer]}, requests/s",
            round(statistics.median(ratios), 2),
            at_least=at_least,
            note=f"{statistics.median(ours):,.0f} against {statistics.median(rates[peer]):,.0f}",
        )


if __name__ == "__main__":
    main()
