"""What may be asked of the log: questions that read it, and nothing that writes or reads else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlp.adapters.predictions import log_reading, questions
from mlp.adapters.predictions.pack import pack
from mlp.adapters.predictions.prediction_journal import PredictionJournal
from mlp.core.errors import UsageError
from tests.integration.prediction_writer import served

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@pytest.fixture(params=["folder", "memory"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where a log lies with one prediction in it: a folder, and an address as S3 is one."""
    where = str(tmp_path / "log") if request.param == "folder" else "memory://bucket/demo"
    if request.param == "memory":
        from fsspec.implementations.memory import MemoryFileSystem

        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
    journal = PredictionJournal(tmp_path / "journal", "demo")
    journal.append(served("a"))
    journal.close()
    assert pack(tmp_path / "journal", where).rows == 1
    return where


@pytest.fixture
def log(place: str) -> "Iterator[DuckDBPyConnection]":
    with log_reading.connect(place) as connection:
        yield connection


def asked(log: "DuckDBPyConnection", sql: str) -> object:
    questions.only_reads(log, sql)
    with log_reading.translated():
        return log.execute(sql).fetchall()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM predictions;",
        "FROM predictions",
        "TABLE predictions",
        "WITH p AS (SELECT * FROM predictions) SELECT count(*) FROM p UNION ALL VALUES (1)",
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) FROM n",
        "DESCRIBE predictions",
        "SUMMARIZE predictions",
        "SHOW TABLES",
        "EXPLAIN SELECT * FROM predictions",
        "explain analyze select * from predictions",
        "EXPLAIN (ANALYZE, FORMAT JSON) FROM predictions",
        "EXPLAIN (SELECT 1)",
        "SELECT ' explain copy '",
    ],
)
def test_questions_are_answered(log: "DuckDBPyConnection", sql: str) -> None:
    assert asked(log, sql)


WRITES = "COPY (SELECT 1) TO '{file}'"
NESTED = "WITH x AS (COPY (SELECT 1) TO '{file}') SELECT 1"


@pytest.mark.parametrize(
    "sql",
    [
        WRITES,
        f"EXPLAIN ANALYZE {WRITES}",
        f"EXPLAIN (ANALYZE) {WRITES}",
        f"/* */ EXPLAIN /* */ ANALYZE {WRITES}",
        NESTED,
        f"EXPLAIN ANALYZE {NESTED}",
        f"SELECT 1; {WRITES}",
        "FROM json_execute_serialized_sql(json_serialize_sql('{quoted}'))",
        "SELECT * FROM query('FROM json_execute_' || 'serialized_sql(json_serialize_sql(''x''))')",
        "WITH x AS (INSERT INTO unpacked VALUES ('a') RETURNING *) FROM x",
        "SELECT 1; SELECT 2",
        "ATTACH '{file}' AS other",
        "EXPORT DATABASE '{file}'",
        "CREATE TABLE t AS SELECT 1",
        "DROP VIEW predictions",
        "PRAGMA enable_profiling",
        "SET enable_external_access = true",
        "FROM enable_profiling(save_location := '{file}')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CALL query('SELECT 1')",
        "SELEC",
        "",
    ],
)
def test_nothing_is_written(
    log: "DuckDBPyConnection", place: str, sql: str, tmp_path: Path
) -> None:
    inside = tmp_path / "log" if place.startswith("/") else tmp_path
    inside.mkdir(exist_ok=True)
    for file in (tmp_path / "out.csv", inside / "out.csv"):
        quoted = NESTED.format(file=file).replace("'", "''")
        with pytest.raises(UsageError):
            asked(log, sql.format(file=file, quoted=quoted))
        assert not file.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '{file}'",
        "FROM read_csv('{file}')",
        "FROM read_text('{file}')",
        "FROM glob('{file}')",
        "FROM read_parquet(['{file}'])",
        "SELECT * FROM sniff_csv('{file}')",
    ],
)
def test_no_other_file_is_read(log: "DuckDBPyConnection", sql: str, tmp_path: Path) -> None:
    other = tmp_path / "secret.csv"
    other.write_text("a\n1\n")
    with pytest.raises(UsageError) as caught:
        asked(log, sql.format(file=other))
    assert "'1'" not in str(caught.value)


def test_a_table_that_is_not_there_is_answered_with_those_that_are(
    log: "DuckDBPyConnection",
) -> None:
    with pytest.raises(UsageError) as caught:
        asked(log, "FROM prediction")
    assert "'prediction' (have: predictions, labels, latest, labelled, gaps)" in str(caught.value)
    assert "did you mean 'predictions'?" in str(caught.value)
    assert "unpacked" not in json.dumps([str(caught.value), caught.value.cause, caught.value.fix])


def test_what_does_not_fit_into_memory_is_put_aside(tmp_path: Path) -> None:
    with log_reading.connect(tmp_path / "none", memory="40MB") as log:
        sql = "SELECT count(*) FROM (SELECT hash(i) AS h FROM range(8000000) t(i) ORDER BY h, -i)"
        assert asked(log, f"{sql} WHERE h > 0")
