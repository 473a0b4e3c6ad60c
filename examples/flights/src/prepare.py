"""Clean and join the tables: one row per flight with what is known before it departs.

The columns that only exist afterwards (departure, arrival and air time, delays) end here: they
make the label and are written nowhere. One Parquet file per month, so that months can be added.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

RAW = Path("data/raw")
PREPARED, FUTURE = Path("data/prepared"), Path("data/future")
REPORT = Path("reports/flights.json")

WEATHER = ["temp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
STRONGEST_WIND_MPH = 150  # one observation of 2013 says 1048

# What a caller of the model knows when it asks; `late` is what it wants to know.
KNOWN_BEFORE = [
    *("time_hour", "carrier", "flight", "tailnum", "origin", "dest", "distance"),
    *("weekday", "departure_minute", "arrival_minute", "flights_in_hour"),
    *("plane_year", "plane_seats", "plane_engine"),
    *(f"weather_{name}" for name in [*WEATHER, "precip_sum", "visib_mean"]),
]
LABEL = "late"


def main() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())["prepare"]
    flights = pd.read_csv(RAW / "flights.csv")
    weather = pd.read_csv(RAW / "weather.csv")
    planes = pd.read_csv(RAW / "planes.csv")
    prepared = prepare(flights, weather, planes, params)

    for folder in (PREPARED, FUTURE):
        folder.mkdir(parents=True, exist_ok=True)
    for month, rows in prepared.groupby(flights["month"]):
        folder = FUTURE if month in params["future_months"] else PREPARED
        rows.to_parquet(folder / f"2013-{month:02d}.parquet", index=False)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(counted(flights, prepared), indent=2) + "\n")


def prepare(
    flights: pd.DataFrame, weather: pd.DataFrame, planes: pd.DataFrame, params: dict[str, Any]
) -> pd.DataFrame:
    """One row per completed flight: the columns KNOWN_BEFORE and LABEL, in order of departure."""
    rows = flights.assign(time_hour=in_utc(flights["time_hour"]))
    rows["weekday"] = pd.to_datetime(rows[["year", "month", "day"]]).dt.day_name()
    rows["departure_minute"] = minute_of_day(rows["sched_dep_time"])
    rows["arrival_minute"] = minute_of_day(rows["sched_arr_time"])
    # How busy the airport is by the schedule; flights cancelled later were on it too.
    rows["flights_in_hour"] = rows.groupby(["origin", "time_hour"])["flight"].transform("size")
    rows = with_index(rows, known_weather(weather, params["weather_hours"]))
    rows = with_index(rows, known_planes(planes)).fillna({"plane_engine": "unknown"})

    rows = rows[completed(rows)]
    rows[LABEL] = (rows["arr_delay"] > params["late_minutes"]).astype("int64")
    rows = rows.sort_values(["time_hour", "departure_minute", "origin", "carrier", "flight"])
    numbers = rows[KNOWN_BEFORE].select_dtypes("number").columns
    return rows[[*KNOWN_BEFORE, LABEL]].astype(dict.fromkeys(numbers, "float64"))


def completed(flights: pd.DataFrame) -> "pd.Series[bool]":
    """False for cancelled and diverted flights: they have no arrival to be late for."""
    return flights["arr_delay"].notna()


def in_utc(texts: "pd.Series[str]") -> "pd.Series[pd.Timestamp]":
    """Without a time zone, as MLflow wants times."""
    return pd.to_datetime(texts).dt.tz_localize(None)


def minute_of_day(clock: "pd.Series[int]") -> "pd.Series[int]":
    """517 (5:17) as 317."""
    return clock // 100 * 60 + clock % 100


def known_weather(weather: pd.DataFrame, hours: int) -> pd.DataFrame:
    """The weather at each airport and hour as it was observed the hour before.

    This stands in for the forecast that one would have: an observation of the flight's own hour
    may be made after it departed.
    """
    rows = weather.sort_values(["origin", "time_hour"]).reset_index(drop=True)
    rows["wind_speed"] = rows["wind_speed"].where(rows["wind_speed"] < STRONGEST_WIND_MPH)
    rows["wind_gust"] = rows["wind_gust"].fillna(0.0)  # none is noted where there was none
    observed = in_utc(rows["time_hour"])
    recent = rows.assign(observed=observed).groupby("origin").rolling(f"{hours}h", on="observed")
    rows["precip_sum"] = recent["precip"].sum().to_numpy()
    rows["visib_mean"] = recent["visib"].mean().to_numpy()
    rows["time_hour"] = observed + pd.Timedelta(hours=1)
    rows = rows.set_index(["origin", "time_hour"])[[*WEATHER, "precip_sum", "visib_mean"]]
    return rows.add_prefix("weather_")


def known_planes(planes: pd.DataFrame) -> pd.DataFrame:
    """Year of make, seats and kind of engine by tail number, which is planned ahead."""
    return planes.set_index("tailnum")[["year", "seats", "engine"]].add_prefix("plane_")


def with_index(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """`table`'s columns beside `rows`, whose index stays; a missing entry leaves them empty."""
    return rows.join(table, on=list(table.index.names))


def counted(flights: pd.DataFrame, prepared: pd.DataFrame) -> dict[str, Any]:
    """How many flights there were, were left out, and were late."""
    cancelled = flights["dep_time"].isna()
    by_month = prepared[LABEL].groupby(flights["month"]).mean()
    return {
        "scheduled": len(flights),
        "cancelled": int(cancelled.sum()),
        "diverted": int((~cancelled & ~completed(flights)).sum()),
        "kept": len(prepared),
        "without_weather": int(prepared["weather_visib"].isna().sum()),
        "without_plane": int(prepared["plane_seats"].isna().sum()),
        "late_share": {f"2013-{month:02d}": round(share, 4) for month, share in by_month.items()},
    }


if __name__ == "__main__":
    main()
