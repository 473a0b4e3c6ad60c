"""A registry that is a SQLite file, and is moved away."""

import pytest

from tests.conftest import Make

pytestmark = pytest.mark.slow

CONFIG = "project: demo\nmodel: {name: answers, task: regression}\n"


def test_a_file_that_was_moved_away_is_missed_and_nothing_is_written_for_it(
    make_project: Make,
) -> None:
    project = make_project({"mlp.yaml": CONFIG})
    client = project.client()
    client.create_registered_model("answers")
    client.create_model_version("answers", str(project.root))
    client.set_registered_model_alias("answers", "champion", "1")
    before = project.mlp("models", "history", "--json").document["entries"]
    assert [entry["action"] for entry in before] == ["found"]
    file, elsewhere = project.root / "mlflow.db", project.root / "moved.db"
    file.rename(elsewhere)
    for command in (("list",), ("history",), ("rollback",), ("promote", "1")):
        missed = project.mlp("models", *command)
        assert missed.code == 3, (command, missed.out, missed.err)
        assert "there is no registry at" in missed.err
    assert not file.exists()
    elsewhere.rename(file)
    assert project.mlp("models", "history", "--json").document["entries"] == before
