"""What the log of predictions keeps: requests and labels as they come, and their rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

ROWS = 2**31  # a row's position in its request is below this: tables keep it in 32 bits
PREDICTIONS, LABELS, GAPS = "predictions", "labels", "gaps"


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


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """One row of a request as one version predicted it.

    `prediction`, `probabilities` and `features` are JSON or lists; `prediction_number` is the
    prediction where that is a number. `reason` says why a version `failed`. Times are in UTC.
    """

    request_id: str | None
    row: int
    time: datetime
    model: str
    version: str
    run_id: str | None
    route: str
    user_key: str | None
    latency_ms: float
    status: int
    failed: bool
    reason: str | None
    prediction: str | None
    prediction_number: float | None
    probabilities: Sequence[float | None] | None
    features: str | None


@dataclass(frozen=True, slots=True)
class LabelRow:
    """A label as it was told for a row of a request: JSON, and a number where it is one."""

    request_id: str | None
    row: int
    time: datetime
    model: str
    label: str
    label_number: float | None


@dataclass(frozen=True, slots=True)
class GapRow:
    """What is missing: predictions that were `lost` since then (0: nobody knows how many)."""

    time: datetime
    model: str
    reason: str
    lost: int
    since: datetime


LogRow = PredictionRow | LabelRow | GapRow
# The tables of the log, whose columns are the fields of their rows.
TABLES: Mapping[str, type[LogRow]] = {
    PREDICTIONS: PredictionRow,
    LABELS: LabelRow,
    GAPS: GapRow,
}
