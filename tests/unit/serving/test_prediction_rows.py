"""Requests become the rows that MLflow's server reads from them."""

import json
import math
from io import BytesIO, StringIO
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.pyfunc.scoring_server import infer_and_parse_data, parse_csv_input

from mlp.adapters.predictions import scored_rows

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
NAMES = st.lists(st.text("abcxyz_ 0é", min_size=1, max_size=4), min_size=1, max_size=4, unique=True)


def as_mlflow_does(document: dict[str, Any]) -> list[Any]:
    """The rows of what MLflow hands to a model without a signature."""
    parsed = infer_and_parse_data(json.loads(json.dumps(document)))
    if isinstance(parsed, dict):
        parsed = pandas.DataFrame({name: list(column) for name, column in parsed.items()})
    if isinstance(parsed, pandas.DataFrame):
        parsed.columns = parsed.columns.map(str)
        return [plain(row) for row in parsed.to_dict("records")]
    return [plain(row) for row in numpy.atleast_1d(parsed).tolist()]


def plain(value: Any) -> Any:
    """What is compared: as JSON, where what is missing, or no finite number, is null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, numpy.generic):
        value = value.item()
    if value is None or value is pandas.NaT:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(value) if isinstance(value, int | float) else value


def ours(body: bytes, content_type: str = "application/json") -> list[Any]:
    found = scored_rows.of_request(body, content_type)
    assert found is not None
    return [plain(row) for row in json.loads(scored_rows.dumps(found))]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[Any]]]:
    names = draw(NAMES)
    row = st.lists(VALUES, min_size=len(names), max_size=len(names))
    return names, draw(st.lists(row, min_size=1, max_size=5))


@given(tables(), st.sampled_from(["split", "bare", "records"]))
def test_tables_by_rows(table: tuple[list[str], list[list[Any]]], form: str) -> None:
    names, data = table
    records = [dict(zip(names, row, strict=True)) for row in data]
    document = {
        "split": {"dataframe_split": {"columns": names, "data": data}},
        "bare": {"dataframe_split": {"data": data}},
        "records": {"dataframe_records": records},
    }[form]
    assert ours(json.dumps(document).encode()) == as_mlflow_does(document)


@given(st.sampled_from(["instances", "inputs"]), st.data())
def test_tensors(form: str, data: st.DataObject) -> None:
    """Lists of records, of lists and of values, and tables by columns; of one type each."""
    number = st.floats(-1e6, 1e6)
    names = data.draw(NAMES)
    width = len(names)
    made = data.draw(
        st.lists(st.lists(number, min_size=width, max_size=width), min_size=1, max_size=4)
    )
    value = data.draw(
        st.sampled_from(
            [
                made,
                [row[0] for row in made],
                [[row, row] for row in made],
                [dict(zip(names, row, strict=True)) for row in made],
                {name: [row[i] for row in made] for i, name in enumerate(names)},
            ]
        )
    )
    assert ours(json.dumps({form: value}).encode()) == as_mlflow_does({form: value})


@given(tables())
@example((["a", "b"], [[None, "INFINITY"]]))
def test_csv(table: tuple[list[str], list[list[Any]]]) -> None:
    names, data = table
    text = pandas.DataFrame(data, columns=names).to_csv(index=False)
    parsed = parse_csv_input(StringIO(text))
    expected = [plain(row) for row in parsed.to_dict("records")]
    assert ours(text.encode(), "text/csv; charset=utf-8") == expected


def test_parquet() -> None:
    table = pandas.DataFrame({"a": [1, 2], "b": ["x", None]})
    file = BytesIO()
    table.to_parquet(file)
    assert ours(file.getvalue(), "application/vnd.apache.parquet") == [
        {"a": 1.0, "b": "x"},
        {"a": 2.0, "b": None},
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1, 2]",
        b"{",
        b"\xff\xfe",
        b'{"messages": []}',
        b'{"inputs": {"a": [1, 2], "b": [1]}}',
        b'{"inputs": [1], "instances": [1]}',
        b'{"dataframe_split": {"data": 5}}',
        b'{"dataframe_split": {"columns": 5, "data": [[1]]}}',
        b"[" * 100_000,
    ],
)
def test_what_has_no_rows_is_said_to_have_none(body: bytes) -> None:
    assert scored_rows.of_request(body, "application/json") is None


@given(st.binary(max_size=200), st.sampled_from(["application/json", "text/csv", "x"]))
def test_no_body_breaks_it(body: bytes, content_type: str) -> None:
    scored_rows.of_request(body, content_type)
    scored_rows.of_answer(body, None)


JSON = st.recursive(
    VALUES, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x)
)


@given(
    st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs"]),
    JSON | st.fixed_dictionaries({"data": JSON, "columns": JSON}),
)
def test_no_document_breaks_it(form: str, value: Any) -> None:
    found = scored_rows.of_request(json.dumps({form: value}).encode(), "application/json")
    assert found is None or all(isinstance(scored_rows.dumps(row), str) for row in found)


def test_duplicate_columns_keep_their_values() -> None:
    body = b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}'
    assert ours(body) == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *[(1, 1.0), (True, 1.0), ([2.5], 2.5), ({"0": 3}, 3.0), ([[4]], 4.0), ("5", 5.0)],
        *[(None, None), ("x", None), ([1, 2], None), ("nan", None), (10**400, None), ([], None)],
    ],
)
def test_the_number_of_a_prediction(value: Any, number: float | None) -> None:
    assert scored_rows.number(value) == number
