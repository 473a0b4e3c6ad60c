"""What runs in a process of its own to try a model: with its own Python, and without mlp.

Its text is handed to `python -c` with two paths: the JSON that says what to do, and the JSON that
says what came out. The example has to be answered; a table that cannot be is told. It uses MLflow,
which every model of MLflow requires, and nothing of ours.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any


def main(order_path: str, result_path: str) -> None:
    """Do what the order asks: answer the stored example, or every row of a table."""
    warnings.simplefilter("ignore")
    import mlflow.pyfunc
    from mlflow.models import Model

    order = json.loads(Path(order_path).read_text(encoding="utf-8"))
    result: dict[str, Any] = {}
    model = mlflow.pyfunc.load_model(order["model"])
    if order["example"]:
        description = Model.load(order["model"])
        example = description.load_input_example(order["model"])
        params = description.load_input_example_params(order["model"])
        result["example"] = _rows(model.predict(example, params=params or None))
    if order["table"]:
        try:
            result |= _scored(model, order)
        except Exception as e:  # noqa: BLE001 - whatever the model raises is told
            result["failed"] = f"{type(e).__name__}: {e}"
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")


def _scored(model: Any, order: dict[str, Any]) -> dict[str, Any]:
    import numpy as np
    import pandas as pd

    path = order["table"]
    table = pd.read_parquet(path) if path.endswith((".parquet", ".pq")) else pd.read_csv(path)
    if order["target"] not in table:
        raise KeyError(f"the table has no column {order['target']!r}: {', '.join(table.columns)}")
    labels = table.pop(order["target"])
    features = _fitting(table, model.metadata.get_input_schema())
    answer = model.predict(features)
    predictions = answer[order["prediction"]] if order["prediction"] else answer
    scored: dict[str, Any] = {"labels": labels.tolist(), "predictions": _rows(predictions)}
    raw = _raw(model)
    if order["probability"]:
        second = np.asarray(answer[order["probability"]], dtype=float)
        scored["probabilities"] = _rows(np.stack([1 - second, second], axis=1))
    elif hasattr(raw, "predict_proba"):
        scored["probabilities"] = _rows(raw.predict_proba(features))
    return scored


def _raw(model: Any) -> Any:
    """The estimator inside, None where the flavour does not give it."""
    try:
        return model.get_raw_model()
    except NotImplementedError:
        return None


def _fitting(table: Any, schema: Any) -> Any:
    """The table in the types of the signature: a CSV file does not tell 1 from 1.0."""
    if schema is None:
        return table
    if schema.is_tensor_spec():
        if schema.has_input_names():
            named = zip(schema.input_names(), schema.numpy_types(), strict=True)
            return {name: table[name].to_numpy(kind) for name, kind in named}
        return table.to_numpy(schema.numpy_types()[0])
    if not schema.has_input_names():
        return table
    names = [name for name in schema.input_names() if name in table]
    kinds = schema.input_dict()
    fitting = table[names].copy()
    for name in names:
        wanted: Any = getattr(kinds[name].type, "to_numpy", lambda: None)()
        given = fitting[name].dtype
        number = wanted is not None and wanted.kind in "iuf" and given.kind in "iuf"
        if number and given != wanted and not (wanted.kind in "iu" and given.kind == "f"):
            fitting[name] = fitting[name].astype(wanted)
    return fitting


def _rows(values: Any) -> Any:
    """A prediction as JSON: one value or one list for each row."""
    import numpy as np

    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if isinstance(values, dict):
        return {str(name): _rows(value) for name, value in values.items()}
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    return json.loads(json.dumps(array.tolist(), default=str))


if __name__ == "__main__":
    main(*sys.argv[1:3])
