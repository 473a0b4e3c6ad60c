import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlp.adapters import templates
from mlp.cli.main import call
from mlp.core import assets, config
from mlp.core.errors import ConfigurationError
from mlp.flows.scaffold import scaffolding

ODD_NAMES = ["my project", "größe 日本", "{{ 7 * 7 }}", "a: b #c", "yes", "12", "-x", "\"'\\ $HOME"]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and git as on a fresh machine: nobody's name is set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    return tmp_path


def run(*command: str, cwd: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "true"}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.e2e
@pytest.mark.parametrize("template", ["tabular", "lightning"])
def test_a_new_project_runs_with_bare_dvc_and_pytest(template: str, nowhere: Path) -> None:
    assert call(["init", "p", "--template", template]) == 0
    project = nowhere / "p"
    run("dvc", "repro", cwd=project)
    lock = (project / "dvc.lock").read_bytes()
    assert run("dvc", "status", "--json", cwd=project).strip() == "{}"
    assert set(run("git", "status", "--porcelain", cwd=project).splitlines()) == {
        "?? dvc.lock",
        "?? metrics/",
    }
    metrics = json.loads((project / "metrics" / "test.json").read_text())
    assert metrics["accuracy"] > metrics["baseline_accuracy"] + 0.2
    run("pytest", "-q", cwd=project)
    run("dvc", "repro", "--force", "--no-run-cache", "train", cwd=project)
    assert (project / "dvc.lock").read_bytes() == lock, "training again gave another model"


@pytest.mark.parametrize("template", ["tabular", "lightning"])
def test_the_first_commit_is_the_template_as_rendered(template: str, nowhere: Path) -> None:
    plan = scaffolding.plan(nowhere / "a" / "b" / "p", template)
    commit = scaffolding.make(plan)
    assert run("git", "status", "--porcelain", cwd=plan.root) == ""
    assert run("git", "rev-parse", "main", cwd=plan.root).strip() == commit
    listed = run("git", "ls-files", "-z", cwd=plan.root).split("\0")
    assert tuple(sorted(filter(None, listed))) == plan.names
    form = "%(trailers:key=Mlp-Template,valueonly)"
    trailer = run("git", "log", "-1", f"--format={form}", cwd=plan.root)
    assert trailer.split()[0] == template
    assert "analytics = false" in (plan.root / ".dvc" / "config").read_text().lower()


@pytest.mark.parametrize("template", ["tabular", "lightning"])
def test_a_project_has_what_was_promised(template: str) -> None:
    files = templates.render(assets.templates(), template, "p")
    assert {
        *("mlp.yaml", "dvc.yaml", "params.yaml", "MLproject", "README.md", "requirements.txt"),
        *(".gitignore", ".dvcignore", ".mlpignore", ".github/workflows/ci.yml"),
    } <= files.keys()
    stages = yaml.safe_load(files["dvc.yaml"])["stages"]
    assert list(stages) == ["fetch", "prepare", "train", "evaluate"]
    assert "train" in config.parse(files["mlp.yaml"].decode()).launch
    lr = yaml.safe_load(files["params.yaml"])["train"]["lr"]
    entry = yaml.safe_load(files["MLproject"])["entry_points"]["main"]
    assert entry["parameters"]["lr"]["default"] == lr
    assert str(Path.home()) not in b"".join(files.values()).decode()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_written_right_everywhere(name: str) -> None:
    files = templates.render(assets.templates(), "tabular", name)
    assert config.parse(files["mlp.yaml"].decode()).project == name
    assert yaml.safe_load(files["MLproject"])["name"] == name
    assert templates.answers(files[templates.ANSWERS].decode())["project"] == name
    assert files["README.md"].decode().splitlines()[0] == f"# {name}"


def test_a_name_with_a_space_makes_a_project(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["init", "deep/my project", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["project"] == "my project"
    assert shown["next"][0] == "cd 'deep/my project'"
    assert (nowhere / "deep" / "my project" / "mlp.yaml").is_file()


def test_a_machine_without_a_name_for_git_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["init", "p"]) == 0
    assert "git config --global user.name" in capsys.readouterr().out


def test_a_dry_run_makes_nothing(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["init", "p", "--dry-run", "--json"]) == 0
    assert "dvc.yaml" in json.loads(capsys.readouterr().out)["files"]
    assert not any(nowhere.iterdir())


def test_a_wrong_template_is_answered_with_the_nearest(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["init", "p", "--template", "lightnin"]) == 2
    assert "did you mean 'lightning'?" in capsys.readouterr().err
    assert not any(nowhere.iterdir())


def test_a_directory_with_something_in_it_is_refused(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (nowhere / "p").mkdir()
    (nowhere / "p" / "mine.txt").write_text("mine")
    assert call(["init", "p"]) == 3
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in (nowhere / "p").iterdir()] == ["mine.txt"]


def test_a_file_of_that_name_is_refused(nowhere: Path) -> None:
    (nowhere / "p").write_text("mine")
    assert call(["init", "p"]) == 3
    assert (nowhere / "p").read_text() == "mine"


def test_an_empty_directory_is_taken(nowhere: Path) -> None:
    assert call(["init", "."]) == 0
    assert config.parse((nowhere / "mlp.yaml").read_text()).project == nowhere.name


def test_inside_another_repository_it_is_one_of_its_own(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("git", "init", "-q", ".", cwd=nowhere)
    assert call(["init", "p"]) == 0
    assert str(nowhere) in capsys.readouterr().out
    top = run("git", "rev-parse", "--show-toplevel", cwd=nowhere / "p").strip()
    assert Path(top) == nowhere / "p"


def test_a_failure_leaves_nothing_behind(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = scaffolding.plan(nowhere / "a" / "b", "tabular")
    monkeypatch.setenv("PATH", str(nowhere / "no-git-here"))
    with pytest.raises(ConfigurationError, match="git is not installed"):
        scaffolding.make(plan)
    assert not any(nowhere.iterdir())
