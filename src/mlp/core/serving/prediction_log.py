"""What the log of predictions keeps."""

from collections.abc import Sequence
from dataclasses import dataclass

ROWS = 2**31  # a row's position in its request is below this: tables keep it in 32 bits


@dataclass(frozen=True, slots=True)
class Served:
    """A request, or those of its rows that one version answered, as it is journalled.

    `route` says on whose behalf the version was asked: champion, challenger, or shadow (predicted
    beside the answer). `failed` says why the challenger's answer was not used, if so. `keys` holds
    the user's key of each row, where there is one. `request` is the body as it came, `response` the
    answer's; they become rows when the journal becomes Parquet. `rows` are the positions in the
    request of the rows that this version answered, None for all. `at`: seconds since the epoch.
    """

    request_id: str
    at: float
    version: str
    route: str
    latency_ms: float
    content_type: str
    request: bytes
    response: bytes
    status: int = 200
    failed: str = ""
    keys: Sequence[str] | None = None
    rows: Sequence[int] | None = None
    probabilities: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """What turned out to be true for a row of a request; the latest one told counts."""

    request_id: str
    label: object
    row: int = 0
    at: float = 0.0
