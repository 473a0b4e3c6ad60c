"""What a journal's records say, as rows of the tables that they become."""

import hmac
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from mlp.adapters.predictions import scored_rows
from mlp.adapters.predictions.frames import Frame
from mlp.core.serving.prediction_log import (
    GAPS,
    LABELS,
    PREDICTIONS,
    ROWS,
    GapRow,
    LabelRow,
    LogRow,
    PredictionRow,
)

SECRET = "MLP_KEY_SECRET"  # what users' keys are hashed with; the model's name where it is unset


@dataclass(slots=True)
class Reader:
    """Reads the records of one segment, the first one first: it tells what holds for the rest.

    Where that one cannot be read, nothing is shown that may have to be hidden.
    """

    at: float  # when the latest record was written
    model: str = ""
    keeping: Mapping[str, Any] = field(default_factory=lambda: {"hash_keys": True})

    def rows(self, frame: Frame) -> Iterator[tuple[str, LogRow]]:
        """The rows that a record becomes, with the table of each. Raises ValueError, TypeError
        or KeyError for what this version of the journal would not have written."""
        header = scored_rows.loads(frame.header)
        kind = header["kind"]
        self.at = float(header["at"])
        if kind == "segment":
            self.model, self.keeping = header["model"], header["keeping"]
        elif kind == "labels":
            for request_id, row, label, at in header["labels"]:
                if not 0 <= row < ROWS:
                    yield GAPS, self.gap("label of a row that no request has", 0)
                    continue
                text, number = scored_rows.dumps(label), scored_rows.number(label)
                yield (
                    LABELS,
                    LabelRow(_text(request_id), row, moment(at), self.model, text, number),
                )
        elif kind == "gap":
            yield GAPS, self.gap("no room", header["lost"], header["from"])
        else:
            yield from ((PREDICTIONS, row) for row in self._predictions(header, frame))

    def gap(self, reason: str, lost: int, since: float | None = None) -> GapRow:
        """A row that says what is missing here; `lost` 0: nobody knows."""
        begun = moment(self.at if since is None else since)
        return GapRow(moment(self.at), self.model, reason, lost, begun)

    def _predictions(self, header: Mapping[str, Any], frame: Frame) -> Iterator[PredictionRow]:
        asked = (
            scored_rows.of_request(frame.request, header["content_type"]) if frame.request else None
        )
        failed = bool(header.get("failed")) or header["status"] >= 500
        answer = [] if failed else scored_rows.of_answer(frame.response, len(asked or ()) or None)
        keys = header.get("keys")
        positions = header.get("rows")
        if positions is None:
            # Without the features (they may not be kept), the answer tells how many there were.
            unknown = 0 if frame.request else len(answer or keys or ())
            positions = range(len(asked) if asked is not None else unknown)
        features = scored_rows.aligned(asked, positions)
        predicted = [None] * len(positions) if failed else scored_rows.aligned(answer, positions)
        row = self._rows_of(header, failed)
        if not positions or predicted is None or (frame.request and features is None):
            whole = _predicted(_whole(answer), None)
            yield row(row=0, user_key=None, features=self._raw(frame.request), **whole)
            return
        show = self._shown()
        keys = scored_rows.aligned(keys, positions)
        probabilities = scored_rows.aligned(header.get("probabilities"), positions)
        for i, position in enumerate(positions):
            yield row(
                row=position,
                user_key=self._key(keys[i]) if keys else None,
                features=show(features[i]) if features is not None else None,
                **_predicted(predicted[i], probabilities[i] if probabilities else None),
            )

    def _rows_of(self, header: Mapping[str, Any], failed: bool) -> Callable[..., PredictionRow]:
        """PredictionRow with what all rows of a request have in common."""
        return partial(
            PredictionRow,
            request_id=_text(header["request_id"]),
            time=moment(header["at"]),
            model=self.model,
            version=header["version"],
            run_id=header.get("run_id"),
            route=header["route"],
            latency_ms=header["latency_ms"],
            status=header["status"],
            failed=failed,
            reason=_text(header.get("failed")),
        )

    def _key(self, key: Any) -> str | None:
        if key is None:
            return None
        return self.digest(str(key)) if self.keeping.get("hash_keys") else _text(str(key))

    def _raw(self, request: bytes) -> str | None:
        """A body that has no rows; nothing where it may hold a key that is to be hidden."""
        hidden = self.keeping.get("hash_keys") or not self.keeping.get("features")
        return None if not request or hidden else _text(request)

    def digest(self, key: str) -> str:
        """HMAC-SHA-256 of a user's key, 32 hexadecimal digits; by MLP_KEY_SECRET where it is set.

        Without a secret it hides a key from the eye, not from somebody who tries all keys.
        """
        secret = os.environ.get(SECRET) or self.model
        encoded = key.encode("utf-8", "surrogatepass")
        return hmac.digest(secret.encode(), encoded, "sha256").hex()[:32]

    def _shown(self) -> Callable[[Any], str | None]:
        """How features become text: with the digest of the user's key, if keys are hashed."""
        column = self.keeping.get("route_by")
        if not self.keeping.get("features"):
            return lambda row: None
        if not (self.keeping.get("hash_keys") and column):
            return scored_rows.dumps

        def show(row: Any) -> str:
            if isinstance(row, dict) and row.get(column) is not None:
                row = row | {column: self.digest(str(row[column]))}
            return scored_rows.dumps(row)

        return show


def moment(at: float) -> datetime:
    """Seconds since the epoch as a time in UTC, without a zone: as the tables hold it."""
    return _EPOCH + timedelta(seconds=min(max(at, 0.0), _LAST))


_EPOCH = datetime(1970, 1, 1)
_LAST = 253402300799.0  # the end of the year 9999


def _predicted(prediction: Any, probabilities: Sequence[Any] | None) -> dict[str, Any]:
    """The fields of a row that hold its prediction; probabilities only where all are numbers."""
    numbers = all(isinstance(value, int | float) or value is None for value in probabilities or ())
    return {
        "prediction": None if prediction is None else scored_rows.dumps(prediction),
        "prediction_number": scored_rows.number(prediction),
        "probabilities": list(probabilities) if probabilities and numbers else None,
    }


def _whole(answer: Sequence[Any]) -> Any:
    return answer[0] if len(answer) == 1 else list(answer) or None


def _text(value: str | bytes | None) -> str | None:
    """Text that every reader of UTF-8 accepts."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else value.encode("utf-8", "replace").decode()
