"""The known name that is nearest to an unknown one: "did you mean"."""

from collections.abc import Iterable


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that is most like `name`, None where none is like it."""
    from difflib import get_close_matches

    matches = get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """ ", did you mean 'x'?" or "", to be put behind a message."""
    match = nearest(name, allowed)
    return f", did you mean {match!r}?" if match else ""
