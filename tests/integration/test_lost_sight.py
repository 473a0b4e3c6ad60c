"""A login that expires while a job is followed: the job goes on, and so does its run."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import MLP_YAML, Make, Project

pytestmark = pytest.mark.slow


class Api:
    """An API server that knows one Job, and whose answer to a watch is that the login is over."""

    def __init__(self) -> None:
        self.job: dict[str, Any] = {}
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                status, answer = 200, {"kind": "List", "items": []}
                if "watch=true" in query:
                    status, answer = 401, {"message": "Unauthorized"}
                elif path.endswith("/jobs"):
                    answer["items"] = [api.job]
                elif "/jobs/" in path:
                    answer = api.job
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kubeconfig(self, file: Path) -> str:
        server = f"http://127.0.0.1:{self.server.server_port}"
        file.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": server}}],
                    "users": [{"name": "me", "user": {"token": "expired"}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "me"}}],
                    "current-context": "c",
                }
            )
        )
        return str(file)


@pytest.fixture
def api() -> Iterator[Api]:
    started = Api()
    yield started
    started.server.shutdown()
    started.server.server_close()


def with_target(make_project: Make) -> Project:
    target = {"kind": "kubernetes", "image": "r.example/env:1", "tracking_uri": "http://mlflow.ml"}
    project = make_project(
        {
            "mlp.yaml": f"{MLP_YAML}targets: {json.dumps({'gpu': target})}\n",
            "dvc.yaml": json.dumps({"stages": {"train": {"cmd": "true", "outs": ["model.txt"]}}}),
        }
    )
    project.tool("dvc", "remote", "add", "--default", "storage", "s3://bucket/path")
    project.commit("the remote")
    return project


def test_a_login_that_expires_leaves_the_job_and_its_run_going(
    make_project: Make, api: Api, tmp_path: Path
) -> None:
    project = with_target(make_project)
    planned = project.mlp("train", "--target", "gpu", "--dry-run")
    assert planned.code == 0, planned.err
    [job] = [each for each in yaml.safe_load_all(planned.out) if each["kind"] == "Job"]
    job["metadata"] |= {
        "uid": "u-1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "resourceVersion": "1",
    }
    api.job = job
    name = job["metadata"]["name"]
    lost = project.mlp("jobs", "attach", name, KUBECONFIG=api.kubeconfig(tmp_path / "kubeconfig"))
    assert lost.code == 5, lost.err
    assert f"lost sight of job {name}, which goes on: the cluster does not know who" in lost.err
    assert (
        f"log in again; `kubectl auth whoami` shows who you are; then: mlp jobs attach {name}"
        in (lost.err.replace("\n", " "))
    )
    events = "".join(file.read_text() for file in (project.runs[-1] / "events").glob("*.jsonl"))
    assert '"run_detached"' in events and '"FAILED"' not in events
