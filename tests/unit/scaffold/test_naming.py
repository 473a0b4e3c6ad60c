import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlp.core import config
from mlp.core.errors import UsageError
from mlp.core.scaffold.naming import project_name, yaml_text

# What a file can be called: any text, and bytes that are no text.
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.binary(min_size=1, max_size=40).map(os.fsdecode),
)
PARTS = NAMES.filter(
    lambda text: not {"/", "\0"} & set(text) and text not in (".", "..") and text.strip() != ""
)


@given(PARTS)
def test_a_name_reads_back_from_yaml_as_it_was(part: str) -> None:
    name = project_name(Path("/nowhere") / part)
    assert yaml.safe_load(yaml_text(name)) == name
    assert config.parse(f"project: {yaml_text(name)}\n").project == name


@given(PARTS)
def test_a_name_is_one_printable_line(part: str) -> None:
    name = project_name(Path("/nowhere") / part)
    assert name.isprintable()
    assert name == name.strip() != ""


@pytest.mark.parametrize("name", ["my project", "größe", "日本", "yes", "12", "a:b #c", "{{ 7 }}"])
def test_a_printable_name_stays_as_it_is(name: str) -> None:
    assert project_name(Path("a/b") / name) == name


def test_the_name_is_that_of_the_directory_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert project_name(Path()) == tmp_path.name
    assert project_name(Path("a/b/..")) == "a"


@pytest.mark.parametrize("path", ["/", "/nowhere/ "])
def test_no_name_is_refused(path: str) -> None:
    with pytest.raises(UsageError):
        project_name(Path(path))
