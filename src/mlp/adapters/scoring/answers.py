"""What the scoring protocol answers: predictions or a refusal, and one answer out of several."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from mlp.core.serving.scoring_formats import JSON

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class ScoringAnswer:
    """The body of a 200, which is JSON, and each row's probabilities where they were asked for."""

    body: bytes
    probabilities: Sequence[Sequence[float]] | None = None


class Refusal(Exception):  # noqa: N818 - an answer of the protocol, not a malfunction of ours
    """Any other answer: its status, body, and content type, as MLflow's server gives them.

    `by_model` says that the model itself failed on a request that could be read: MLflow answers
    that with a 400 too, or with a 500 where what the model returned is not JSON. A request that
    does not fit the model can look so as well; one that another version answers was the model's
    fault.
    """

    def __init__(
        self, status: int, body: bytes, content_type: str = JSON, *, by_model: bool = False
    ) -> None:
        super().__init__(f"{status}: {body[:200].decode(errors='replace')}")
        self.status = status
        self.body = body
        self.content_type = content_type
        self.by_model = by_model


def merge(parts: Sequence[tuple[Sequence[int], ScoringAnswer]]) -> ScoringAnswer | None:
    """One answer to a request whose rows were divided, in the order of its rows.

    Each part has the positions of its rows and its answer. None where the predictions are not one
    for each row, so that nothing tells which belongs where: then one version has to answer alone.
    """
    total = sum(len(rows) for rows, _ in parts)
    predictions: list[object] = [None] * total
    probabilities: list[Sequence[float]] = [()] * total
    for rows, answer in parts:
        document = json.loads(answer.body)
        found = document.get("predictions") if isinstance(document, dict) else None
        if not isinstance(found, list) or len(found) != len(rows):
            return None
        for row, prediction in zip(rows, found, strict=True):
            predictions[row] = prediction
        for row, classes in zip(rows, answer.probabilities or (), strict=False):
            probabilities[row] = classes
    known = all(answer.probabilities is not None for _, answer in parts)
    body = json.dumps({"predictions": predictions}).encode()
    return ScoringAnswer(body, probabilities if known else None)
