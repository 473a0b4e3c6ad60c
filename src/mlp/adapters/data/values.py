"""Values that YAML, TOML and Python have and DVC cannot keep: dates, times, sets.

DVC raises plain TypeErrors for them; what they say, and where they come from, gives the place.
"""

import json
import re
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlp.core.errors import ConfigurationError

if TYPE_CHECKING:
    from dvc.stage import Stage

_UNSUPPORTED = re.compile(r"Unsupported value of type '(\w+)' in '([^:]*):(.*)'")


def unsupported(error: TypeError) -> ConfigurationError | None:
    """What DVC cannot read in dvc.yaml or a file of variables; None for any other TypeError."""
    said = _UNSUPPORTED.fullmatch(str(error))
    if said is None:
        return None
    kind, source, key = said.groups()
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    owners: Iterator[Any] = (frame.f_locals.get("self") for frame in frames)
    readers = [owner for owner in owners if hasattr(owner, "relpath")]
    if readers and source == "<local>":  # an item of a loop
        loop = readers[-1]
        keyword = "matrix" if hasattr(loop, "matrix_data") else "foreach"
        source, key = loop.relpath, f"{loop.where}.{loop.name}.{keyword}"
    elif readers and source.startswith("vars["):
        source, key = readers[-1].relpath, f"{source}.{key}"
    return _refused(source, key, kind)


def refuse_params(stage: "Stage", error: TypeError) -> None:
    """Raise ConfigurationError where the stage has a param that DVC cannot write down."""
    from dvc.dependency import ParamsDependency

    for dep in stage.deps:
        params = dep.read_params() if isinstance(dep, ParamsDependency) else {}
        for key, value in params.items():
            try:
                json.dumps(value)
            except TypeError:
                raise _refused(str(dep), key, type(value).__name__) from error


def _refused(file: str, key: str, kind: str) -> ConfigurationError:
    return ConfigurationError(
        f"{file}: a value under `{key}` is a {kind}, which DVC cannot keep",
        fix="write it as a list" if kind == "set" else "put it in quotes: then it is text",
    )
