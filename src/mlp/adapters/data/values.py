"""Values that YAML, TOML and Python have and DVC cannot keep: dates, times, sets.

DVC raises plain TypeErrors for them; what they say, and where they come from, gives the place.
"""

import json
import re
import traceback
from collections.abc import Iterable, Iterator
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


def refuse_params(stages: "Iterable[Stage]") -> None:
    """Raise ConfigurationError where a stage has a param that DVC cannot write down.

    DVC itself finds out when the stage has run.
    """
    from dvc.dependency import ParamsDependency

    deps = (dep for stage in stages for dep in stage.deps if isinstance(dep, ParamsDependency))
    # The stages of a matrix share theirs: each file is parsed once.
    distinct = {(str(dep), tuple(dep.params)): dep for dep in deps}
    for dep in distinct.values():
        for key, value in dep.read_params().items():
            try:
                json.dumps(value)
            except TypeError as e:
                raise _refused(str(dep), key, _kind(value)) from e


def _kind(value: Any) -> str:
    """The type that JSON does not have, of a value or of what it holds."""
    parts: Iterable[Any] = ()
    if isinstance(value, dict):
        parts = (*value, *value.values())
    elif isinstance(value, list | tuple):
        parts = value
    kinds = (_kind(part) for part in parts)
    plain = ("str", "int", "float", "bool", "NoneType", "dict", "list", "tuple")
    return next((kind for kind in kinds if kind not in plain), type(value).__name__)


def _refused(file: str, key: str, kind: str) -> ConfigurationError:
    fixes = {
        "set": "write it as a list",
        "bytes": "write it as text, such as base64 in quotes",
    }
    what = kind if kind == "bytes" else f"a {kind}"
    return ConfigurationError(
        f"{file}: a value under `{key}` is {what}, which DVC cannot keep",
        fix=fixes.get(kind, "put it in quotes: then it is text"),
    )
