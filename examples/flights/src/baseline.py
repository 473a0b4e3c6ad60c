"""Logistic regression on the same features: what the network has to beat."""

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import yaml
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_limits

from features import CATEGORIES, FEATURES, LABEL
from scores import best_threshold

MODEL = Path("models/baseline.joblib")


def main() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())["baseline"]
    train = pd.read_parquet(FEATURES / "train.parquet")
    validation = pd.read_parquet(FEATURES / "validation.parquet")

    categories = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), CATEGORIES), remainder="passthrough"
    )
    model = make_pipeline(categories, LogisticRegression(C=params["strength"], max_iter=300))
    with threadpool_limits(1):  # the same bits every time
        model.fit(train.drop(columns=LABEL), train[LABEL])
        threshold = best_threshold(validation[LABEL].to_numpy(), probabilities(model, validation))

    MODEL.parent.mkdir(exist_ok=True)
    joblib.dump({"model": model, "threshold": threshold}, MODEL)


def probabilities(model: LogisticRegression, rows: pd.DataFrame) -> np.ndarray:
    return model.predict_proba(rows.drop(columns=LABEL))[:, 1]


if __name__ == "__main__":
    main()
