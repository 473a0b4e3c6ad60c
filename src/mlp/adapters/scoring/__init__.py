"""The door to models in MLflow's format: its scoring protocol from bytes to bytes, no HTTP."""

from mlp.adapters.scoring.answers import Refusal, ScoringAnswer, merge
from mlp.adapters.scoring.code import brings_code, left_code
from mlp.adapters.scoring.scorer import Scorer
from mlp.adapters.scoring.scoring_requests import ScoringRequest, read

__all__ = [
    "Refusal",
    "Scorer",
    "ScoringAnswer",
    "ScoringRequest",
    "brings_code",
    "left_code",
    "merge",
    "read",
]
