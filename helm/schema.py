"""Write mlp/values.schema.json: the chart's own values, and of the server's what mlp knows.

Run it after a change of `core/serving/serve_section.py` or of the values; a test compares.
"""

import json
from pathlib import Path
from typing import Any

from mlp.core.serving.serve_section import ServeSpec

PLACE = Path(__file__).parent / "mlp" / "values.schema.json"
# What the chart decides itself.
_CHARTS = ("state", "cache", "journal")

_NAME = {"type": "string", "maxLength": 253, "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"}
_WORDS = {"type": "object", "additionalProperties": {"type": "string"}}
_NAMES = {"type": "array", "items": {**_NAME, "minLength": 1}}
_VARIABLE = "^[A-Za-z_][A-Za-z0-9_]*$"
_QUANTITY = {"type": "string", "pattern": "^[0-9.]+([eE][0-9]+|[numkMGTPE]|[KMGTPE]i)?$"}
_AMOUNT = {"anyOf": [{"type": "number", "minimum": 0}, _QUANTITY]}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "additionalProperties": False, "properties": properties, **needed}


def _whole(minimum: int, maximum: int | None = None, *, null: bool = False) -> dict[str, Any]:
    bound = {} if maximum is None else {"maximum": maximum}
    return {"type": ["integer", "null"] if null else "integer", "minimum": minimum, **bound}


def schema() -> dict[str, Any]:
    """The schema of values.yaml; unknown keys are mistakes."""
    spec = ServeSpec.model_json_schema(mode="serialization")
    parts = spec.pop("$defs", {})
    for name in _CHARTS:
        spec["properties"].pop(name)
    spec["required"] = [name for name in spec["required"] if name not in _CHARTS]
    spec["properties"]["model"]["minLength"] = spec["properties"]["tracking_uri"]["minLength"] = 1
    parts["Serve"]["properties"].pop("host")
    parts["Serve"]["properties"]["port"]["minimum"] = 1
    amounts = {"type": "object", "additionalProperties": _AMOUNT}
    server = _object(
        "spec",
        replicas=_whole(0),
        autoscale={
            "oneOf": [
                {"type": "null"},
                _object("min", "max", "cpu", min=_whole(1), max=_whole(1), cpu=_whole(1)),
            ]
        },
        spec=_plain(spec),
        state=_object(secret=_NAME, key={"type": "string", "minLength": 1}),
        token=_object(secret=_NAME, key={"type": "string", "minLength": 1}),
        env={**_WORDS, "propertyNames": {"pattern": _VARIABLE}},
        secrets=_NAMES,
        secretFiles={"type": "object", "additionalProperties": {"type": "string", "pattern": "^/"}},
        service=_object(
            type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
            port=_whole(1, 65535),
            nodePort=_whole(1, 65535, null=True),
            annotations=_WORDS,
        ),
        journal=_object(claim=_NAME, size=_AMOUNT),
        cache=_object(size=_AMOUNT),
        maxUnavailable=_whole(1),
        startSeconds=_whole(2),
        preStopSeconds=_whole(0),
        resources=_object(requests=amounts, limits=amounts),
        serviceAccount=_NAME,
        priorityClass=_NAME,
        nodeSelector=_WORDS,
        tolerations={"type": "array", "items": {"type": "object"}},
        affinity={"type": "object"},
    )
    values = _object(
        *("image", "server"),
        image={"type": "string", "minLength": 1},
        imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        imagePullSecrets=_NAMES,
        labels=_WORDS,
        annotations=_WORDS,
        server=server,
        **{"global": {"type": "object"}},
    )
    known = {name: _plain(part) for name, part in parts.items()}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **values, "definitions": known}


def _plain(part: Any) -> Any:
    """pydantic's schema without titles, words and defaults, its parts where draft 7 has them."""
    if isinstance(part, list):
        return [_plain(each) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {}
    for key, value in part.items():
        if key == "properties":
            kept[key] = {name: _plain(each) for name, each in value.items()}
        elif key == "$ref":
            kept[key] = value.replace("#/$defs/", "#/definitions/")
        elif key not in ("title", "description", "default"):
            kept[key] = _plain(value)
    return kept


if __name__ == "__main__":
    PLACE.write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")
