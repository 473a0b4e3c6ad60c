"""Names of metrics, params and tags, in the letters that MLflow's servers take."""

import re

_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")
_LENGTH = 250


def accepted(name: str) -> str:
    """The name as it is delivered: other letters become `_`."""
    return _NOT_IN_NAMES.sub("_", name)[:_LENGTH]
