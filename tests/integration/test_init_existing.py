import json
import subprocess
from pathlib import Path

import pytest

from mlp.adapters.tracking.client import client
from mlp.cli.main import call
from mlp.core import config
from mlp.flows import project as projects

PIPELINE = "stages:\n  {stage}:\n    cmd: echo hello > out.txt\n    outs: [out.txt]\n"


def git(*arguments: str, cwd: Path) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.com")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "flights of 2013"
    root.mkdir()
    monkeypatch.chdir(root)
    git("init", "-q", cwd=root)
    return root


def with_pipeline(root: Path, stage: str = "train") -> None:
    subprocess.run(["dvc", "init", "-q"], cwd=root, check=True)
    (root / "dvc.yaml").write_text(PIPELINE.format(stage=stage))
    git("add", "-A", cwd=root)
    git("commit", "-qm", "theirs", cwd=root)


def test_adopting_adds_mlp_yaml_and_touches_nothing_else(repository: Path) -> None:
    with_pipeline(repository)
    assert call(["init", "--existing"]) == 0
    assert git("status", "--porcelain", cwd=repository) == "?? mlp.yaml\n"
    made = config.parse((repository / "mlp.yaml").read_text())
    assert made.project == "flights of 2013"
    assert list(made.launch) == ["train"]


def test_the_runs_of_an_adopted_repository_are_nothing_for_git_to_list(repository: Path) -> None:
    with_pipeline(repository)
    assert call(["init", "--existing"]) == 0
    git("add", "mlp.yaml", cwd=repository)
    assert call(["runs", "list"]) == 0
    assert not (repository / ".mlp" / "mlflow.db").exists(), "to look makes nothing"
    client(projects.load(repository).tracking_uri)  # as whoever delivers the first run
    assert (repository / ".mlp" / "mlflow.db").is_file()
    assert git("status", "--porcelain", cwd=repository) == "A  mlp.yaml\n"


def test_without_a_stage_named_train_launching_is_only_hinted_at(repository: Path) -> None:
    with_pipeline(repository, stage="fit")
    assert call(["init", "--existing"]) == 0
    text = (repository / "mlp.yaml").read_text()
    assert "# launch:" in text
    assert config.parse(text).launch == {}


def test_a_directory_below_is_adopted_at_the_root_of_dvc(repository: Path) -> None:
    with_pipeline(repository)
    (repository / "src").mkdir()
    assert call(["init", "src", "--existing"]) == 0
    assert (repository / "mlp.yaml").is_file()


def test_a_dry_run_adds_nothing(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_pipeline(repository)
    assert call(["init", "--existing", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["mlp.yaml"]
    assert git("status", "--porcelain", cwd=repository) == ""


def test_an_mlp_yaml_that_is_there_stays_as_it_is(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_pipeline(repository)
    (repository / "mlp.yaml").write_text("project: mine\n")
    assert call(["init", "--existing"]) == 3
    assert "mlp run" in capsys.readouterr().err
    assert (repository / "mlp.yaml").read_text() == "project: mine\n"


def test_without_dvc_the_fix_is_dvc_init(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["init", "--existing"]) == 3
    assert "fix:   dvc init" in capsys.readouterr().err


def test_without_git_the_fix_is_git_init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(["init", "--existing"]) == 3
    assert "fix:   git init" in capsys.readouterr().err


def test_without_a_pipeline_the_fix_is_a_stage(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["dvc", "init", "-q"], cwd=repository, check=True)
    assert call(["init", "--existing"]) == 3
    assert "dvc stage add" in capsys.readouterr().err


def test_a_broken_dvc_yaml_is_one_clear_message(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_pipeline(repository)
    (repository / "dvc.yaml").write_text("stages: [\n")
    assert call(["init", "--existing"]) == 3
    assert "dvc.yaml" in capsys.readouterr().err
    assert not (repository / "mlp.yaml").exists()
