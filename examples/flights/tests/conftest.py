"""The real tables, of the flights a few days of three months."""

from collections.abc import Callable

import pandas as pd
import pytest

import fetch
from prepare import prepare

PARAMS = {"late_minutes": 15, "weather_hours": 6}
Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    raw = tmp_path_factory.mktemp("raw")
    fetch.fetch(raw)
    read = {name: pd.read_csv(raw / f"{name}.csv") for name in ("flights", "weather", "planes")}
    flights = read["flights"]
    chosen = flights["month"].isin([1, 2, 7]) & (flights["day"] <= 3)
    return {**read, "flights": flights[chosen].reset_index(drop=True)}


@pytest.fixture(scope="session")
def prepared(tables: Tables) -> Callable[..., pd.DataFrame]:
    """prepared(flights=...): the tables prepared, some of them replaced."""
    return lambda **replaced: prepare(**{**tables, **replaced}, params=PARAMS)


@pytest.fixture(scope="session")
def months(prepared: Callable[..., pd.DataFrame]) -> dict[int, pd.DataFrame]:
    rows = prepared()
    return {m: rows[rows["time_hour"].dt.month == m] for m in (1, 2, 7)}
