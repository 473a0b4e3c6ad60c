import http.server
import json
import shlex
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest

from mlp.cli.main import call
from tests.conftest import Make, Project, single

pytestmark = pytest.mark.slow


def git(*arguments: str, cwd: Path) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.com")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def made(make_shared_project: Make) -> Project:
    """A project that has run once."""
    stages = single("train", "echo a > a.txt", outs=["a.txt"])
    ignored = "mlflow.db\na.txt\n"
    project = make_shared_project(
        {"dvc.yaml": stages, "mlp.yaml": "project: p\n", ".gitignore": ignored}
    )
    assert project.mlp("run", CI="1").code == 0
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    shutil.copytree(made.root, root)
    monkeypatch.chdir(root)
    return root


def checks(capsys: pytest.CaptureFixture[str], code: int) -> dict[str, Any]:
    capsys.readouterr()
    assert call(["doctor", "--json"]) == code
    shown = json.loads(capsys.readouterr().out)
    assert shown["healthy"] == (code == 0)
    return {check["name"]: check for check in shown["checks"]}


def test_a_half_made_store_is_recognised_and_made_anew(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As two processes leave it that make its tables at once."""
    store = project / "mlflow.db"
    store.unlink()
    for delivery in (project / ".mlp" / "runs").glob("*/delivery.json"):
        delivery.unlink()
    with closing(sqlite3.connect(store)) as half:
        half.execute("CREATE TABLE experiments (name)")
        half.execute("CREATE TABLE _alembic_tmp_tags (key)")
    found = checks(capsys, 3)["mlflow"]
    assert "is incomplete" in found["message"] and f"mv {store}" in found["fix"], found
    assert call(["runs", "list"]) == 3
    assert "is incomplete" in capsys.readouterr().err
    store.rename(f"{store}.broken")
    assert call(["runs", "sync"]) == 0
    with closing(sqlite3.connect(store)) as whole:
        (count,) = whole.execute("SELECT count(*) FROM runs").fetchone()
    assert count == 2, "the pipeline's and the stage's"


def test_a_project_in_order_has_no_problem_and_is_left_as_it_was(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (project / "mlflow.db").read_bytes()
    unsaved = git("status", "--porcelain", cwd=project)
    found = checks(capsys, 0)
    assert {c["name"]: c["verdict"] for c in found.values()} == {
        "python": "ok",
        "training": "ok",
        "gpu": "ok",
        "git": "ok",
        "mlp.yaml": "ok",
        "pipeline": "ok",
        "disk": "ok",
        "state": "ok",
        "record": "ok",
        "data remote": "note",
        "mlflow": "ok",
    }
    assert "dvc remote add" in found["data remote"]["fix"]
    assert (project / "mlflow.db").read_bytes() == before
    assert git("status", "--porcelain", cwd=project) == unsaved


def test_outside_of_a_project_it_says_what_to_begin_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = checks(capsys, 3)
    assert "mlp init" in found["mlp.yaml"]["fix"]
    assert found["git"]["fix"] == "git init"
    assert found["pipeline"]["fix"] == "dvc init"
    assert found["mlflow"]["verdict"] == "unknown"
    assert list(tmp_path.iterdir()) == []


def test_every_mistake_of_mlp_yaml_is_listed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mlp.yaml").write_text("projekt: p\ntracking: {url: x}\n")
    found = checks(capsys, 3)
    assert len(found["mlp.yaml"]["cause"].splitlines()) == 3
    assert found["pipeline"]["verdict"] == "ok"  # the rest is looked at all the same


def test_a_launched_stage_that_is_not_there_is_answered_with_the_nearest(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mlp.yaml").write_text("project: p\nlaunch: {trian: {}}\n")
    found = checks(capsys, 3)["launch"]
    assert found["message"] == "'trian' is not a stage of dvc.yaml, did you mean 'train'?"


def test_stages_that_train_together_are_tried_with_torchrun(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mlp.yaml").write_text(
        "project: p\nlaunch: {train: {strategy: ddp, processes_per_node: 2}}\n"
    )
    found = checks(capsys, 0)
    assert found["torchrun"]["verdict"] == "ok"
    assert found["launch"]["verdict"] == "ok"


def test_a_damaged_lock_comes_with_its_fix(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "dvc.lock").write_text("<<<<<<< HEAD\nschema: '2.0'\n=======\n")
    found = checks(capsys, 3)["pipeline"]
    assert "dvc.lock" in found["message"]
    assert "git checkout dvc.lock" in found["fix"]


def test_without_git_on_the_path_that_is_the_problem(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks(capsys, 3)["git"]["fix"] == "install git"


def test_a_repository_without_a_commit_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "-q", cwd=tmp_path)
    assert "git commit" in checks(capsys, 3)["git"]["fix"]


def test_a_data_remote_that_answers_is_told_from_an_empty_one(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["dvc", "remote", "add", "-q", "-d", "r", str(tmp_path / "none")], check=True)
    found = checks(capsys, 0)["data remote"]
    assert (found["verdict"], found["fix"]) == ("note", "dvc push")
    subprocess.run(["dvc", "push", "-q"], check=True)
    assert checks(capsys, 0)["data remote"]["verdict"] == "ok"


def test_a_data_remote_that_cannot_be_used_is_a_problem_with_its_reason(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    subprocess.run(["dvc", "remote", "add", "-q", "-d", "r", "s3://bucket/data"], check=True)
    subprocess.run(
        ["dvc", "remote", "modify", "r", "endpointurl", "http://127.0.0.1:9"], check=True
    )
    found = checks(capsys, 3)["data remote"]
    assert found["verdict"] == "problem"
    assert "credentials" in found["cause"]


def test_a_store_of_another_mlflow_version_is_found_and_not_changed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    found = checks(capsys, 3)["mlflow"]
    assert "mlflow db upgrade" in found["fix"]
    assert "451aebb31d03" in found["cause"]
    with sqlite3.connect(project / "mlflow.db") as database:
        assert database.execute("SELECT * FROM alembic_version").fetchone() == ("451aebb31d03",)


def test_a_file_that_is_no_database_is_found(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mlflow.db").write_text("this is a text, and a long one at that\n" * 50)
    assert "SQLite" in checks(capsys, 3)["mlflow"]["message"]


def test_a_server_that_is_away_is_a_problem_and_its_password_is_not_shown(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mlp.yaml").write_text(
        "project: p\ntracking: {uri: 'http://me:hunter22@127.0.0.1:9'}\n"
    )
    found = checks(capsys, 3)["mlflow"]
    assert found["message"] == "cannot reach MLflow at http://***@127.0.0.1:9"
    assert "hunter22" not in json.dumps(found)


@contextmanager
def server(ahead: float) -> Iterator[str]:
    """A tracking server whose clock is wrong."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"3.1.0")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(b"{}")

        def _answer(self, body: bytes) -> None:
            self.send_response_only(200)
            self.send_header("Date", formatdate(time() + ahead, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()


def test_a_server_that_answers_is_named_with_its_version(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(ahead=0) as address:
        (project / "mlp.yaml").write_text(f"project: p\ntracking: {{uri: '{address}'}}\n")
        found = checks(capsys, 0)
    assert found["mlflow"]["message"] == f"{address} answers (MLflow 3.1.0)"
    assert found["clock"]["verdict"] == "ok"


def test_a_clock_that_differs_from_the_servers_is_a_problem(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(ahead=3600) as address:
        (project / "mlp.yaml").write_text(f"project: p\ntracking: {{uri: '{address}'}}\n")
        found = checks(capsys, 3)["clock"]
    assert "ahead of" in found["message"]


def test_people_get_a_line_for_each_check_and_the_count_of_problems(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mlp.yaml").write_text("project: p\nlaunch: {trian: {}}\n")
    assert call(["doctor"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("problem  launch") for line in lines)
    assert any(line.strip().startswith("fix: correct") for line in lines)
    assert lines[-1] == "1 problem"


def test_a_remote_whose_package_is_missing_comes_with_the_command_that_installs_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["dvc", "remote", "add", "-q", "-d", "r", "gs://bucket/data"], check=True)
    assert checks(capsys, 3)["data remote"]["fix"] == "pip install dvc-gs"


def test_what_comes_after_a_check_without_a_problem_is_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("everything works\n\nnext:\n  mlp run\n")


# --- runs in another store ----------------------------------------------------------------------


def call_as_told(capsys: pytest.CaptureFixture[str], fix: str) -> str:
    """What the command in a fix prints; it is to succeed."""
    words = shlex.split(fix.partition("   ")[0])
    assert words.pop(0) == "mlp"
    capsys.readouterr()
    assert call(words) == 0
    return capsys.readouterr().out


def test_runs_of_the_store_before_are_told_with_the_command_that_shows_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [run] = (path.name for path in (project / ".mlp" / "runs").glob("????*") if path.is_dir())
    (project / "mlp.yaml").write_text("project: p\ntracking: {uri: 'sqlite:///new.db'}\n")
    found = checks(capsys, 0)["runs"]
    assert (found["verdict"], "sqlite:///mlflow.db" in found["message"]) == ("note", True)
    assert run[:8] in call_as_told(capsys, found["fix"])
    for reference in (run[:8], "last", "nobody"):
        assert call(["runs", "show", reference]) == 2
        told = capsys.readouterr().err
        assert "sqlite:///mlflow.db" in told
        assert run[:8] in call_as_told(capsys, told.partition("fix:   ")[2].strip())
    assert call(["runs", "list"]) == 0
    told = capsys.readouterr().out
    assert run[:8] in call_as_told(capsys, told.partition("sqlite:///mlflow.db: ")[2].strip())


def test_the_runs_of_another_environment_are_where_they_belong(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "project: p\nenvs: {prod: {tracking: {uri: 'sqlite:///prod.db'}}}\n"
    (project / "mlp.yaml").write_text(text)
    [run] = (path.name for path in (project / ".mlp" / "runs").glob("????*") if path.is_dir())
    monkeypatch.setenv("MLP_ENV", "prod")
    assert call(["runs", "show", run[:8]]) == 2
    told = capsys.readouterr().err
    assert run[:8] in call_as_told(capsys, told.partition("fix:   ")[2].strip())
    assert "runs" not in checks(capsys, 0)
