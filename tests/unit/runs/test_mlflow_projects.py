"""Parameters of `mlflow run` as params of the project."""

import pytest

from mlp.core.errors import UsageError
from mlp.flows.runs.mlflow_projects import full_name

PARAMS = ["train.lr", "train.epochs", "prepare.seed", "train.seed"]


@pytest.mark.parametrize("name", ["lr", "train.lr"])
def test_a_parameter_is_a_param_by_its_whole_name_or_its_last_part(name: str) -> None:
    assert full_name(name, PARAMS) == "train.lr"


def test_an_ambiguous_parameter_is_answered_with_the_candidates() -> None:
    with pytest.raises(UsageError, match=r"prepare\.seed, train\.seed"):
        full_name("seed", PARAMS)


def test_an_unknown_parameter_is_answered_with_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"train\.lr, train\.epochs"):
        full_name("rate", PARAMS)
