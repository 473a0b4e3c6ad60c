"""What a project is called, and how a name is written into YAML."""

import json
from pathlib import Path

from mlp.core.errors import UsageError


def project_name(path: Path) -> str:
    """The project's name: the last part of `path`, characters that nothing prints replaced by "-".

    Raises UsageError where nothing is left of it.
    """
    last = path.resolve().name
    name = "".join(c if c.isprintable() else "-" for c in last).strip()
    if not name:
        raise UsageError(f"{str(path)!r} gives the project no name", fix="mlp init NAME")
    return name


def yaml_text(name: str) -> str:
    """A printable text as a YAML scalar that is read back as the same text, never as a number."""
    return json.dumps(name, ensure_ascii=False)
