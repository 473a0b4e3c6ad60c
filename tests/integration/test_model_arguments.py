"""What `mlp models` does with versions and folders that nobody should have asked for."""

from pathlib import Path

import pytest

from tests.integration import model_store
from tests.integration.model_store import Store


@pytest.fixture(scope="module")
def store(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A project with one version."""
    folder = tmp_path_factory.mktemp("arguments")
    store = model_store.make(shared, folder / "project")
    store.register(model_store.save(folder / "saved"))
    return store


@pytest.mark.parametrize("number", ["²", "٣", "2147483648", "9" * 23, "9" * 5000, "0", "v", ""])
def test_a_number_that_no_version_has_is_a_wrong_call(store: Store, number: str) -> None:
    refused = store.mlp("show", number)
    assert refused.code == 2 and "has no version" in refused.err


def test_a_version_is_found_by_its_number_with_and_without_v(store: Store) -> None:
    for number in ("1", "v1"):
        assert store.ok("show", number)["version"]["version"] == "1"


@pytest.mark.parametrize("folder", ["", "."])
def test_a_package_is_not_made_over_where_one_is(store: Store, folder: str) -> None:
    refused = store.mlp("package", "1", "--to", folder)
    assert refused.code == 2 and "the directory you are in" in refused.err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--base", ""],
        ["--image", ""],
        ["--image", "t", "--base", ""],
        ["--base", "python:3.11"],
        ["--builder", "docker"],
        ["a-flag-of-the-builder"],
    ],
)
def test_what_is_for_an_image_needs_one(store: Store, tmp_path: Path, wrong: list[str]) -> None:
    refused = store.mlp("package", "1", "--to", str(tmp_path / "p"), *wrong)
    assert refused.code == 2 and "fix:" in refused.err
    assert not (tmp_path / "p").exists()


def test_a_packages_folder_is_told_as_it_is(store: Store, tmp_path: Path) -> None:
    told = store.ok("package", "1", "--to", str(tmp_path / "a" / ".." / "p"))
    assert told["folder"] == str(tmp_path / "p")
    assert (tmp_path / "p" / "model.json").is_file()
    assert [entry.name for entry in tmp_path.iterdir()] == ["p"]
