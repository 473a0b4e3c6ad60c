"""Everything recorded arrives in MLflow once, whatever happens to the server or the recorder."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlp.adapters.base.event_file import EventFile
from mlp.core.layout import RunLayout
from mlp.core.runs.recorded_run import Tag
from mlp.core.runs.run_header import RunHeader
from mlp.runtime.runs import recorder
from tests.conftest import BIN, Make, Project, Recorded, single

pytestmark = pytest.mark.slow

SCRIPT = """
import mlflow, mlp
for step in range(2500):
    mlp.log({"fast": step / 7}, step)
with mlflow.start_run():
    mlflow.log_params({f"p{i}": i for i in range(150)})
    mlflow.log_text("hello", "notes/a.txt")
    with mlflow.start_run(nested=True, run_name="inner"):
        mlflow.log_metric("deep", 1.0)
    mlflow.pyfunc.log_model(name="m", python_model=lambda model_input: model_input,
                            pip_requirements=[])
open("out", "w").write("x")
"""
POINTS = 2500
# What mlp says of a run, but for ids that are those of its store.
OWN_TAGS = set(vars(Tag).values()) - {Tag.PARENT}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Wire:
    """A server in front of MLflow's, that can keep the answer of a request to itself."""

    target: str
    port: int
    requests: int = 0
    hold: int = -1
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def serve(self) -> ThreadingHTTPServer:
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                wire.requests += 1
                number = wire.requests
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                kept = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                request = urllib.request.Request(
                    wire.target + self.path, body, kept, method=self.command
                )
                try:
                    with urllib.request.urlopen(request) as done:
                        code, data, kind = done.status, done.read(), done.headers["Content-Type"]
                except urllib.error.HTTPError as e:
                    code, data, kind = e.code, e.read(), e.headers["Content-Type"]
                if number == wire.hold:
                    wire.held.set()
                    wire.released.wait()
                    return
                self.send_response(code)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def server(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real `mlflow server` on a free port."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(shared / "mlflow.db", folder / "mlflow.db")
    port = free_port()
    process = subprocess.Popen(
        [
            *(str(BIN / "mlflow"), "server", "--workers", "1", "--port", str(port)),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        start_new_session=True,
    )
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line.decode())
        if b"Application startup complete" in line:
            break
    else:
        pytest.fail("".join(told))
    drain = threading.Thread(target=process.stdout.read, daemon=True)
    drain.start()
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass
class Away:
    """A project with a finished run whose server was away, and the port that it was to be at."""

    project: Project
    port: int
    told: str
    code: int

    def copy(self, experiment: str, to: Path) -> Path:
        """The undelivered run once more, for an experiment of its own."""
        run = to / self.project.runs[0].name
        shutil.copytree(self.project.runs[0], run)
        header = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(header | {"experiment": experiment}))
        return run


@pytest.fixture(scope="module")
def away(make_shared_project: Make) -> Away:
    port = free_port()
    project = make_shared_project(
        {
            "mlp.yaml": f"project: demo\ntracking: {{uri: 'http://127.0.0.1:{port}'}}\n",
            "dvc.yaml": single("train", "python train.py", deps=["train.py"], outs=["out"]),
            "train.py": SCRIPT,
        }
    )
    done = project.mlp("run")
    project.stop_recorders()
    return Away(project, port, done.out, done.code)


def deliver_until_held(run: Path, wire: Wire) -> None:
    """A recorder that is killed while it waits for the answer that the wire keeps."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlp.runtime.runs.recorder", str(run)], stderr=subprocess.DEVNULL
    )
    assert wire.held.wait(60)
    process.kill()
    process.wait()
    wire.released.set()


def contents(uri: str, experiment: str) -> list[Any]:
    """All that an experiment has, without the ids that a server draws."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    recorded = Recorded(client, list(runs))
    names = {run.info.run_id: run.info.run_name for run in runs}
    told = []
    for run in runs:
        tags = run.data.tags
        told.append(
            (
                run.info.run_name,
                run.info.status,
                names.get(tags.get("mlflow.parentRunId", "")),
                sorted(run.data.params.items()),
                {name: recorded.history(run, name) for name in run.data.metrics},
                sorted((k, v) for k, v in tags.items() if k in OWN_TAGS),
                sorted(recorded.artifacts(run)),
                sorted((i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs),
                len(run.outputs.model_outputs),
            )
        )
    models = client.search_logged_models([found.experiment_id])
    files = [{f.path for f in client.list_logged_model_artifacts(m.model_id)} for m in models]
    return [sorted(told, key=str), [(m.name, str(m.status)) for m in models], files]


def test_a_run_with_its_server_away_ends_well_and_says_so(away: Away) -> None:
    assert away.code == 0
    assert f"cannot reach MLflow at http://127.0.0.1:{away.port}" in away.told
    assert "nothing is lost" in away.told
    assert len(away.told.splitlines()) < 12


@pytest.fixture(scope="module")
def clean(away: Away, server: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, int]:
    """What arrives when nothing goes wrong, and how many requests that takes."""
    wire = Wire(server, away.port)
    serving = wire.serve()
    run = away.copy("clean", tmp_path_factory.mktemp("clean"))
    assert recorder.main([str(run)]) == 0
    serving.shutdown()
    serving.server_close()
    return contents(server, "clean"), wire.requests


def test_everything_arrives_on_the_server_once_it_is_back(clean: tuple[Any, int]) -> None:
    (runs, models, files), _ = clean
    told = {run[0]: run for run in runs}
    assert set(told) >= {"train", "inner"}
    assert told["train"][4]["fast"] == [(step, step / 7) for step in range(POINTS)]
    assert len(told["train"][3]) == 150
    assert told["train"][6] == ["logs/log.txt", "notes/a.txt"]
    assert told["train"][8] == 1
    assert told["inner"][2] == "train"
    assert models == [("m", "READY")]
    assert "MLmodel" in files[0]


def test_the_same_arrives_in_sqlite_as_on_a_server(
    away: Away, clean: tuple[Any, int], tmp_path: Path
) -> None:
    run = away.copy("clean", tmp_path)
    header = json.loads((run / "run.json").read_text())
    uri = f"sqlite:///{away.project.root}/mlflow.db"
    (run / "run.json").write_text(json.dumps(header | {"tracking_uri": uri}))
    assert recorder.main([str(run)]) == 0
    assert contents(uri, "clean") == clean[0]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.85, 0.95])
