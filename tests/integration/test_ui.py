import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from mlp.cli.main import call
from tests.conftest import Make, Project, single

pytestmark = pytest.mark.slow

MLP = str(Path(sys.executable).parent / "mlp")


@pytest.fixture(scope="module")
def made(make_shared_project: Make) -> Project:
    """A project that has run once."""
    stages = single("make", "echo a > a.txt", outs=["a.txt"])
    project = make_shared_project({"dvc.yaml": stages, "mlp.yaml": "project: p q\n"})
    assert project.mlp("run", CI="1").code == 0
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    shutil.copytree(made.root, root)
    monkeypatch.chdir(root)
    return root


@contextmanager
def pages(*options: str, end: signal.Signals = signal.SIGINT) -> Iterator[str]:
    """`mlp ui` for the block; it ends with exit code 0 and leaves nothing behind."""
    serving = subprocess.Popen(
        [MLP, "ui", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert serving.stdout
    try:
        line = serving.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), serving.communicate()
        yield line.split()[0]
    finally:
        serving.send_signal(end)
        errors = serving.communicate()[1]
    assert serving.returncode == 0, errors
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(line.split()[0])))


def port_of(address: str) -> int:
    return int(address.split("/")[2].split(":")[1])


def api(address: str, call: str, **question: Any) -> Any:
    base = address.partition("/#")[0]
    body = json.dumps(question).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{base}/api/2.0/mlflow/{call}", body, headers)) as answer:
        return json.load(answer)


def runs(address: str) -> list[Any]:
    found = api(
        address,
        "runs/search",
        experiment_ids=[address.rpartition("/")[2]],
        filter="tags.`mlp.kind` = 'pipeline'",
    )
    return list(found["runs"])


def test_the_pages_show_the_projects_runs_and_their_artifacts(project: Path) -> None:
    with pages() as address:
        base, _, page = address.partition("/#")
        with urlopen(base + "/") as answer:
            assert b"<html" in answer.read()
        experiments = api(address, "experiments/search", max_results=10)["experiments"]
        names = {e["experiment_id"]: e["name"] for e in experiments}
        assert names[page.rpartition("/")[2]] == "p q"
        (run,) = runs(address)
        artifact = f"/get-artifact?path=mlp/dvc.lock&run_uuid={run['info']['run_id']}"
        with urlopen(base + artifact) as answer:
            assert answer.read() == (project / "dvc.lock").read_bytes()


def test_what_mlflow_did_not_have_yet_comes_in(project: Path) -> None:
    (written,) = (project / ".mlp" / "runs").glob("*/run.json")
    header = json.loads(written.read_text())
    header["tracking_uri"] = f"sqlite:///{project}/mlflow.db"
    written.write_text(json.dumps(header))
    written.with_name("delivery.json").unlink()
    (project / "mlflow.db").unlink()
    with pages(end=signal.SIGTERM) as address:
        for _ in range(3000):
            experiments = api(address, "experiments/search", max_results=10)["experiments"]
            if "p q" in [e["name"] for e in experiments]:
                return
    pytest.fail("the run did not come")


def test_a_port_that_is_taken_is_refused_or_passed_over(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert call(["ui", "--port", str(port)]) == 3
        error = capsys.readouterr().err
        assert f"port {port} of 127.0.0.1 is taken" in error
        assert "leave --port out" in error
    from mlp.flows.runs import mlflow_pages as flow

    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(flow, "DEFAULT_PORT", other.getsockname()[1])
        assert flow.free_port("127.0.0.1") > other.getsockname()[1]


def test_a_tracking_server_serves_its_own_pages(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mlp.yaml").write_text("project: p\ntracking: {uri: 'http://example.com:5000'}\n")
    assert call(["ui", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"address": "http://example.com:5000"}


def test_a_store_that_mlflow_refuses_is_one_clear_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mlflow.db").write_text("this is a text, and a long one at that\n" * 50)
    assert call(["ui"]) == 3
    error = capsys.readouterr().err
    assert "cannot be read as a SQLite database" in error
    assert "Traceback" not in error


def test_a_host_that_is_not_this_machine_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["ui", "--host", "192.0.2.1"]) == 3
    assert "'192.0.2.1' is not an address of this machine" in capsys.readouterr().err
