"""Turn prepared flights into what the models read: codes of categories and scaled numbers.

Everything that is learned from data for this (categories, scales, late rates) is an `Encoding`,
learned from the training months alone. The served model carries it, so that a request is encoded
by the code below as well.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

PREPARED, FEATURES = Path("data/prepared"), Path("data/features")
LABEL = "late"

CATEGORIES = ["carrier", "origin", "dest", "weekday", "departure_hour", "plane_engine"]
# Share of late flights, in the past, among those that agree in these columns.
LATE_RATES = {
    "late_rate_carrier": ["origin", "carrier"],
    "late_rate_route": ["origin", "dest"],
    "late_rate_flight": ["carrier", "flight"],
}


@dataclass(frozen=True)
class Encoding:
    """What was learned from the training months."""

    categories: dict[str, list[str]]  # code 0 means: not seen in training
    late_share: float
    late_rates: dict[str, dict[str, float]]
    means: dict[str, float]
    scales: dict[str, float]

    @property
    def numbers(self) -> list[str]:
        return list(self.means)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Encoding":
        return cls(**json.loads(path.read_text()))


def main() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())["features"]
    months = {m: read_month(m) for m in params["train_months"]}
    train, encoding = learn(months, params["prior_flights"])

    FEATURES.mkdir(parents=True, exist_ok=True)
    encoding.save(FEATURES / "encoding.json")
    train.to_parquet(FEATURES / "train.parquet", index=False)
    for part in ("validation", "test"):
        rows = read_month(params[f"{part}_month"])
        encoded = encode(rows, encoding).assign(late=rows[LABEL])
        encoded.to_parquet(FEATURES / f"{part}.parquet", index=False)


def read_month(month: int) -> pd.DataFrame:
    return pd.read_parquet(PREPARED / f"2013-{month:02d}.parquet")


def learn(months: dict[int, pd.DataFrame], prior_flights: float) -> tuple[pd.DataFrame, Encoding]:
    """The encoding of the training months, and their rows encoded by it.

    The late rates that a training flight sees are those of the other months: rates that count the
    flight itself would tell the model its label.
    """
    everything = pd.concat(months.values())
    encoding = learn_late_rates(everything, prior_flights)
    described = []
    for month, rows in months.items():
        others = pd.concat(other for m, other in months.items() if m != month)
        described.append(describe(rows, learn_late_rates(others, prior_flights)))
    training = pd.concat(described)

    numbers = training.drop(columns=CATEGORIES)
    encoding = replace(
        encoding,
        categories={name: sorted(training[name].unique()) for name in CATEGORIES},
        means=numbers.mean().to_dict(),
        scales=numbers.std().replace(0, 1).to_dict(),
    )
    return to_numbers(training, encoding).assign(late=everything[LABEL].to_numpy()), encoding


def learn_late_rates(flights: pd.DataFrame, prior_flights: float) -> Encoding:
    """An encoding with late rates only; rates of few flights are pulled to the overall share."""
    share = float(flights[LABEL].mean())
    rates = {}
    for name, columns in LATE_RATES.items():
        groups = flights[LABEL].groupby(joined(flights, columns)).agg(["sum", "size"])
        smoothed = (groups["sum"] + prior_flights * share) / (groups["size"] + prior_flights)
        rates[name] = smoothed.to_dict()
    return Encoding({}, share, rates, {}, {})


def encode(flights: pd.DataFrame, encoding: Encoding) -> pd.DataFrame:
    """One row of codes and scaled numbers per flight; reads no label."""
    return to_numbers(describe(flights, encoding), encoding)


def describe(flights: pd.DataFrame, encoding: Encoding) -> pd.DataFrame:
    """The features of each flight in natural units, categories as text."""
    hour = flights["departure_minute"] // 60
    angle = np.deg2rad(flights["weather_wind_dir"])
    rows: dict[str, Any] = {
        "carrier": flights["carrier"],
        "origin": flights["origin"],
        "dest": flights["dest"],
        "weekday": flights["weekday"],
        "departure_hour": hour.map("{:02.0f}".format),
        "plane_engine": flights["plane_engine"],
        "departure_minute": flights["departure_minute"],
        "arrival_minute": flights["arrival_minute"],
        "distance": np.log(flights["distance"]),
        "flights_in_hour": flights["flights_in_hour"],
        "plane_age": flights["time_hour"].dt.year - flights["plane_year"],
        "plane_seats": flights["plane_seats"],
        "wind_north": flights["weather_wind_speed"] * np.cos(angle),
        "wind_east": flights["weather_wind_speed"] * np.sin(angle),
        "rain": np.log1p(100 * flights["weather_precip"]),
        "rain_recent": np.log1p(100 * flights["weather_precip_sum"]),
        "fog": 10 - flights["weather_visib"],
        "fog_recent": 10 - flights["weather_visib_mean"],
    }
    for name in ("temp", "humid", "wind_speed", "wind_gust", "pressure"):
        rows[name] = flights[f"weather_{name}"]
    for name, columns in LATE_RATES.items():
        known = joined(flights, columns).map(encoding.late_rates[name])
        rows[name] = known.fillna(encoding.late_share)
    return pd.DataFrame(rows)


def to_numbers(rows: pd.DataFrame, encoding: Encoding) -> pd.DataFrame:
    """Categories as codes; numbers centred and scaled, with 0 (the mean) where one is missing."""
    codes = {}
    for name, texts in encoding.categories.items():
        code = {text: i for i, text in enumerate(texts, start=1)}
        codes[name] = rows[name].map(code).fillna(0).astype("int64")
    scaled = {
        name: ((rows[name] - mean) / encoding.scales[name]).fillna(0).clip(-5, 5).astype("float32")
        for name, mean in encoding.means.items()
    }
    return pd.DataFrame({**codes, **scaled})


def joined(flights: pd.DataFrame, columns: list[str]) -> "pd.Series[str]":
    """The key of a group: "EWR-ORD" for origin and dest."""
    rows = flights.assign(flight=flights["flight"].map("{:.0f}".format))
    texts = [rows[name] for name in columns]
    return texts[0].str.cat(texts[1:], sep="-")


if __name__ == "__main__":
    main()
