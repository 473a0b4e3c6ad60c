"""Params set on the command line: `--set train.lr=0.01`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mlp.core.errors import UsageError
from mlp.core.nearest import did_you_mean
from mlp.core.runs.pipeline import flatten


@dataclass(frozen=True, slots=True)
class Override:
    """One param's new value, and the one it had."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.after}"


def split(setting: str) -> tuple[str, str]:
    """The key and the text of the value in "KEY=VALUE". Raises UsageError if it is not that."""
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {setting!r} is not KEY=VALUE", fix="--set train.lr=0.01")
    return key.strip(), text


def assign(params: Any, key: str, value: Any) -> Override:
    """Set the dotted `key` in nested mappings, in place.

    Raises UsageError for a key that is not there: it would change nothing that a stage reads.
    """
    *sections, last = key.split(".")
    section = params
    for name in sections:
        section = section.get(name) if isinstance(section, dict) else None
    if not isinstance(section, dict) or last not in section:
        known = list(flatten(params)) if isinstance(params, dict) else []
        raise UsageError(
            f"there is no param {key!r} (have: {_listed(known)}){did_you_mean(key, known)}",
            fix=f"add {key} to params.yaml, where a stage reads it",
        )
    before, section[last] = section[last], value
    return Override(key, before, value)


def _listed(names: Sequence[str], most: int = 12) -> str:
    shown: Iterable[str] = names[:most]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
