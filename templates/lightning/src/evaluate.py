"""Stage `evaluate`: how good the model is on digits that it has not seen, beside a baseline."""

import json
from pathlib import Path

import pandas as pd
import torch
from model import Digits, tensors
from torch import nn

PREPARED = Path("data/prepared")
MODEL = Path("models/model.pt")
METRICS = Path("metrics/test.json")
PREDICTIONS = Path("metrics/predictions.csv")


def load(path: Path) -> Digits:
    """The model that the stage `train` wrote."""
    checkpoint = torch.load(path, weights_only=True)
    model = Digits(**checkpoint["settings"])
    model.load_state_dict(checkpoint["weights"])
    return model.eval()


def evaluate(model: Digits, part: pd.DataFrame) -> tuple[dict[str, float], pd.DataFrame]:
    """The metrics, and each digit with its prediction.

    `baseline_accuracy` is that of always answering the most frequent digit.
    """
    pixels, digits = tensors(part).tensors
    with torch.inference_mode():
        scores = model(pixels)
    predicted = scores.argmax(dim=1)
    metrics = {
        "accuracy": float((predicted == digits).float().mean()),
        "baseline_accuracy": float(part["target"].value_counts(normalize=True).max()),
        "loss": float(nn.functional.cross_entropy(scores, digits)),
    }
    return metrics, pd.DataFrame({"actual": digits.numpy(), "predicted": predicted.numpy()})


def main() -> None:
    """Write the metrics and the predictions."""
    metrics, predictions = evaluate(load(MODEL), pd.read_csv(PREPARED / "test.csv"))
    METRICS.parent.mkdir(parents=True, exist_ok=True)
    METRICS.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    predictions.to_csv(PREDICTIONS, index=False)
    print(" ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


if __name__ == "__main__":
    main()
