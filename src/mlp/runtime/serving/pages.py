"""What the server tells of itself: OpenAPI, and a page for people that needs no other server."""

import html
import json
from typing import Any

from mlp.core.finite import for_json
from mlp.core.serving.prediction_log import ROWS
from mlp.runtime.serving.registry_following import Loaded


def as_json(data: Any) -> bytes:
    """A document as JSON."""
    return json.dumps(for_json(data), default=str).encode()


def openapi(model: str, champion: Loaded | None) -> bytes:
    """The OpenAPI document, with the signature of the champion where one is loaded."""
    return as_json(_document(model, champion))


def docs(model: str, champion: Loaded | None) -> bytes:
    """The same as a page."""
    document = _document(model, champion)
    parts = []
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            codes = "".join(
                f"<tr><td>{code}</td><td>{html.escape(answer['description'])}</td></tr>"
                for code, answer in about["responses"].items()
            )
            body = about.get("requestBody")
            shown = ""
            if body is not None:
                content = body["content"]["application/json"]
                shown = f"<pre>{html.escape(json.dumps(content, indent=2))}</pre>"
            parts.append(
                f"<h2><code>{method.upper()} {path}</code></h2>"
                f"<p>{html.escape(about['summary'])}</p>{shown}<table>{codes}</table>"
            )
    title = html.escape(document["info"]["title"])
    version = html.escape(document["info"]["version"])
    return _PAGE.format(title=title, version=version, parts="".join(parts)).encode()


def _document(model: str, champion: Loaded | None) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": model, "version": "none" if champion is None else champion.version},
        "paths": {
            "/invocations": {"post": _invocations(champion)},
            "/feedback": {"post": _FEEDBACK},
            "/ping": _get("Whether a model is loaded.", "404", "No model is loaded."),
            "/health": _get("The same.", "404", "No model is loaded."),
            "/ready": _get("Whether requests should come here.", "503", "Not ready; why."),
            "/version": _get("MLflow's version.", "401", "A bearer token is needed."),
            "/metrics": _get("Prometheus metrics.", "401", "A bearer token is needed."),
        },
    }


def _invocations(champion: Loaded | None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"type": "object"}}
    if champion is not None:
        content["schema"] = champion.scorer.schema
        example = champion.scorer.example
        if example is not None:
            content["example"] = json.loads(example[0])
    return {
        "summary": "Predict, by MLflow's scoring protocol.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": content,
                "text/csv": {"schema": {"type": "string"}},
                "application/vnd.apache.parquet": {
                    "schema": {"type": "string", "format": "binary"}
                },
            },
        },
        "responses": {
            "200": _answer("The predictions."),
            "400": _answer("The request does not fit the model."),
            "401": _answer("A bearer token is needed."),
            "413": _answer("The request is too large."),
            "415": {"description": "The content type is not served."},
            "503": _answer("Too many requests wait: try again."),
            "504": _answer("The time is over."),
        },
    }


def _answer(description: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {"description": description, "content": content}


def _get(summary: str, other: str, why: str) -> dict[str, Any]:
    responses = {"200": {"description": "Yes, or what was asked."}, other: {"description": why}}
    return {"get": {"summary": summary, "responses": responses}}


_LABEL = {
    "type": "object",
    "required": ["request_id", "label"],
    "additionalProperties": False,
    "properties": {
        "request_id": {"type": "string", "minLength": 1},
        "label": {},
        "row": {"type": "integer", "minimum": 0, "maximum": ROWS - 1},
    },
}
_FEEDBACK = {
    "summary": "Tell what turned out to be true for a prediction.",
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"oneOf": [_LABEL, {"type": "array", "items": _LABEL}]}}
        },
    },
    "responses": {
        "200": _answer("The labels are kept."),
        "400": _answer("These are not labels."),
        "401": _answer("A bearer token is needed."),
        "404": _answer("This server keeps no log of predictions."),
        "413": _answer("The request is too large."),
        "503": _answer("The log cannot be written: try again."),
    },
}

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto }}
pre {{ background: #f3f3f3; padding: 1rem; overflow: auto; max-height: 24rem }}
td {{ padding: 0 1rem 0 0 }}
</style>
<h1>{title}, version {version}</h1>
<p>The same for machines: <a href="openapi.json">openapi.json</a></p>
{parts}
</html>
"""
