from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.core.tracking_uri import absolute, relative

ROOT = Path("/srv/project")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///mlflow.db", "sqlite:////srv/project/mlflow.db"),
        ("sqlite:////var/mlflow.db", "sqlite:////var/mlflow.db"),
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("mlruns", "/srv/project/mlruns"),
        ("databricks", "databricks"),
        ("file:/tmp/x", "file:/tmp/x"),
    ],
)
def test_an_address_means_the_same_from_every_directory(uri: str, expected: str) -> None:
    assert absolute(uri, ROOT) == expected


@given(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=3))
def test_a_file_in_the_project_moves_with_it(parts: list[str]) -> None:
    uri = f"sqlite:///{'/'.join(parts)}"
    moved = Path("/elsewhere/project")
    assert absolute(relative(absolute(uri, ROOT), ROOT), moved) == absolute(uri, moved)


def test_a_file_outside_of_the_project_stays_where_it_is() -> None:
    assert relative("sqlite:////var/mlflow.db", ROOT) == "sqlite:////var/mlflow.db"
