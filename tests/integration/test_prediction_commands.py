"""`mlp predictions`: what was served is shown, labelled, asked about and packed."""

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from mlp.adapters.predictions import segments
from mlp.adapters.predictions.prediction_journal import PredictionJournal
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
    journal = PredictionJournal(journal_of(project), "demo", runs={"1": "0123abc"})
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


_ALIVE: list[PredictionJournal] = []  # a journal that nobody refers to would be sealed


def shown(project: Project, *arguments: str) -> list[tuple[Any, ...]]:
    document = project.call("predictions", "show", "--json", *arguments).document
    return [(r["request_id"], r["row"], r["version"]) for r in document["predictions"]]


def test_the_newest_are_shown_first_packed_or_not(project: Project) -> None:
    everything = [("c", 0, "2"), ("b", 0, "1"), ("b", 1, "1"), ("a", 0, "1")]
    assert shown(project) == everything
    _ALIVE.pop().rotate()
    done = project.call("predictions", "pack", "--json")
    assert (done.code, done.document["rows"], done.document["waiting"]) == (0, 4, 0)
    assert not list(segments.found(journal_of(project)))
    assert list((project.root / "predictions" / "predictions").glob("date=2027-01-15/*.parquet"))
    assert shown(project) == everything
    assert shown(project, "-n", "1") == everything[:1]
    assert shown(project, "--version", "1") == everything[1:]
    assert shown(project, "--route", "challenger") == everything[:1]
    text = project.call("predictions", "show", "-n", "2").out
    assert "too slow" in text
    assert "… 4 in all" in text


def test_what_there_is_none_of_is_named(project: Project) -> None:
    done = project.call("predictions", "show", "--version", "77", "--route", "shadow")
    assert done.out == "no prediction is of version 77 and the route shadow (in the log: 4)\n"
    done = project.call("predictions", "show", "--route", "shadows")
    assert done.code == 2
    assert "have: champion, challenger, shadow" in done.err and "did you mean 'shadow'" in done.err


def test_one_request_is_shown_with_all_that_is_known(project: Project) -> None:
    (row,) = project.call("predictions", "show", "--request", "a", "--json").document["rows"]
    assert (row["run_id"], row["user_key"], row["prediction"]) == ("0123abc", "anna", "1")
    assert json.loads(row["features"]) == {"x": 1.5, "user": "anna"}
    done = project.call("predictions", "show", "--request", "zzz")
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
    done = project.call("predictions", "label", file.name, "--json")
    assert done.document == {"labels": 3, "unknown": 1, "empty": 1, "strange": 0, "example": ""}
    sql = "SELECT request_id, row, label->>'$' AS label, label_number FROM labelled ORDER BY ALL"
    assert project.call("predictions", "query", sql, "--json").document["rows"] == [
        {"request_id": "a", "row": 0, "label": "1", "label_number": 1.0},
        {"request_id": "b", "row": 1, "label": "x", "label_number": None},
    ]
    assert (
        "! 1 of rows that the log does not have"
        in project.call("predictions", "label", file.name).out
    )


def test_labels_of_no_class_that_was_predicted_are_counted(project: Project) -> None:
    project.write({"odd.csv": "request_id,label,row\na,True,0\nb,[1],1\nb,zebra,1\n"})
    done = project.call("predictions", "label", "odd.csv")
    assert done.code == 0, done.err
    assert "1 label is of a class that no version has predicted, such as 'zebra'" in done.out


def test_a_label_of_a_class_that_is_a_text_stays_one(project: Project) -> None:
    """In CSV 101 and "101" are the same; what `prediction = label` compares is JSON."""
    answer = b'{"predictions": ["101", 7]}'
    journal = PredictionJournal(journal_of(project), "demo")
    journal.append(served("t", request=b'{"instances": [[1], [2]]}', response=answer))
    project.write({"classes.csv": "request_id,label,row\nt,101,0\nt,7,1\n"})
    assert project.call("predictions", "label", "classes.csv").out == "2 labels taken\n"
    sql = "SELECT label, prediction = label AS hit FROM labelled ORDER BY row"
    assert project.call("predictions", "query", sql, "--json").document["rows"] == [
        {"label": '"101"', "hit": True},
        {"label": "7", "hit": True},
    ]


