"""The door to files of ours: small JSON, there completely or not at all, in folders that hide."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any]:
    """What the file says; {} where there is none, or a crash left a damaged one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def unlisted(folder: Path) -> Path:
    """Make a folder of ours that git does not list and DVC does not search; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (".gitignore", ".dvcignore"):
        ignore = folder / name
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    return folder


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Replace the file in one step."""
    replace(path, json.dumps(data))


def replace(path: Path, text: str) -> None:
    """The same for a text that is JSON already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
