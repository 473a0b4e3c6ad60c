"""A model's signature as JSON schema, for OpenAPI."""

from typing import Any

_SCALARS: dict[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "float"},
    "double": {"type": "number", "format": "double"},
    "string": {"type": "string"},
    "binary": {"type": "string", "format": "byte"},
    "datetime": {"type": "string", "format": "date-time"},
}
_KINDS = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "U": "string"}


def request_schema(metadata: Any) -> dict[str, Any]:
    """JSON schema of the body of a JSON request: one property of the four that name a format."""
    schema, params = metadata.get_input_schema(), metadata.get_params_schema()
    if schema is None:
        records: dict[str, Any] = {"type": "array", "items": {"type": "object"}}
        formats = {"dataframe_records": records, "dataframe_split": _split({}), "inputs": {}}
        formats["instances"] = {"type": "array"}
    elif schema.is_tensor_spec():
        formats = {**_tensors(schema), "dataframe_split": _split({})}
        formats["dataframe_records"] = {"type": "array", "items": {"type": "object"}}
    else:
        row = _row(schema)
        records = {"type": "array", "items": row, "minItems": 1}
        formats = {"dataframe_split": _split(row), "dataframe_records": records}
        formats["inputs"] = {"anyOf": [records, {"type": "object"}, {"type": "array"}]}
        formats["instances"] = {"type": "array", "minItems": 1}
    more = {} if params is None else {"params": _params(params)}
    return {
        "oneOf": [
            {"type": "object", "required": [name], "properties": {name: data, **more}}
            for name, data in formats.items()
        ]
    }


def _row(schema: Any) -> dict[str, Any]:
    """An object with a property for each column."""
    if not schema.has_input_names():
        return {"type": "object"}
    return {
        "type": "object",
        "required": list(schema.required_input_names()),
        "properties": {column.name: _type(column.type) for column in schema.inputs},
    }


def _split(row: dict[str, Any]) -> dict[str, Any]:
    columns: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    if row.get("properties"):
        columns["examples"] = [list(row["properties"])]
    data = {"type": "array", "items": {"type": "array"}}
    return {
        "type": "object",
        "required": ["data"],
        "properties": {"columns": columns, "data": data, "index": {"type": ["array", "null"]}},
    }


def _type(kind: Any) -> dict[str, Any]:
    """The JSON schema of a column's type, whose dictionary MLflow writes into the model."""
    from mlflow.types.schema import DataType

    if isinstance(kind, DataType):
        return _SCALARS.get(kind.name, {})
    return _nested(kind.to_dict())


def _nested(kind: dict[str, Any]) -> dict[str, Any]:
    name = kind["type"]
    if name == "array":
        return {"type": "array", "items": _nested(kind["items"])}
    if name == "object":
        properties = kind["properties"]
        return {
            "type": "object",
            "required": [key for key, value in properties.items() if value.get("required", True)],
            "properties": {key: _nested(value) for key, value in properties.items()},
        }
    if name == "map":
        return {"type": "object", "additionalProperties": _nested(kind["values"])}
    return _SCALARS.get(name, {})


def _tensors(schema: Any) -> dict[str, dict[str, Any]]:
    if not schema.has_input_names():
        tensor = _tensor(schema.inputs[0])
        return {"inputs": tensor, "instances": tensor}
    named = {spec.name: _tensor(spec) for spec in schema.inputs}
    rows = {spec.name: _tensor(spec, without_rows=True) for spec in schema.inputs}
    return {
        "inputs": {"type": "object", "required": list(named), "properties": named},
        "instances": {"type": "array", "items": {"type": "object", "properties": rows}},
    }


def _tensor(spec: Any, *, without_rows: bool = False) -> dict[str, Any]:
    """Arrays in arrays, of the sizes that are given."""
    kind = _KINDS.get(spec.type.kind)
    made: dict[str, Any] = {} if kind is None else {"type": kind}
    for size in reversed(spec.shape[1:] if without_rows else spec.shape):
        made = {"type": "array", "items": made}
        if size >= 0:
            made |= {"minItems": size, "maxItems": size}
    return made


def _params(schema: Any) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for param in schema.params:
        kind = _type(param.dtype)
        if param.shape is not None and isinstance(param.shape, tuple) and len(param.shape) == 1:
            kind = {"type": "array", "items": kind}
        properties[param.name] = kind
    return {"type": "object", "properties": properties}
