"""The section `model` of mlp.yaml: what the project makes, and what a version has to pass."""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from mlp.core.section import Section

# The gates, the cheap ones first. `files` is asked in any case: nothing else is loaded.
GateName = Literal["files", "provenance", "signature", "metrics", "prediction", "champion"]
ALL_GATES: tuple[GateName, ...] = get_args(GateName)


class Primary(Section):
    """The metric by which two versions are compared."""

    metric: str
    goal: Literal["maximize", "minimize"] = "maximize"


class Bound(Section):
    """What a metric has to keep."""

    min: float | None = None
    max: float | None = None


class Evaluation(Section):
    """A table with known answers, on which the champion and a candidate are compared."""

    data: str  # relative to the project: CSV or Parquet
    target: str  # its column with the answers


class Gates(Section):
    """What a version has to pass before it is promoted."""

    metrics: Mapping[str, Bound] = Field(default_factory=dict)
    # By how much the primary metric may be worse than the champion's.
    max_drop: Annotated[float, Field(ge=0)] = 0.0
    evaluation: Evaluation | None = None
    # Which are asked before a version becomes one or the other. A challenger has to be able to
    # answer; how well it does is what it is there to show.
    champion: tuple[GateName, ...] = ALL_GATES
    challenger: tuple[GateName, ...] = ("files", "signature", "prediction")

    def before(self, alias: str) -> tuple[GateName, ...]:
        """The gates before an alias, in the order in which they are asked."""
        chosen = self.champion if alias == "champion" else self.challenger
        return tuple(name for name in ALL_GATES if name in chosen or name == "files")


class Model(Section):
    """The registered model of the project."""

    # As long as the ledger and MLflow can keep it.
    name: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/:.%\"']+$")]
    task: Literal["classification", "regression"] = "classification"
    primary: Primary | None = None
    # Of an answer with several columns, those that hold the prediction and its probability.
    prediction: str | None = None
    probability: str | None = None
    gates: Gates = Gates()
