"""What the pipeline's code promises; nothing here needs the pipeline to have run."""

import pandas as pd
import pytest
from evaluate import evaluate
from prepare import split
from sklearn.datasets import load_breast_cancer
from train import fit

SETTINGS = {"lr": 0.01, "epochs": 5, "l2": 0.001, "seed": 7}


@pytest.fixture(scope="module")
def parts() -> dict[str, pd.DataFrame]:
    frame = load_breast_cancer(as_frame=True).frame
    return split(frame, valid_share=0.2, test_share=0.2, seed=7)


def test_the_parts_are_disjoint_and_hold_every_row(parts: dict[str, pd.DataFrame]) -> None:
    rows = [index for part in parts.values() for index in part.index]
    assert len(rows) == len(set(rows)) == 569


def test_the_parts_have_the_same_share_of_classes(parts: dict[str, pd.DataFrame]) -> None:
    shares = [part["target"].mean() for part in parts.values()]
    assert max(shares) - min(shares) < 0.02


def test_the_same_seed_gives_the_same_model(parts: dict[str, pd.DataFrame]) -> None:
    (one, _), (two, _) = (fit(parts["train"], parts["valid"], **SETTINGS) for _ in range(2))
    assert (one["classify"].coef_ == two["classify"].coef_).all()


def test_the_model_beats_the_baseline(parts: dict[str, pd.DataFrame]) -> None:
    model, history = fit(parts["train"], parts["valid"], **SETTINGS)
    metrics, _ = evaluate(model, parts["valid"])
    assert metrics["accuracy"] > metrics["baseline_accuracy"] + 0.1
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
