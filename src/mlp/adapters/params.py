"""The door to ruamel.yaml: `params.yaml` read and changed with its comments and order kept."""

import io
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.overrides import Override, assign, split


def changed(path: Path, settings: Sequence[str]) -> tuple[str, tuple[Override, ...]]:
    """The text of the params file with `settings` ("KEY=VALUE", values as YAML), and what changed.

    Raises UsageError for a setting that is no such thing, or a key that is not in the file.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if not path.is_file():
        raise UsageError(f"--set changes {path.name}, and there is none", fix=f"make {path.name}")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    try:
        params = yaml.load(path.read_text(encoding="utf-8"))
        pairs = [(key, yaml.load(text)) for key, text in map(split, settings)]
    except YAMLError as e:
        raise ConfigurationError(f"{path.name} or a --set value is not YAML", cause=str(e)) from e
    overrides = tuple(assign(params, key, value) for key, value in pairs)
    text = io.StringIO()
    yaml.dump(params, text)
    return text.getvalue(), overrides


def write(path: Path, text: str) -> None:
    """Replace the params file in one step; a link to it stays one."""
    path = path.resolve()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    shutil.copymode(path, part)
    part.replace(path)


def read(path: Path) -> Mapping[str, Any]:
    """The params, {} where there is no such file or it is no mapping."""
    from ruamel.yaml import YAML

    if not path.is_file():
        return {}
    params = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return params if isinstance(params, dict) else {}