def test_a_recorder_killed_at_any_request_is_gone_on_from_without_repeats(
    away: Away, server: str, clean: tuple[Any, int], share: float, tmp_path: Path
) -> None:
    expected, requests = clean
    experiment = f"killed at {share}"
    run = away.copy(experiment, tmp_path)
    wire = Wire(server, away.port, hold=max(1, round(requests * share)))
    serving = wire.serve()
    try:
        deliver_until_held(run, wire)
        for _ in range(2):  # twice: what is delivered stays as it is
            assert recorder.main([str(run)]) == 0
    finally:
        serving.shutdown()
        serving.server_close()
    assert contents(server, experiment) == expected


def test_a_lost_note_of_progress_repeats_nothing(
    away: Away, server: str, clean: tuple[Any, int], tmp_path: Path
) -> None:
    serving = Wire(server, away.port).serve()
    run = away.copy("lost progress", tmp_path)
    try:
        for damage in (lambda p: None, Path.unlink, lambda p: p.write_text('{"offsets": {')):
            assert recorder.main([str(run)]) == 0
            damage(run / "delivery.json")
        assert recorder.main([str(run)]) == 0
    finally:
        serving.shutdown()
        serving.server_close()
    assert contents(server, "lost progress") == clean[0]


def test_a_cached_stage_finds_its_maker_though_both_are_delivered_late(
    away: Away, server: str
) -> None:
    document = away.project.mlp("run", "--json").document
    assert [stage["outcome"] for stage in document["stages"]] == ["cached"]
    away.project.stop_recorders()
    first, second = away.project.runs
    serving = Wire(server, away.port).serve()
    try:
        assert recorder.main([str(second), str(first)]) == 0
        recorded = Recorded.read(away.project.client(server))
    finally:
        serving.shutdown()
        serving.server_close()
    (maker,) = [r for r in recorded.all if r.data.tags.get(Tag.OUTCOME) == "cached"]
    assert maker.data.tags[Tag.CACHED_FROM]


# --- SQLite -------------------------------------------------------------------------------------


def test_two_runs_at_once_make_the_store_together(make_project: Make) -> None:
    project = make_project({"dvc.yaml": single("s", "true")})
    (project.root / "mlflow.db").unlink()
    assert [project.mlp("run").code for _ in range(2)] == [0, 0]
    assert len(project.recorded().pipelines) == 2
    assert [("cannot" in (run / "recorder.log").read_text()) for run in project.runs] == [False] * 2


def test_a_store_of_an_older_schema_is_told_with_the_fix_and_delivered_after_it(
    make_project: Make,
) -> None:
    project = make_project({"dvc.yaml": single("s", "true")})

    def stamp(version: str) -> str:
        with sqlite3.connect(project.root / "mlflow.db") as store:
            (before,) = store.execute("SELECT version_num FROM alembic_version").fetchone()
            store.execute("UPDATE alembic_version SET version_num = ?", (version,))
        return str(before)

    newest = stamp("451aebb31d03")
    done = project.mlp("run", CI="1")
    assert done.code == 0
    assert "mlflow db upgrade sqlite:///" in done.out
    assert "nothing is lost" in done.out
    done = project.mlp("run")  # this one does not wait, and tells all the same
    assert "mlflow db upgrade sqlite:///" in done.out
    project.await_recorders()
    stamp(newest)
    assert len(project.recorded().pipelines) == 2


