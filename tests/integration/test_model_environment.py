"""The Python that is made of a model's own requirements. Nothing here needs a network."""

import re
import shutil
import subprocess
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from mlp.adapters.base import model_requirements
from mlp.core.errors import ConfigurationError
from tests.integration import model_store
from tests.integration.wheels import HALVED, halving_model, wanting, wheel

pytestmark = pytest.mark.slow

# The packages of this Python, MLflow among them: what an index would give is not there offline.
BORROWED = {"borrowed.pth": sysconfig.get_path("purelib") + "\n"}

# An index that does not answer.
NOBODY = "http://127.0.0.1:9/simple"


@pytest.fixture(autouse=True)
def installer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv, or pip where a test asks for it, told nothing by this machine."""
    for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_RETRIES", "0")
    if getattr(request, "param", "uv") == "pip":
        monkeypatch.setattr(model_requirements, "installed_uv", lambda: None)


# uv is many times faster: pip is asked what differs.
with_pip = pytest.mark.parametrize("installer", ["pip"], indirect=True)
with_both = pytest.mark.parametrize("installer", ["uv", "pip"], indirect=True)


def halves(python: Path) -> float:
    command = [str(python), "-c", "from halved import half; print(half(3))"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_a_model_answers_in_an_environment_made_of_its_requirements(
    shared: Path, tmp_path: Path
) -> None:
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("halved")
    index = tmp_path / "index"
    wheel(index, "halved", HALVED)
    wheel(index, "borrowed", BORROWED)
    needs = ["--no-index", f"--find-links {index}", "halved==1.0", "borrowed"]
    saved = halving_model(tmp_path / "saved", needs)
    store = model_store.make(shared, tmp_path / "project")
    store.ask(champion=["prediction"])
    done = store.ok("promote", store.register(saved))
    detail = done["gates"][1]["detail"]
    assert re.fullmatch(r"it answers its example in .* s, in an environment made of .*", detail)
    [made] = (store.root / ".mlp" / "environments").glob("*/bin/python")
    assert halves(made) == 1.5


def test_an_environment_is_made_once_and_again_where_it_was_left_half_made(tmp_path: Path) -> None:
    file = wanting(tmp_path, [str(wheel(tmp_path, "halved", HALVED))])
    folder = tmp_path / "made"
    python = model_requirements.make(folder, file, "")
    (folder / "kept").touch()
    assert model_requirements.make(folder, file, "") == python and (folder / "kept").exists()
    shutil.rmtree(folder / "lib")
    (folder / "complete").unlink()
    assert halves(model_requirements.make(folder, file, "")) == 1.5
    assert not (folder / "kept").exists()


def test_an_environment_whose_python_is_gone_is_made_again(tmp_path: Path) -> None:
    file = wanting(tmp_path, [str(wheel(tmp_path, "halved", HALVED))])
    python = model_requirements.make(tmp_path / "made", file, "")
    python.unlink()
    python.symlink_to(tmp_path / "an older Python")
    assert halves(model_requirements.make(tmp_path / "made", file, "")) == 1.5


def test_packages_come_from_where_pip_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("halved", "other"):
        wheel(tmp_path / name, name, HALVED if name == "halved" else {})
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path / 'other'} {tmp_path / 'halved'}")
    monkeypatch.setenv("PIP_INDEX_URL", NOBODY)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    made = model_requirements.make(tmp_path / "made", wanting(tmp_path, ["halved", "other"]), "")
    assert halves(made) == 1.5


@pytest.mark.parametrize("which", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"])
def test_a_package_comes_from_the_index_that_pip_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    made = wheel(tmp_path / "index" / "halved", "halved", HALVED)
    made.with_name("index.html").write_text(f'<a href="{made.name}">{made.name}</a>')
    monkeypatch.setenv("PIP_INDEX_URL", NOBODY)
    monkeypatch.setenv(which, (tmp_path / "index").as_uri())
    python = model_requirements.make(tmp_path / "made", wanting(tmp_path, ["halved"]), "")
    assert halves(python) == 1.5


@with_pip
def test_what_only_this_process_finds_is_installed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wheel(tmp_path, "halved", HALVED)
    with zipfile.ZipFile(made) as archive:
        archive.extractall(tmp_path / "path")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    file = wanting(tmp_path, ["--no-index", f"--find-links {tmp_path}", "halved"])
    python = model_requirements.make(tmp_path / "made", file, "")
    monkeypatch.delenv("PYTHONPATH")
    assert halves(python) == 1.5


def test_a_wheel_that_the_model_brings_along_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "model" / "wheels", "halved", HALVED)
    monkeypatch.chdir(tmp_path)
    file = wanting(tmp_path / "model", ["wheels/halved-1.0-py3-none-any.whl"])
    assert halves(model_requirements.make(tmp_path / "made", file, "")) == 1.5


@with_both
def test_a_password_of_the_index_stays_secret_where_it_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = "http://me:correct-horse@127.0.0.1:9"
    monkeypatch.setenv("PIP_INDEX_URL", f"{index}/simple")
    for line in ("halved==1.0", f"halved = @ {index}/halved.whl"):  # the second is told as it is
        with pytest.raises(ConfigurationError) as refused:
            model_requirements.make(tmp_path / "made", wanting(tmp_path, [line]), "")
        assert "halved" in refused.value.cause
        assert "correct-horse" not in refused.value.cause
    assert not (tmp_path / "made" / "complete").exists()


def test_a_python_that_is_not_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"wants Python 3\.99\.1, .* no python3\.99 here"):
        model_requirements.make(tmp_path / "made", wanting(tmp_path, []), "3.99.1")
