"""The JSON artifacts of a run, read back as the data that they were written from."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from mlp.core.errors import ConfigurationError
from mlp.core.runs.pipeline import DataItem, StageState
from mlp.core.runs.provenance import Code, Environment, Machine, Provenance

T = TypeVar("T")


def provenance(text: str) -> Provenance:
    """The record in `text`; ConfigurationError where it is none.

    Keys of later versions are passed over.
    """
    try:
        values = json.loads(text)
        return _made(
            Provenance,
            {"launches": {}} | values,
            code=_made(Code, values["code"]),
            machine=_made(Machine, values["machine"]),
            environment=_made(Environment, values["environment"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ConfigurationError("the record of the run is damaged", cause=str(e)) from e


def stages(text: str) -> tuple[StageState, ...]:
    """The stages in `text`; ConfigurationError where it does not hold any list of them."""
    try:
        values = json.loads(text)
        if not isinstance(values, list):
            raise TypeError("it is not a list")
        return tuple(
            _made(
                StageState,
                stage,
                command=tuple(stage["command"]),
                deps=tuple(_made(DataItem, item) for item in stage["deps"]),
                outs=tuple(_made(DataItem, item) for item in stage["outs"]),
            )
            for stage in values
        )
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ConfigurationError("the list of the run's stages is damaged", cause=str(e)) from e


def _made(kind: type[T], values: Mapping[str, Any], **parts: Any) -> T:
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in names} | parts)
