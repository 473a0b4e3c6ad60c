"""What every mapping of `mlp.yaml` is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of `mlp.yaml`: keys that it does not know are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
