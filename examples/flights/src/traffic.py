"""September's flights as requests to `mlp serve`, and how they came out as labels.csv."""

import json
import sys
import urllib.request

import pandas as pd

from prepare import LABEL

FLIGHTS, AT_ONCE = 6_000, 60


def predict(address: str, flights: pd.DataFrame) -> str:
    """The request's id, by which the labels are joined later."""
    body = {"dataframe_split": json.loads(flights.to_json(orient="split", date_format="iso"))}
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return answer.headers["X-Request-Id"]


def main(address: str = "http://127.0.0.1:8080") -> None:
    flights = pd.read_parquet("data/future/2013-09.parquet").head(FLIGHTS)
    labels = flights.pop(LABEL)
    rows = []
    for start in range(0, FLIGHTS, AT_ONCE):
        request = predict(address, flights[start : start + AT_ONCE])
        rows += [(request, i, late) for i, late in enumerate(labels[start : start + AT_ONCE])]
    pd.DataFrame(rows, columns=["request_id", "row", "label"]).to_csv("labels.csv", index=False)
    print(f"{len(rows)} flights predicted, their labels are in labels.csv")


if __name__ == "__main__":
    main(*sys.argv[1:])
