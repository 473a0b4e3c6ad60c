"""Stage `evaluate`: how good the model is on rows that it has not seen, beside a baseline."""

import json
from pathlib import Path

import joblib
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.pipeline import Pipeline

PREPARED = Path("data/prepared")
MODEL = Path("models/model.joblib")
METRICS = Path("metrics/test.json")
PREDICTIONS = Path("metrics/predictions.csv")


def evaluate(model: Pipeline, part: pd.DataFrame) -> tuple[dict[str, float], pd.DataFrame]:
    """The metrics, and each row's label with its prediction.

    `baseline_accuracy` is that of always answering the most frequent class.
    """
    target = part["target"]
    probability = model.predict_proba(part.drop(columns="target"))[:, 1]
    predicted = (probability >= 0.5).astype(int)
    metrics = {
        "accuracy": accuracy_score(target, predicted),
        "baseline_accuracy": target.value_counts(normalize=True).max(),
        "f1": f1_score(target, predicted),
        "log_loss": log_loss(target, probability),
        "roc_auc": roc_auc_score(target, probability),
    }
    names = {0: "malignant", 1: "benign"}
    table = pd.DataFrame({"actual": target, "predicted": predicted}).replace(names)
    return {name: float(value) for name, value in metrics.items()}, table


def main() -> None:
    """Write the metrics and the predictions."""
    metrics, predictions = evaluate(joblib.load(MODEL), pd.read_csv(PREPARED / "test.csv"))
    METRICS.parent.mkdir(parents=True, exist_ok=True)
    METRICS.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    predictions.to_csv(PREDICTIONS, index=False)
    print(" ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


if __name__ == "__main__":
    main()
