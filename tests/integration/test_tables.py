"""DuckDB compares versions of tables as a person would count them."""

import gzip
import math
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlp.adapters import table_diff
from mlp.core.compare.table_changes import TableDifference, TableFormat, format_of
from mlp.core.errors import ConfigurationError

PARQUET = TableFormat("parquet", "none")
CSV = TableFormat("csv", "none")

ROW = st.tuples(
    st.sampled_from([None, -1, 0, 2**62]),
    st.sampled_from([None, math.nan, 0.0, -0.0, 1.5, math.inf, 1e300]),
    st.sampled_from([None, "", "x", "quote ' and \"", "ü\n"]),
)
SCHEMA = {"a": pa.int64(), "a'b \"c": pa.float64(), "ü*?": pa.string()}


def _parquet(path: Path, rows: list[tuple[object, ...]], order: list[int]) -> Path:
    names, types = list(SCHEMA), list(SCHEMA.values())
    columns = [pa.array([row[i] for row in rows], types[i]) for i in order]
    pq.write_table(pa.table(columns, names=[names[i] for i in order]), path)
    return path


def _key(value: object) -> object:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    return value


@settings(max_examples=60)
@given(st.lists(ROW, max_size=6), st.lists(ROW, max_size=6), st.permutations([0, 1, 2]))
def test_rows_are_counted_as_multisets_whatever_their_values_and_column_order(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[object, ...]],
    after: list[tuple[object, ...]],
    order: list[int],
) -> None:
    path = tmp_path_factory.mktemp("tables")
    found = table_diff.compare(
        _parquet(path / "b", before, [0, 1, 2]), _parquet(path / "a", after, order), PARQUET
    )
    old, new = (Counter(tuple(map(_key, row)) for row in rows) for rows in (before, after))
    assert (found.rows_before, found.rows_after) == (len(before), len(after))
    assert found.added == (new - old).total()
    assert found.removed == (old - new).total()
    assert found.unchanged == (old & new).total()
    moved = {
        name
        for i, name in enumerate(SCHEMA)
        if Counter(_key(r[i]) for r in before) != Counter(_key(r[i]) for r in after)
    }
    assert {column.name for column in found.columns} == moved
    for column in found.columns:
        assert math.isfinite(column.shift)


def _csv(tmp_path: Path, before: str, after: str, form: TableFormat = CSV) -> TableDifference:
    # Names that mean something to a shell, to SQL and to a glob.
    one, other = tmp_path / "it's \"[1]*.csv", tmp_path / "it's \"[2]*.csv"
    one.write_text(before, encoding="utf-8")
    other.write_text(after, encoding="utf-8")
    return table_diff.compare(one, other, form)


def test_numbers_are_summarised_without_their_gaps(tmp_path: Path) -> None:
    found = _csv(tmp_path, "delay,n\n1,1\n2,1\n3,1\nNA,1\n", "delay,n\n1,1\n2,1\n6,1\n,1\n")
    (delay,) = found.columns
    assert (delay.before.mean, delay.after.mean) == (2.0, 3.0)
    assert (delay.before.minimum, delay.before.maximum, delay.before.std) == (1.0, 3.0, 1.0)
    assert (delay.before.missing, delay.after.missing) == (1, 1)
    assert (found.added, found.removed) == (1, 1)


def test_added_and_removed_columns_and_new_types_are_named(tmp_path: Path) -> None:
    found = _csv(tmp_path, "a,b,c\n1,2,x\n2,3,y\n", "c,a,d\nx,1,5\ny,2.5,5\n")
    assert (found.columns_added, found.columns_removed) == (("d",), ("b",))
    assert [(t.name, t.before, t.after) for t in found.types] == [("a", "BIGINT", "DOUBLE")]
    assert (found.added, found.removed, found.unchanged) == (1, 1, 1)


def test_a_column_that_turned_into_text_is_compared_as_text(tmp_path: Path) -> None:
    found = _csv(tmp_path, "a,b\n1,x\n2,x\n", "a,b\n1,x\ntwo,x\n")
    assert (found.added, found.removed) == (1, 1)
    assert [column.kind for column in found.columns] == ["text"]


def test_another_order_is_no_difference(tmp_path: Path) -> None:
    found = _csv(tmp_path, "a,b\n1,x\n2,y\n", "b,a\ny,2\nx,1\n")
    assert (found.added, found.removed, found.columns) == (0, 0, ())


def test_values_that_moved_between_rows_are_changed_rows_and_no_changed_column(
    tmp_path: Path,
) -> None:
    found = _csv(tmp_path, "a,label\n1,x\n2,y\n", "a,label\n1,y\n2,x\n")
    assert (found.added, found.removed, found.columns) == (2, 2, ())


def test_text_says_how_many_values_and_which_are_frequent(tmp_path: Path) -> None:
    found = _csv(tmp_path, "c,n\nUA,1\nUA,1\nAA,1\n", "c,n\nUA,1\nB6,1\nAA,1\n")
    (column,) = found.columns
    assert (column.before.distinct, column.after.distinct) == (2, 3)
    assert list(column.before.top) == [("UA", 2), ("AA", 1)]
    assert column.shift == pytest.approx(1 / 3)


def test_texts_with_separators_do_not_mislead(tmp_path: Path) -> None:
    found = _csv(tmp_path, "note\nx|y\na|b\n", "note\nx|y\nc|d\n")
    assert (found.columns_added, found.columns_removed) == ((), ())
    assert (found.added, found.removed, found.unchanged) == (1, 1, 1)


def test_a_table_without_a_header_keeps_its_first_row(tmp_path: Path) -> None:
    found = _csv(tmp_path, "1,2\n3,4\n", "1,2\n3,5\n")
    assert (found.rows_before, found.unchanged) == (2, 1)


def test_a_version_without_rows_is_compared(tmp_path: Path) -> None:
    found = _csv(tmp_path, "a,b\n", "a,b\n1,x\n")
    assert (found.rows_before, found.added, found.removed, found.types) == (0, 1, 0, ())


def test_compressed_tables_and_json_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(gzip.compress(b"a,b\n1,x\n"))
    (tmp_path / "a").write_bytes(gzip.compress(b"a,b\n1,x\n2,y\n"))
    form = format_of("data/T.CSV.gz")
    assert form is not None
    assert table_diff.compare(tmp_path / "b", tmp_path / "a", form).added == 1
    found = _csv(
        tmp_path,
        '{"a": 1, "deep": {"b": [1]}}\n',
        '{"a": 1, "deep": {"b": [1]}}\n{"a": null, "deep": "x"}\n',
        TableFormat("jsonl", "none"),
    )
    assert (found.added, found.removed, found.unchanged) == (1, 0, 1)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_a_file_that_is_no_table_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_bytes(b'{"\xff\xfe\x00\x01", "\n' * 50)
    with pytest.raises(ConfigurationError, match="cannot be compared as tables") as failure:
        table_diff.compare(tmp_path / "b", tmp_path / "a", TableFormat(kind, "none"))
    assert failure.value.cause and "\n" not in failure.value.cause


def test_more_rows_than_memory_holds_are_still_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_diff, "MEMORY", "120MB")
    rows = 400_000
    for name, last in (("b", rows), ("a", rows + 7)):
        values = pa.array([f"{i:060d}" for i in range(last)])
        pq.write_table(pa.table({"key": values, "other": values}), tmp_path / name)
    found = table_diff.compare(tmp_path / "b", tmp_path / "a", PARQUET, scratch=tmp_path)
    assert (found.added, found.removed, found.unchanged) == (7, 0, rows)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
