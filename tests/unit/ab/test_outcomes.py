"""Labels and predictions that are written differently and mean the same class."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.adapters.predictions.label_files import of_text
from mlp.core.ab.statistics.outcomes import classes, outcome


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("True", "true"),
        ("FALSE", "0"),
        ("[0]", "0"),
        ("101", "101.0"),
        ('["a"]', "a"),
        ("1", "true"),
    ],
)
def test_one_class_is_one_value_however_it_is_written(one: str, other: str) -> None:
    assert outcome(one) == outcome(other)


def test_classes_that_are_texts_stay_apart() -> None:
    assert len({outcome(text) for text in ("yes", "no", "A1", "1_0", "nan", "[1, 2]", "")}) == 7


def test_probabilities_stand_for_the_positions_of_their_classes() -> None:
    assert classes(["[0.2, 0.5, 0.3]"]) == {0.0, 1.0, 2.0}
    assert classes(["a", "b", "a"]) == {"a", "b"}
    assert classes(str(number / 7) for number in range(5000)) == frozenset(), "no classes"
    assert classes(["0.25", "0.5", "1"]) == frozenset(), "scores are no classes"
    assert classes(["0.5", "x"]) == {0.5, "x"}


@given(st.text() | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["1e3", "0.10"]))
def test_a_label_in_csv_is_of_the_class_of_the_same_text(text: str) -> None:
    """The name of a class is kept: 1e3 does not become 1000.0, and 007 not 7."""
    row = io.StringIO()
    csv.writer(row).writerow([text])
    [[read]] = csv.reader(io.StringIO(row.getvalue(), newline=""))
    value = of_text(read)
    written = value if isinstance(value, str) else json.dumps(value)
    assert outcome(written) == outcome(read)
    if not isinstance(value, bool | list | dict):
        assert written.strip() == read.strip()
