"""How good predicted probabilities are: one threshold, the scores, the curves."""

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.calibration import calibration_curve


def best_threshold(late: np.ndarray, probability: np.ndarray) -> float:
    """The probability from which calling a flight late gives the highest F1."""
    precision, recall, thresholds = metrics.precision_recall_curve(late, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[np.argmax(f1[:-1])])


def scores(late: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    called = probability >= threshold
    values = {
        "f1": metrics.f1_score(late, called),
        "precision": metrics.precision_score(late, called, zero_division=0),
        "recall": metrics.recall_score(late, called),
        "roc_auc": metrics.roc_auc_score(late, probability),
        "average_precision": metrics.average_precision_score(late, probability),
        "log_loss": metrics.log_loss(late, probability),
        "brier": metrics.brier_score_loss(late, probability),
    }
    return {name: round(float(value), 5) for name, value in values.items()}


def curves(late: np.ndarray, probability: np.ndarray, points: int = 200) -> dict[str, pd.DataFrame]:
    """Tables to plot, each thinned to about `points` rows."""
    false_positive, true_positive, _ = metrics.roc_curve(late, probability)
    precision, recall, _ = metrics.precision_recall_curve(late, probability)
    observed, predicted = calibration_curve(late, probability, n_bins=20, strategy="quantile")
    tables = {
        "roc": {"false_positive_rate": false_positive, "true_positive_rate": true_positive},
        "precision_recall": {"recall": recall, "precision": precision},
        "calibration": {"predicted": predicted, "observed": observed},
    }
    return {name: thinned(pd.DataFrame(table), points) for name, table in tables.items()}


def thinned(table: pd.DataFrame, points: int) -> pd.DataFrame:
    kept = np.unique(np.linspace(0, len(table) - 1, points).round().astype(int))
    return table.iloc[kept]
