import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlp.cli.main import call
from mlp.core.runs.run_header import RunHeader

MLP = str(Path(sys.executable).parent / "mlp")
PIPELINE = """
stages:
  make: {cmd: "cp in.txt a.txt", deps: [in.txt], outs: [a.txt]}
  count: {cmd: "wc -c < a.txt > b.txt", deps: [a.txt], params: [x], outs: [b.txt]}
"""


def git(*arguments: str, cwd: Path) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.com")
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "my project"
    root.mkdir()
    monkeypatch.chdir(root)
    git("init", "-q", cwd=root)
    subprocess.run(["dvc", "init", "-q"], cwd=root, check=True)
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text("x: 1\n")
    (root / "mlp.yaml").write_text("project: p\n")
    (root / "in.txt").write_text("hello\n")
    (root / ".gitignore").write_text("a.txt\nb.txt\nmlflow.db\n")
    git("add", "-A", cwd=root)
    git("commit", "-qm", "first", cwd=root)
    return root


def status(capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert call(["status", "--json", *options]) == code
    return json.loads(capsys.readouterr().out)


def run() -> None:
    subprocess.run([MLP, "run"], check=False, capture_output=True)


def test_before_the_first_run_it_says_what_would_run_and_why(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = status(capsys)
    assert [(s["name"], s["runs"]) for s in shown["stages"]] == [("make", True), ("count", True)]
    assert shown["stages"][0]["reasons"] == ["it has not run yet"]
    assert shown["last_run"] is None
    assert shown["next"] == ["mlp run"]
    assert (shown["code"]["branch"], shown["code"]["dirty"]) in [("main", False), ("master", False)]


def test_after_a_run_nothing_is_left_to_do_and_the_run_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    shown = status(capsys)
    assert not any(stage["runs"] for stage in shown["stages"])
    assert shown["last_run"]["status"] == "FINISHED"
    assert (project / ".mlp" / "runs" / shown["last_run"]["run_id"]).is_dir()
    assert call(["status"]) == 0
    assert shown["last_run"]["run_id"][:8] in capsys.readouterr().out


def test_a_changed_param_is_a_reason(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    (project / "params.yaml").write_text("x: 2\n")
    shown = status(capsys)
    reasons = {stage["name"]: stage["reasons"] for stage in shown["stages"]}
    assert reasons == {"make": [], "count": ["param x is modified (params.yaml)"]}
    assert shown["code"]["changed"] == 1
    assert shown["next"][-1] == "mlp run"


def test_the_answer_does_not_wait_for_mlflow(project: Path) -> None:
    run()
    code = (
        "import sys; from mlp.cli.main import call; call(['status']);"
        "sys.exit('mlflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_failed_run_names_the_stage_and_its_log(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "dvc.yaml").write_text(
        PIPELINE.replace("wc -c < a.txt > b.txt", "echo oh no && false")
    )
    run()
    last = status(capsys)["last_run"]
    assert (last["status"], last["stage"]) == ("FAILED", "count")
    assert "oh no" in Path(last["log"]).read_text()


def test_a_run_that_goes_on_is_told_and_a_killed_one_is_not_running_for_ever(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(project / "begun")
    os.mkfifo(project / "gate")
    (project / "dvc.yaml").write_text(
        "stages:\n  slow: {cmd: 'echo > begun; cat gate', outs: [o.txt]}\n"
    )
    running = subprocess.Popen([MLP, "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        (project / "begun").read_text()
        shown = status(capsys)
        assert shown["last_run"]["status"] == "RUNNING"
        assert shown["last_run"]["stage"] == "slow"
        assert shown["stages"] is None  # looking would take DVC's lock
        assert shown["undelivered"] == []
    finally:
        running.send_signal(signal.SIGKILL)
        running.communicate()  # until the stage has ended too
    last = status(capsys)["last_run"]
    assert (last["status"], last["stage"]) == ("KILLED", "slow")


def test_an_undelivered_run_comes_with_the_reason(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_directory = project / ".mlp" / "runs" / ("0" * 32)
    run_directory.mkdir(parents=True)
    (run_directory / "run.json").write_text(
        RunHeader("0" * 32, "demo", None, started=1.0, pid=1).to_json()
    )
    (run_directory / "delivery.json").write_text('{"done": false, "error": "no way there"}')
    shown = status(capsys)
    assert shown["undelivered"] == [
        {"run_id": "0" * 32, "reason": "no way there", "delivering": False}
    ]
    assert "mlp runs sync" in shown["next"]


def test_a_pipeline_that_cannot_be_read_is_said_and_the_rest_is_shown(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "dvc.yaml").write_text("stages: {a: {cmdd: x}}\n")
    shown = status(capsys, code=3)
    assert shown["project"] == "p"
    assert shown["stages"] is None
    assert "dvc.yaml" in shown["problem"]["message"]
    assert shown["problem"]["fix"]


def test_without_git_it_works(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(project / ".git")
    subprocess.run(["dvc", "config", "core.no_scm", "true"], check=True)
    assert status(capsys)["code"] is None


def test_a_password_in_the_tracking_address_is_not_shown(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mlp.yaml").write_text(
        "project: p\ntracking: {uri: 'http://me:hunter22@example.com'}\n"
    )
    assert status(capsys)["tracking_uri"] == "http://***@example.com"
