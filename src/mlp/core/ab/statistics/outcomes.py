"""What a label or a prediction stands for, however it is written: one class is one value."""

import json
import math
from collections.abc import Iterable
from functools import lru_cache

Outcome = float | str

_BOOLEANS = {"true": 1.0, "false": 0.0}
# With more distinct predictions than this they are not classes.
MOST_CLASSES = 1000


@lru_cache(maxsize=4096)
def outcome(text: str) -> Outcome:
    """A number where the text is one or a boolean in any spelling; a list of one is its element."""
    word = text.strip()
    if word.startswith("[") and word.endswith("]"):
        inner = _only(word)
        return text if inner is None else outcome(inner)
    if word.lower() in _BOOLEANS:
        return _BOOLEANS[word.lower()]
    try:
        number = float(word)
    except ValueError:
        return text
    return number if math.isfinite(number) and "_" not in word else text


def classes(predictions: Iterable[str]) -> frozenset[Outcome]:
    """The classes that predictions are of, as `outcome` has them.

    A list of several numbers has the probabilities of classes 0, 1, …. Empty where they are no
    classes: so many, or numbers that are not whole, which are scores.
    """
    found: set[Outcome] = set()
    for text in predictions:
        values = _list(text) if text.startswith("[") else None
        if values is not None and len(values) > 1:
            found |= {float(position) for position in range(len(values))}
        else:
            found.add(outcome(text))
        if len(found) > MOST_CLASSES:
            return frozenset()
    numbers = [value for value in found if isinstance(value, float)]
    if len(numbers) == len(found) and not all(map(float.is_integer, numbers)):
        return frozenset()
    return frozenset(found)


def _only(text: str) -> str | None:
    values = _list(text)
    if values is None or len(values) != 1:
        return None
    return values[0] if isinstance(values[0], str) else json.dumps(values[0])


def _list(text: str) -> list[object] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None
