"""What the pipeline's code promises; nothing here needs the pipeline to have run."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from evaluate import evaluate
from prepare import split
from sklearn.datasets import load_digits
from train import fit

SETTINGS = {"lr": 0.01, "epochs": 2, "batch_size": 64, "hidden": 32, "seed": 7}


@pytest.fixture(scope="module")
def parts() -> dict[str, pd.DataFrame]:
    return split(load_digits(as_frame=True).frame, valid_share=0.2, test_share=0.2, seed=7)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning writes its logs into the working directory."""
    monkeypatch.chdir(tmp_path)


def test_the_parts_are_disjoint_and_hold_every_row(parts: dict[str, pd.DataFrame]) -> None:
    rows = [index for part in parts.values() for index in part.index]
    assert len(rows) == len(set(rows)) == 1797


def test_the_same_seed_gives_the_same_model(parts: dict[str, pd.DataFrame]) -> None:
    one, two = (fit(parts["train"], parts["valid"], **SETTINGS)[0] for _ in range(2))
    for name, weights in one.state_dict().items():
        assert torch.equal(weights, two.state_dict()[name])


def test_the_model_beats_the_baseline(parts: dict[str, pd.DataFrame]) -> None:
    model, _, history = fit(parts["train"], parts["valid"], **SETTINGS)
    metrics, _ = evaluate(model.cpu().eval(), parts["valid"])
    assert metrics["accuracy"] > metrics["baseline_accuracy"] + 0.5
    assert len(history.rows) == SETTINGS["epochs"]
