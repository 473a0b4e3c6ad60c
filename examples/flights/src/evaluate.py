"""Score the network, the baseline and a constant guess on the validation and the test month.

The thresholds come from the validation month, so its F1 flatters a little; the test month decides
nothing.
"""

import json
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch

import baseline
import network
from features import FEATURES, LABEL, Encoding
from network import Flights
from scores import curves, scores

METRICS, PLOTS = Path("reports/metrics.json"), Path("plots")


def main() -> None:
    torch.set_num_threads(1)
    encoding = Encoding.load(FEATURES / "encoding.json")
    net, net_threshold = network.load(network.MODEL)
    logistic = joblib.load(baseline.MODEL)
    PLOTS.mkdir(exist_ok=True)
    METRICS.parent.mkdir(exist_ok=True)

    report: dict[str, dict[str, object]] = {}
    for part in ("test", "validation"):
        rows = pd.read_parquet(FEATURES / f"{part}.parquet")
        late = rows[LABEL].to_numpy()
        predicted = {
            "network": (net.probabilities(Flights(rows, encoding)), net_threshold),
            "baseline": (baseline.probabilities(logistic["model"], rows), logistic["threshold"]),
            # Everybody gets the share of late flights in training, and so everybody is called late.
            "constant": (np.full(len(rows), encoding.late_share), encoding.late_share),
        }
        report[part] = {name: scores(late, *guess) for name, guess in predicted.items()}
        if part == "test":
            for name in ("network", "baseline"):
                write_curves(name, late, predicted[name][0])
        report[part]["flights"] = len(rows)
        report[part]["late_share"] = round(float(late.mean()), 5)
    METRICS.write_text(json.dumps(report, indent=2) + "\n")


def write_curves(name: str, late: np.ndarray, probability: np.ndarray) -> None:
    for curve, table in curves(late, probability).items():
        table.to_csv(PLOTS / f"{curve}_{name}.csv", index=False, float_format="%.6f")


if __name__ == "__main__":
    main()
