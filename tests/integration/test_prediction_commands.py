"""`mlp predictions`: what was served is shown, labelled, asked about and packed."""

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from mlp.adapters.predictions import segments
from mlp.adapters.predictions.journal import Journal
from tests.conftest import Make, Project
from tests.integration.prediction_writer import served

MLP_YAML = "project: demo\nmodel: {name: demo}\n"


@pytest.fixture
def project(make_project: Make) -> Project:
    """A project whose server has answered three requests, one of them of two rows, and lives."""
    made = make_project({"mlp.yaml": MLP_YAML}, commit=False)
    fill(made)
    return made


def journal_of(project: Project) -> Path:
    return project.root / ".mlp" / "predictions"


def fill(project: Project) -> None:
    journal = Journal(journal_of(project), "demo", runs={"1": "0123abc"})
    journal.append(served("a", at=1_800_000_001, keys=["anna"]))
    journal.append(
        served(
            "b",
            at=1_800_000_002,
            request=b'{"instances": [[1], [2]]}',
            response=b'{"predictions": [0.5, "x"]}',
        )
    )
    journal.append(
        served("c", at=1_800_000_003, version="2", route="challenger", failed="too slow")
    )
    _ALIVE.append(journal)


_ALIVE: list[Journal] = []  # a journal that nobody refers to would be sealed


def shown(project: Project, *arguments: str) -> list[tuple[Any, ...]]:
    document = project.mlp("predictions", "show", "--json", *arguments).document
    return [(r["request_id"], r["row"], r["version"]) for r in document["predictions"]]


def test_the_newest_are_shown_first_packed_or_not(project: Project) -> None:
    everything = [("c", 0, "2"), ("b", 0, "1"), ("b", 1, "1"), ("a", 0, "1")]
    assert shown(project) == everything
    _ALIVE.pop().rotate()
    done = project.mlp("predictions", "pack", "--json")
    assert (done.code, done.document["rows"], done.document["waiting"]) == (0, 4, 0)
    assert not list(segments.found(journal_of(project)))
    assert list((project.root / "predictions" / "predictions").glob("date=2027-01-15/*.parquet"))
    assert shown(project) == everything
    assert shown(project, "-n", "1") == everything[:1]
    assert shown(project, "--version", "1") == everything[1:]
    assert shown(project, "--route", "challenger") == everything[:1]
    text = project.mlp("predictions", "show", "-n", "2").out
    assert "too slow" in text
    assert "… 4 in all" in text


def test_one_request_is_shown_with_all_that_is_known(project: Project) -> None:
    (row,) = project.mlp("predictions", "show", "--request", "a", "--json").document["rows"]
    assert (row["run_id"], row["user_key"], row["prediction"]) == ("0123abc", "anna", "1")
    assert json.loads(row["features"]) == {"x": 1.5, "user": "anna"}
    done = project.mlp("predictions", "show", "--request", "zzz")
    assert done.code == 2
    assert "the log has no request zzz" in done.err


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_labels_come_from_a_file_and_unknown_ones_are_counted(project: Project, kind: str) -> None:
    table = pandas.DataFrame(
        {
            "request_id": ["a", "b", "nobody", "c"],
            "label": ["1", "x", "1", None],
            "row": [0, 1, 0, 0],
        }
    )
    file = project.root / f"labels.{kind}"
    if kind == "csv":
        table.to_csv(file, index=False)
    elif kind == "jsonl":
        table.to_json(file, orient="records", lines=True)
    else:
        table.to_parquet(file)
    done = project.mlp("predictions", "label", file.name, "--json")
    assert done.document == {"labels": 3, "unknown": 1, "empty": 1}
    sql = "SELECT request_id, row, label->>'$' AS label, label_number FROM labelled ORDER BY ALL"
    assert project.mlp("predictions", "query", sql, "--json").document["rows"] == [
        {"request_id": "a", "row": 0, "label": "1", "label_number": 1.0},
        {"request_id": "b", "row": 1, "label": "x", "label_number": None},
    ]
    assert (
        "! 1 of rows that the log does not have"
        in project.mlp("predictions", "label", file.name).out
    )


def test_a_file_without_labels_is_refused_with_what_it_has(project: Project) -> None:
    bad = "request_id,label,row\na,1,0\n,1,0\na,1,-1\n"
    project.write({"labels.csv": "id,label\n1,2\n", "labels.txt": "", "bad.csv": bad})
    for name, words in {
        "bad.csv": "bad.csv: 2 lines have no request_id, or a row below 0",
        "labels.csv": "has no column request_id (have: id, label)",
        "labels.txt": "labels come from .csv, .jsonl, .parquet files",
        "nothing.csv": "there is no file nothing.csv",
    }.items():
        done = project.mlp("predictions", "label", name)
        assert done.code == 2
        assert words in done.err


def test_questions_read_and_do_not_write(project: Project) -> None:
    sql = "SELECT version, count(*) AS n FROM predictions GROUP BY ALL ORDER BY ALL"
    assert project.mlp("predictions", "query", sql, "--json").document == {
        "rows": [{"version": "1", "n": 3}, {"version": "2", "n": 1}],
        "more": False,
    }
    assert "request_id" in project.mlp("predictions", "query", "DESCRIBE predictions").out
    done = project.mlp("predictions", "query", "FROM predictions", "-n", "2")
    assert "more than 2 rows" in done.out
    for refused in (
        "DROP VIEW predictions",
        "COPY predictions TO 'out.csv'",
        "SELECT 1; SELECT 2",
        "SELECT nothing FROM predictions",
        "SELEC",
    ):
        done = project.mlp("predictions", "query", refused)
        assert done.code == 2, done.err
    assert not (project.root / "out.csv").exists()


def test_a_store_that_is_away_ends_with_5_and_what_waits(project: Project) -> None:
    _ALIVE.pop().rotate()
    away = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "k3y-of-nobody",
    }
    done = project.mlp("predictions", "pack", "--config", "serve.log=s3://bucket/log", **away)
    assert done.code == 5
    assert "! 1 journals" in done.out
    assert "nothing is lost" in done.out
    assert list(segments.found(journal_of(project)))


def test_a_project_without_a_log_says_so(project: Project) -> None:
    done = project.mlp("predictions", "show", "--config", "serve.log=null")
    assert done.code == 3
    assert "keeps no log of predictions" in done.err


def test_a_log_with_nothing_in_it_is_shown(make_project: Make) -> None:
    made = make_project({"mlp.yaml": MLP_YAML}, commit=False)
    done = made.mlp("predictions", "show")
    assert (done.code, done.out) == (0, "no predictions yet: mlp serve\n")
