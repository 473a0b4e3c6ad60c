"""A label is of the same class, whether it comes in a file of any form or by /feedback."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlp.adapters.predictions import label_files, scored_rows
from mlp.core.ab.statistics.columns import log
from mlp.runtime.serving import feedback

texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)
floats = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**63), 2**63 - 1)
kinds = (st.booleans(), integers, floats, texts)
names = st.sampled_from(["True", "FALSE", "[0]", "007", "1e3", "1.50", "101", "'a'", "a;b"])
anything = st.lists(st.one_of(*kinds, names, st.just([0])), min_size=1, max_size=20)
alike = st.one_of(*(st.lists(kind, min_size=1, max_size=20) for kind in kinds))


def outcomes(labels: Sequence[Any]) -> list[Any]:
    """What labels stand for in a verdict, once they are in the log."""
    text = [label if isinstance(label, str) else scored_rows.dumps(label) for label in labels]
    number = np.array([scored_rows.number(label) for label in labels], float)
    none = np.full(len(labels), None)
    columns = dict.fromkeys(("version", "route", "request_id", "row", "user_key"), none)
    columns |= dict.fromkeys(("time", "latency_ms", "failed", "probability"), number)
    columns |= {"prediction": none, "prediction_number": number, "probabilities": none}
    columns |= {"label": np.array(text, object), "label_number": number}
    return list(log(columns).label)


def read(path: Path) -> Mapping[str, Any]:
    with duckdb.connect() as connection:
        label_files.attach(connection, path)
        batches = list(label_files.batches(connection, path))
    return {label.request_id: label.label for batch in batches for label in batch}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@settings(max_examples=40)
@given(labels=anything)
def test_a_file_of_texts_has_the_classes_that_feedback_has(kind: str, labels: list[Any]) -> None:
    ids = [str(position) for position in range(len(labels))]
    if kind == "csv":
        table = pd.DataFrame({"request_id": ids, "label": labels}, dtype=object)
        check(labels, table.to_csv(index=False).encode(), kind)
    else:
        lines = [{"request_id": i, "label": label} for i, label in zip(ids, labels, strict=True)]
        check(labels, "\n".join(map(json.dumps, lines)).encode(), kind)


@settings(max_examples=40)
@given(labels=alike)
def test_parquet_has_the_classes_that_feedback_has(labels: list[Any]) -> None:
    ids = [str(position) for position in range(len(labels))]
    check(labels, pd.DataFrame({"request_id": ids, "label": labels}).to_parquet(), "parquet")


def check(labels: Sequence[Any], content: bytes, kind: str) -> None:
    document = [{"request_id": str(i), "label": label} for i, label in enumerate(labels)]
    told = feedback.parse(json.loads(json.dumps(document)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"labels.{kind}"
        path.write_bytes(content)
        found = read(path)
    assert found.keys() == {label.request_id for label in told}
    assert outcomes([found[label.request_id] for label in told]) == outcomes(
        [label.label for label in told]
    )


def test_a_file_is_the_one_that_is_named_whatever_its_name_looks_like(tmp_path: Path) -> None:
    (tmp_path / "labels1.csv").write_text("request_id,label\na,another\n")
    named = tmp_path / "labels[1].csv"
    named.write_text("request_id,label\na,mine\n")
    assert read(named) == {"a": "mine"}
