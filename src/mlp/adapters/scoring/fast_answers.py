"""Answering the usual requests without MLflow's server, with the same bytes."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlp.adapters.scoring import request_frames
from mlp.adapters.scoring.answers import ScoringAnswer
from mlp.adapters.scoring.estimators import matrix_model

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

# The answer to a JSON document, None where it is not a usual one.
Fast = Callable[[dict[str, Any]], ScoringAnswer | None]


def prepare(model: "PyFuncModel", *, probabilities: bool) -> Fast | None:
    """What answers usual requests to the model; None where it has a signature of another kind."""
    from mlflow.pyfunc import _get_dependencies_schema_from_model

    metadata = model.metadata
    schema = metadata.get_input_schema()
    if (
        schema is None
        or metadata._is_signature_from_type_hint()
        or metadata._is_type_hint_from_example()
        or metadata.get_params_schema() is not None
        or _get_dependencies_schema_from_model(metadata)
    ):
        return None
    if schema.is_tensor_spec():
        return _tensors(model, schema, probabilities)
    columns = _columns(schema)
    return None if columns is None else _frames(model, columns, probabilities)


def _columns(schema: Any) -> request_frames.Columns | None:
    from mlflow.types.schema import DataType

    if not schema.has_input_names() or not all(
        isinstance(kind, DataType) and kind.name in request_frames.TAKEN
        for kind in schema.input_types()
    ):
        return None
    types = {column.name: column.type.name for column in schema.inputs}
    if len(types) != len(schema.inputs) or ("string" in types.values() and _own_strings()):
        return None
    return request_frames.Columns(types, frozenset(schema.optional_input_names()))


def _own_strings() -> bool:
    """Whether pandas has a type of its own for columns of text, as from version 3 on."""
    import pandas

    return pandas.Series(["text"]).dtype != object


def _tensors(model: "PyFuncModel", schema: Any, probabilities: bool) -> Fast | None:
    if schema.has_input_names() or len(schema.inputs) != 1:
        return None
    (spec,) = schema.inputs
    if spec.type.name not in ("float64", "float32", "int64"):
        return None
    predict = _estimator(model, None, probabilities) or _wrapped(model, probabilities)

    def answer(document: dict[str, Any]) -> ScoringAnswer | None:
        array = request_frames.tensor(document, spec.shape, spec.type)
        return None if array is None else _answer(*predict(array))

    return answer


def _frames(model: "PyFuncModel", columns: request_frames.Columns, probabilities: bool) -> Fast:
    matrices = request_frames.Matrices(columns)
    by_matrix = _estimator(model, list(columns.types), probabilities) if matrices.possible else None
    by_frame = _wrapped(model, probabilities)

    def answer(document: dict[str, Any]) -> ScoringAnswer | None:
        rows = columns.rows(document)
        if rows is None:
            return None
        if by_matrix is not None:
            matrix = matrices.make(rows)
            return None if matrix is None else _answer(*by_matrix(matrix))
        frame = request_frames.frame(columns, rows)
        return None if frame is None else _answer(*by_frame(frame))

    return answer


def _estimator(model: "PyFuncModel", names: Sequence[str] | None, probabilities: bool) -> Any:
    """How to call a scikit-learn model by itself, None for other models."""
    if model.loader_module != "mlflow.sklearn":
        return None
    function = getattr(model._predict_fn, "__name__", "")
    return matrix_model(model.get_raw_model(), function, names, probabilities=probabilities)


def _wrapped(model: "PyFuncModel", probabilities: bool) -> Callable[[Any], tuple[Any, Any]]:
    """The call of `PyFuncModel.predict`, but for the enforcement of the schema: it is met."""
    import inspect

    from mlflow.pyfunc import Context, _try_get_prediction_context, set_prediction_context

    params = inspect.signature(model._predict_fn).parameters.get("params")
    with_params = params is not None and params.kind != inspect.Parameter.VAR_KEYWORD
    proba = None
    if probabilities and model.loader_module == "mlflow.sklearn":
        is_predict = getattr(model._predict_fn, "__name__", "") == "predict"
        proba = getattr(model.get_raw_model(), "predict_proba", None) if is_predict else None

    def predict(data: Any) -> tuple[Any, Any]:
        context = _try_get_prediction_context() or Context()
        with set_prediction_context(context):
            if model.model_id:
                context.update(model_id=model.model_id)
            found = model._predict_fn(data, params=None) if with_params else model._predict_fn(data)
        return found, None if proba is None else proba(data)

    return predict


def _answer(predictions: Any, probabilities: Any) -> ScoringAnswer:
    from mlflow.utils.proto_json_utils import NumpyEncoder, _get_jsonable_obj

    # As MLflow's `predictions_to_json`; `dumps` has C for what `dump` does in Python.
    document = {"predictions": _get_jsonable_obj(predictions)}
    body = json.dumps(document, cls=NumpyEncoder).encode()
    one_output = getattr(probabilities, "ndim", 0) == 2
    return ScoringAnswer(body, probabilities.tolist() if one_output else None)
