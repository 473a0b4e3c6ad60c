"""Stage `train`: logistic regression, fitted by stochastic gradient descent epoch by epoch."""

from pathlib import Path

import joblib
import mlp
import numpy as np
import pandas as pd
import yaml
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

PREPARED = Path("data/prepared")
MODEL = Path("models/model.joblib")
HISTORY = Path("metrics/history.csv")


def fit(
    train: pd.DataFrame, valid: pd.DataFrame, *, lr: float, epochs: int, l2: float, seed: int
) -> tuple[Pipeline, pd.DataFrame]:
    """The fitted model, and its losses after each epoch. The same seed gives the same model."""
    features, target = train.drop(columns="target"), train["target"]
    scaler = StandardScaler().fit(features)
    classifier = SGDClassifier(
        loss="log_loss",
        learning_rate="constant",
        eta0=lr,
        alpha=l2,
        random_state=np.random.RandomState(seed),
    )
    model = Pipeline([("scale", scaler), ("classify", classifier)])
    scaled = scaler.transform(features)
    history = []
    for epoch in range(epochs):
        classifier.partial_fit(scaled, target, classes=[0, 1])
        losses = {"train_loss": loss(model, train), "valid_loss": loss(model, valid)}
        mlp.log(losses, step=epoch)
        history.append({"epoch": epoch, **losses})
    return model, pd.DataFrame(history)


def loss(model: Pipeline, part: pd.DataFrame) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    return float(log_loss(part["target"], model.predict_proba(part.drop(columns="target"))))


def main() -> None:
    """Write the model and the history, and log the model."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    train, valid = (pd.read_csv(PREPARED / f"{name}.csv") for name in ("train", "valid"))
    model, history = fit(train, valid, **params["train"], seed=params["seed"])
    MODEL.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, MODEL)
    HISTORY.parent.mkdir(parents=True, exist_ok=True)
    history.to_csv(HISTORY, index=False)
    mlp.log_model(model, train.drop(columns="target").head(5))
    print(f"valid_loss {history['valid_loss'].iloc[-1]:.4f} after {len(history)} epochs")


if __name__ == "__main__":
    main()
