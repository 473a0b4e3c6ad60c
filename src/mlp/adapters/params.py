"""The door to ruamel.yaml: YAML files changed with their comments and order kept."""

import io
import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.runs.overrides import Override, assign, split
from mlp.core.scaffold.yaml_insert import holds, inserted


def changed(path: Path, settings: Sequence[str]) -> tuple[str, tuple[Override, ...]]:
    """The text of the params file with `settings` ("KEY=VALUE", values as YAML), and what changed.

    Raises UsageError for a setting of another form, or a key that is not in the file.
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
        pairs = [(key, _plain(key, text, yaml.load(text))) for key, text in map(split, settings)]
    except YAMLError as e:
        raise ConfigurationError(f"{path.name} or a --set value is not YAML", cause=str(e)) from e
    overrides = tuple(assign(params, key, value) for key, value in pairs)
    text = io.StringIO()
    yaml.dump(params, text)
    return text.getvalue(), overrides


def _plain(key: str, text: str, value: Any) -> Any:
    try:
        json.dumps(value)
    except TypeError as e:
        raise UsageError(
            f"--set {key}: YAML reads {text} as a date, a time or a set, which DVC cannot keep",
            fix="--set " + shlex.quote(f"{key}={json.dumps(text)}"),
        ) from e
    return value


def write(path: Path, text: str) -> None:
    """Replace the params file in one step; a link to it stays one."""
    path = path.resolve()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    shutil.copymode(path, part)
    part.replace(path)


def read(path: Path) -> Mapping[str, Any]:
    """The params, {} where there is no such file or it is not a mapping."""
    from ruamel.yaml import YAML

    if not path.is_file():
        return {}
    params = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return params if isinstance(params, dict) else {}


def with_section(text: str, above: str, name: str, section: Mapping[str, Any] | str) -> str:
    """A YAML document with `section` as ABOVE.NAME, in place of what is there.

    Every other line stays as it is; where the document's style does not allow that, comments and
    order do. Raises ConfigurationError where the text is not YAML, or `above` not a mapping in it.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    made = inserted(text, above, name, section)
    if made is not None:
        return made
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    try:
        document = yaml.load(text)
    except YAMLError as e:
        raise ConfigurationError("the file is not YAML", cause=str(e)) from e
    document = {} if document is None else document
    if isinstance(document, dict) and document.get(above) is None:
        document[above] = {}
    parent = document.get(above) if isinstance(document, dict) else None
    if not isinstance(parent, dict):
        raise ConfigurationError(f"`{above}` is not a mapping, and cannot hold {name!r}")
    # By way of text: "no" keeps its quotes, which only YAML 1.1 needs.
    parent[name] = yaml.load(json.dumps(section, ensure_ascii=False))
    out = io.StringIO()
    yaml.dump(document, out)
    if not holds(out.getvalue(), text, above, name, section):
        raise ConfigurationError(
            f"{name!r} cannot be put under `{above}` without changing something else",
            fix=f"write `{above}` as a mapping of one line per key, not in braces",
        )
    return out.getvalue()