def test_a_file_without_labels_is_refused_with_what_it_has(project: Project) -> None:
    head = "request_id,label,row\n"
    files = {
        "labels.csv": "id,label\n1,2\n",
        "labels.txt": "",
        "bad.csv": f"{head}a,1,0\n,1,0\n",
        "below.csv": f"{head}b,1,-1\nb,1,0\n",
        "word.csv": f"{head}b,1,x\nb,1,x\n",
        "half.csv": f"{head}b,1,1.5\n",
    }
    project.write(files)
    such = "a row that is not a position, such as {} of request b\n"
    for name, words in {
        "bad.csv": "bad.csv: a line has no request_id",
        "below.csv": "below.csv: a line has " + such.format("'-1'"),
        "word.csv": "word.csv: 2 lines have " + such.format("'x'"),
        "half.csv": "half.csv: a line has " + such.format("'1.5'"),
        "labels.csv": "has no column request_id (have: id, label)",
        "labels.txt": "labels come from .csv, .jsonl, .parquet files",
        "nothing.csv": "there is no file nothing.csv",
    }.items():
        done = project.call("predictions", "label", name)
        assert done.code == 2
        assert words in done.err


def test_labels_are_kept_as_they_were_told(project: Project) -> None:
    labels = ["1e400", '{"a": [1]}', "[1]", "true", "word", "null", "NaN"]
    table = pandas.DataFrame({"request_id": ["b"] * 7, "label": labels, "row": range(7)})
    table.to_csv(project.root / "labels.csv", index=False)
    lines = ['{"request_id": "c", "label": {"a": [1]}}', '{"request_id": "c", "label": null}']
    project.write({"labels.jsonl": "\n".join(lines), "one.csv": "request_id,label\na,1\nzzz,\n"})
    pandas.DataFrame({"request_id": ["a"], "label": [float("inf")]}).to_parquet(
        project.root / "labels.parquet"
    )
    for name in ("labels.csv", "labels.jsonl", "labels.parquet"):
        assert project.call("predictions", "label", name).code == 0
    sql = "SELECT label FROM labels ORDER BY request_id, row"
    told = [
        row["label"] for row in project.call("predictions", "query", sql, "--json").document["rows"]
    ]
    assert told == [
        *('"inf"', '"1e400"', '{"a":[1]}', "[1]", "true", '"word"', '"null"', '"NaN"'),
        '{"a":[1]}',
    ]
    done = project.call("predictions", "label", "one.csv")
    assert done.out == "1 label taken\n! 1 row of the file has no label\n"


def test_a_plan_is_shown_whole(project: Project) -> None:
    text = project.call("predictions", "query", "EXPLAIN SELECT count(*) FROM predictions").out
    assert "…" not in text and "explain_key" not in text
    assert len(text.splitlines()) > 5


def test_questions_read_and_do_not_write(project: Project) -> None:
    sql = "SELECT version, count(*) AS n FROM predictions GROUP BY ALL ORDER BY ALL"
    assert project.call("predictions", "query", sql, "--json").document == {
        "rows": [{"version": "1", "n": 3}, {"version": "2", "n": 1}],
        "more": False,
    }
    assert "request_id" in project.call("predictions", "query", "DESCRIBE predictions").out
    done = project.call("predictions", "query", "FROM predictions", "-n", "2")
    assert "more than 2 rows" in done.out
    for refused in (
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'written.csv'",
        "explain (analyze) COPY (SELECT 1) TO 'written.csv'",
        "/* */ explain analyze COPY (SELECT 1) TO 'written.csv'",
        "DROP VIEW predictions",
        "COPY predictions TO 'out.csv'",
        "SELECT 1; SELECT 2",
        "SELECT nothing FROM predictions",
        "SELEC",
    ):
        done = project.call("predictions", "query", refused)
        assert done.code == 2, done.err
        assert "fix:   ask about predictions, labels, latest, labelled, gaps" in done.err
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
    done = project.call("predictions", "show", "--config", "serve.log=null")
    assert done.code == 3
    assert "keeps no log of predictions" in done.err


def test_a_log_with_nothing_in_it_is_shown(make_project: Make) -> None:
    made = make_project({"mlp.yaml": MLP_YAML}, commit=False)
    done = made.call("predictions", "show")
    assert (done.code, done.out) == (0, "no predictions yet: mlp serve\n")