def test_what_mlflow_refuses_is_left_out_and_everything_else_arrives(
    make_project: Make,
) -> None:
    project = make_project({"dvc.yaml": single("s", "true")})
    run = RunLayout(project.root / ".mlp" / "runs" / ("a" * 32))
    run.events.mkdir(parents=True)
    run.header.write_text(RunHeader(run.run_id, "demo", project.uri).to_json())
    journal = EventFile(str(run.events))
    journal.record("tags", "never started", values={"a": "b"})
    journal.record("run_started", run.run_id, name="n", tags={Tag.KIND: "pipeline"})
    journal.record("from the future", run.run_id, x=1)
    journal.record("params", run.run_id, values={"p": "1", "q": "x" * 9000})
    journal.record("params", run.run_id, values={"p": "2", "r": "3", "": "empty name"})
    journal.record("metrics", run.run_id, values={"bad": "words", "good": 1.5, "n": float("nan")})
    journal.record("metrics", run.run_id, values={"odd*name é": 2.0, "x" * 300: 1.0})
    journal.record("tags", run.run_id, values={"t": "y" * 9000})
    journal.record("file", run.run_id, path="no/such/file", to=None)
    journal.record("run_ended", run.run_id, status="FINISHED")
    (pipeline,) = project.recorded().pipelines
    assert pipeline.info.status == "FINISHED"
    assert pipeline.data.params["p"] == "1"
    assert pipeline.data.params["r"] == "3"
    assert len(pipeline.data.params["q"]) == 6000
    assert pipeline.data.metrics["good"] == 1.5
    assert "bad" not in pipeline.data.metrics
    assert pipeline.data.metrics["odd_name é"] == 2.0
    assert pipeline.data.tags["t"].startswith("y")
    refused = project.delivery(run.path)["refused"]
    assert any("params p" in line and "not allowed" in line for line in refused), refused
    told = [project.call("runs", "sync").out, project.call("runs", "show", run.run_id).out]
    told.append(project.call("doctor").out)
    assert all("MLflow" in text and "refused" in text for text in told), told
    assert project.call("runs", "show", run.run_id, "--json").document["refused"] == refused


def test_a_stage_and_the_recorder_that_open_a_new_store_at_once_make_it_whole(
    make_project: Make,
) -> None:
    search = "import mlflow; mlflow.search_runs(search_all_experiments=True)"
    project = make_project({"dvc.yaml": single("s", f'python -c "{search}"')})
    (project.root / "mlflow.db").unlink()
    done = project.mlp("run", CI="true")
    assert done.code == 0, done.err
    assert [run.info.status for run in project.recorded().pipelines] == ["FINISHED"]
    with contextlib.closing(sqlite3.connect(project.root / "mlflow.db")) as store:
        names = [name for (name,) in store.execute("SELECT name FROM sqlite_master")]
    assert "alembic_version" in names and not [n for n in names if n.startswith("_alembic_tmp")]


def test_a_stage_that_meets_an_incomplete_store_is_told_what_to_do(make_project: Make) -> None:
    search = "import mlflow; mlflow.search_runs(search_all_experiments=True)"
    project = make_project({"dvc.yaml": single("s", f'python -c "{search}"')})
    store = project.root / "mlflow.db"
    store.unlink()
    with contextlib.closing(sqlite3.connect(store)) as half:
        half.execute("CREATE TABLE experiments (name)")
        half.execute("CREATE TABLE _alembic_tmp_tags (key)")
    done = project.mlp("run")
    assert done.code == 6
    assert f"MlflowException: the MLflow store {store} is incomplete" in done.err
    assert f"mv {store}" in done.err and "sqlalchemy" not in done.err
    project.stop_recorders()


def test_without_a_name_and_a_password_the_variables_that_are_missing_are_named(
    make_project: Make,
) -> None:
    """And the record waits, until they are right; asking again would not make them so."""
    project = make_project({"dvc.yaml": single("s", "true")})
    asked: list[str] = []

    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(401, "You are not authenticated.")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        done = project.mlp("run", "--config", f"tracking.uri={uri}", CI="true")
        assert done.code == 0, done.err
        assert "does not know who you are" in done.out and "MLFLOW_TRACKING_USERNAME" in done.out
        refused = project.mlp("runs", "list", "--config", f"tracking.uri={uri}")
        assert refused.code == 5 and "MLFLOW_TRACKING_TOKEN" in refused.err, refused.err
        asked.clear()
        (run,) = (project.root / ".mlp" / "runs").glob("*/run.json")
        assert not recorder.follow(RunLayout(run.parent), patience=5.0)
        assert len(asked) == 1
        server.shutdown()
    project.stop_recorders()


def test_a_run_made_for_another_server_with_a_secret_waits_for_that_one(
    make_project: Make,
) -> None:
    project = make_project({"dvc.yaml": single("s", "true")})
    run = RunLayout(project.root / ".mlp" / "runs" / ("b" * 32))
    run.events.mkdir(parents=True)
    run.header.write_text(RunHeader(run.run_id, "demo", "http://***@elsewhere:1").to_json())
    EventFile(str(run.events)).record("run_started", run.run_id, name="n")
    assert project.mlp("run").code == 0
    project.await_recorders()
    assert project.delivery(project.runs[1])["done"]
    assert not project.delivery(run.path)["done"]
    assert "elsewhere" in project.delivery(run.path)["error"]
    assert len(Recorded.read(project.client()).pipelines) == 1
