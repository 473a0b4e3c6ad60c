"""The section `ab` of mlp.yaml: when a challenger counts as better than the champion."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from mlp.core.section import Section


class Guard(Section):
    """A measure that may not become worse than this, whatever the primary metric says."""

    max_ratio: Annotated[float | None, Field(gt=0)] = None  # challenger over champion
    min_ratio: Annotated[float | None, Field(gt=0)] = None  # the same, where more is better
    max: float | None = None  # of the challenger
    min: float | None = None


class Ab(Section):
    """How the verdict over champion and challenger is reached."""

    metric: str | None = None  # the model's primary metric unless given
    positive: str | None = None  # the class that counts as positive; the last one (1, true) unless
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    power: Annotated[float, Field(gt=0, lt=1)] = 0.8
    effect: Annotated[float | None, Field(gt=0)] = None  # the smallest difference that matters
    min_samples: Annotated[int, Field(ge=1)] = 1000  # of each arm
    # By name: latency_p50_ms, latency_p95_ms, latency_p99_ms, error_rate, or a metric.
    guards: Mapping[str, Guard] = Field(
        default_factory=lambda: {
            "latency_p95_ms": Guard(max_ratio=1.5),
            "error_rate": Guard(max=0.01),
        }
    )
