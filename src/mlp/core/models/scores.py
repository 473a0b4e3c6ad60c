"""The primary metric of two versions on the same table."""

from collections.abc import Sequence
from typing import Any, Protocol


class Answers(Protocol):
    """What a version answered to the rows of a table whose `labels` are known."""

    @property
    def labels(self) -> Any: ...  # noqa: D102
    @property
    def predictions(self) -> Any: ...  # noqa: D102
    @property
    def probabilities(self) -> Any: ...  # noqa: D102


def compare(metric: str, champion: Answers, candidate: Answers) -> tuple[float, float]:
    """The metric of both, computed as the verdict on an A/B test computes it.

    Raises ConfigurationError where it is not known, or does not fit what they answered.
    """
    import numpy as np

    from mlp.core.ab.statistics import metrics
    from mlp.core.ab.statistics.labelled_rows import LabelledRows

    both = (champion, candidate)
    rows = len(champion.labels)
    known = metrics.find(metric)
    scores = [_scores(each) for each in both]
    arm = np.repeat([0, 1], rows)
    data = LabelledRows(
        arm=arm,
        user=np.tile(np.arange(rows), 2),
        users=rows,
        weight=np.ones(2 * rows),
        label=np.array([*champion.labels, *candidate.labels]),
        prediction=np.array([*_classes(champion), *_classes(candidate)]),
        probability=np.concatenate(scores) if known.scored and _all(scores) else None,
    )
    value = known.of(data, None).pair().value
    return float(value[0]), float(value[1])


def _scores(answers: Answers) -> Any:
    import numpy as np

    if answers.probabilities is not None:
        return np.array(answers.probabilities, dtype=float)
    predictions = np.array(answers.predictions)
    return predictions.astype(float) if predictions.ndim == 2 else None


def _classes(answers: Answers) -> Sequence[Any]:
    """The prediction of each row; where it is a score of each class, the class that has most."""
    import numpy as np

    predictions = np.array(answers.predictions)
    if predictions.ndim < 2:
        return list(answers.predictions)
    return [int(i) for i in predictions.argmax(-1)]


def _all(scores: Sequence[Any]) -> bool:
    return all(each is not None for each in scores) and len({s.shape[1] for s in scores}) == 1
