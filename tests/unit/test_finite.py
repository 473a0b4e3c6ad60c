"""NaN and infinities on their way to JSON and back from MLflow."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from mlp.core.finite import for_json, from_mlflow

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


@given(values)
def test_any_document_becomes_json_that_every_parser_reads(value: Any) -> None:
    def same(before: Any, after: Any) -> bool:
        if isinstance(before, float) and not math.isfinite(before):
            return after is None
        if isinstance(before, dict):
            return before.keys() == after.keys() and all(same(before[k], after[k]) for k in before)
        if isinstance(before, list):
            return len(before) == len(after) and all(map(same, before, after))
        return bool(before == after)

    assert same(value, json.loads(json.dumps(for_json(value)), parse_constant=refuse))


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1.5, -1e308])
def test_a_metric_in_mlflow_is_what_was_logged(shared: Any, tmp_path: Any, value: float) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "mlflow.db").write_bytes((shared / "mlflow.db").read_bytes())
    client = MlflowClient(uri)
    run = client.create_run("0").info.run_id
    client.log_metric(run, "loss", value)
    assert from_mlflow(client.get_run(run).data.metrics["loss"]) == value
