from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from mlp.core.errors import ConfigurationError
from mlp.core.runs.tracking_uri import absolute, file_of, refuse_odd, relative

ROOT = Path("/srv/project")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///mlflow.db", "sqlite:////srv/project/mlflow.db"),
        ("sqlite:////var/mlflow.db", "sqlite:////var/mlflow.db"),
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("postgresql://u@h/db", "postgresql+psycopg2://u@h/db"),
        ("postgres://u@h/db", "postgresql+psycopg2://u@h/db"),
        ("mysql://u@h/db", "mysql://u@h/db"),
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


@given(st.text("ab/%?#@:=& 2350é", min_size=1))
def test_a_file_is_the_one_that_sqlalchemy_opens(path: str) -> None:
    uri = f"sqlite:///{path}"
    assert file_of(uri) == make_url(uri).database


@pytest.mark.parametrize("name", ["a?b", "c%20d", "e%3Ff", "100%a0"])
def test_a_directory_that_an_address_cannot_name_is_refused(name: str) -> None:
    for root in (Path("/srv") / name, Path("/srv") / name / "project"):
        with pytest.raises(ConfigurationError, match="cannot be a project") as refused:
            refuse_odd(root)
        assert "rename that directory" in refused.value.fix


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="?%/\0"), max_size=20))
def test_any_other_directory_means_itself_in_an_address(name: str) -> None:
    for root in (Path("/srv") / name, Path(f"/srv/100% {name}")):
        refuse_odd(root)
        assert make_url(absolute("sqlite:///mlflow.db", root)).database == f"{root}/mlflow.db"
