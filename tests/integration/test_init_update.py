import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mlp.cli.main import call
from mlp.core import assets
from mlp.core.errors import ConfigurationError, GateRefused
from mlp.flows.scaffold import scaffolding, template_update


def git(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for person in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{person}_NAME", "n")
        monkeypatch.setenv(f"GIT_{person}_EMAIL", "e@example.com")
    plan = scaffolding.plan(tmp_path / "p", "tabular")
    scaffolding.make(plan)
    monkeypatch.chdir(plan.root)
    return plan.root


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The templates of a later version: a line changed, a file added, a file gone."""
    folder = tmp_path / "newer"
    shutil.copytree(assets.templates(), folder)
    edit(folder / "tabular" / "requirements.txt", "pytest>=8", "pytest>=9")
    (folder / "shared" / "CONTRIBUTING.md.jinja").write_text("How to work on {{ project }}\n")
    (folder / "shared" / ".mlpignore.jinja").unlink()
    return folder


def test_an_update_keeps_the_users_edits_and_brings_the_templates(
    project: Path, newer: Path
) -> None:
    edit(project / "params.yaml", "lr: 0.01", "lr: 0.3")
    edit(project / "requirements.txt", "scikit-learn>=1.5,<2", "scikit-learn>=1.5,<2\nlightgbm")
    git("rm", "-q", "README.md", cwd=project)
    (project / ".dvc" / "config").write_text("[core]\n    analytics = false\n    remote = s3\n")
    git("commit", "-qam", "mine", cwd=project)
    (project / "dvc.lock").write_text("not added yet\n")

    update = template_update.plan(project, folder=newer)
    assert update.changed == (".mlpignore", "CONTRIBUTING.md", "requirements.txt")
    template_update.apply(update)

    assert git("status", "--porcelain", cwd=project) == "?? dvc.lock\n"
    requirements = (project / "requirements.txt").read_text()
    assert "lightgbm" in requirements
    assert "pytest>=9" in requirements
    assert "lr: 0.3" in (project / "params.yaml").read_text()
    assert (project / "CONTRIBUTING.md").read_text() == "How to work on p\n"
    assert not (project / ".mlpignore").exists()
    assert not (project / "README.md").exists()
    assert "remote = s3" in (project / ".dvc" / "config").read_text()


def test_a_second_update_builds_on_the_first(project: Path, newer: Path) -> None:
    edit(project / "params.yaml", "lr: 0.01", "lr: 0.3")
    git("commit", "-qam", "mine", cwd=project)
    first = template_update.apply(template_update.plan(project, folder=newer))
    assert template_update.plan(project, folder=newer).changed == ()
    edit(newer / "tabular" / "requirements.txt", "pytest>=9", "pytest>=10")
    update = template_update.plan(project, folder=newer)
    assert update.base == first
    assert update.changed == ("requirements.txt",)
    template_update.apply(update)
    assert "pytest>=10" in (project / "requirements.txt").read_text()
    assert "lr: 0.3" in (project / "params.yaml").read_text()


def test_a_clone_can_be_updated(project: Path, newer: Path, tmp_path: Path) -> None:
    git("clone", "-q", str(project), str(tmp_path / "clone"), cwd=tmp_path)
    template_update.apply(template_update.plan(tmp_path / "clone", folder=newer))
    assert "pytest>=9" in (tmp_path / "clone" / "requirements.txt").read_text()


def test_a_conflict_is_named_and_left_to_git(project: Path, newer: Path) -> None:
    edit(project / "requirements.txt", "pytest>=8", "pytest==8.1")
    git("commit", "-qam", "mine", cwd=project)
    with pytest.raises(GateRefused) as refused:
        template_update.apply(template_update.plan(project, folder=newer))
    assert refused.value.cause == "requirements.txt"
    assert "git add" in refused.value.fix
    assert "<<<<<<<" in (project / "requirements.txt").read_text()
    with pytest.raises(ConfigurationError, match="not committed"):
        template_update.plan(project, folder=newer)
    git("merge", "--abort", cwd=project)
    assert git("status", "--porcelain", cwd=project) == ""


def test_a_file_of_the_users_in_the_way_stops_the_update(project: Path, newer: Path) -> None:
    (project / "CONTRIBUTING.md").write_text("mine")
    with pytest.raises(ConfigurationError) as refused:
        template_update.apply(template_update.plan(project, folder=newer))
    assert "CONTRIBUTING.md" in refused.value.cause
    assert (project / "CONTRIBUTING.md").read_text() == "mine"


def test_changes_that_are_not_committed_are_refused(project: Path, newer: Path) -> None:
    edit(project / "params.yaml", "lr: 0.01", "lr: 0.3")
    with pytest.raises(ConfigurationError) as refused:
        template_update.plan(project, folder=newer)
    assert refused.value.cause == "params.yaml"


def test_a_plan_writes_nothing_into_the_repository(project: Path, newer: Path) -> None:
    before = sorted((project / ".git").rglob("*"))
    assert template_update.plan(project, folder=newer).changed
    assert sorted((project / ".git").rglob("*")) == before


def test_a_project_of_this_version_is_up_to_date(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["init", "--update", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["files"] == []
    assert shown["commit"] is None
    assert call(["init", "--update"]) == 0
    assert "already up to date" in capsys.readouterr().out


def test_a_repository_not_made_from_a_template_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["init", str(tmp_path), "--update"]) == 3
    git("init", "-q", cwd=tmp_path)
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.com")
    message = "Mlp-Template: spoken of only\n\nbody"
    git(*identity, "commit", "-q", "--allow-empty", "-m", message, cwd=tmp_path)
    assert call(["init", str(tmp_path), "--update"]) == 3
    assert "Mlp-Template" in capsys.readouterr().err


def test_a_shallow_clone_is_told_to_fetch_the_rest(project: Path, tmp_path: Path) -> None:
    edit(project / "params.yaml", "lr: 0.01", "lr: 0.3")
    git("commit", "-qam", "mine", cwd=project)
    git("clone", "-q", "--depth=1", project.as_uri(), str(tmp_path / "clone"), cwd=tmp_path)
    with pytest.raises(ConfigurationError) as refused:
        template_update.plan(tmp_path / "clone")
    assert refused.value.fix == "git fetch --unshallow"
