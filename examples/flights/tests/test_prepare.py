import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal

from prepare import KNOWN_BEFORE, in_utc, known_weather

AFTERWARDS = ["dep_time", "dep_delay", "arr_time", "air_time"]


def test_nothing_measured_after_departure_reaches_a_row(tables, prepared):
    blinded = tables["flights"].assign(**dict.fromkeys(AFTERWARDS, np.nan))
    assert_frame_equal(prepared(flights=blinded), prepared())


def test_the_arrival_delay_decides_the_label_and_nothing_else(tables, prepared):
    flights = tables["flights"]
    swapped = flights.assign(arr_delay=30 - flights["arr_delay"])
    assert_frame_equal(prepared(flights=swapped)[KNOWN_BEFORE], prepared()[KNOWN_BEFORE])
    assert prepared(flights=swapped)["late"].mean() > 0.5 > prepared()["late"].mean()


def test_weather_of_the_hour_of_departure_is_not_used(tables, prepared):
    hour = pd.Timestamp("2013-01-02 15:00")
    weather = tables["weather"]
    storm = weather.assign(visib=weather["visib"].where(in_utc(weather["time_hour"]) < hour, -1))
    rows, stormy = prepared(), prepared(weather=storm)
    until = rows["time_hour"] <= hour
    assert_frame_equal(stormy[until], rows[until])
    after = rows["time_hour"] == hour + pd.Timedelta(hours=1)
    assert (stormy[after]["weather_visib"] == -1).all()


def test_rain_is_summed_over_hours_and_not_over_rows(tables):
    weather = tables["weather"]
    ewr = weather[weather["origin"] == "EWR"].head(48)
    with_gap = ewr.drop(ewr.index[20:24]).assign(precip=0.1)
    rain = known_weather(with_gap, hours=6)["weather_precip_sum"].round(1).tolist()
    assert rain[:7] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6]
    assert rain[20:24] == [0.2, 0.2, 0.3, 0.4]  # four hours are missing before


def test_cancelled_and_diverted_flights_are_left_out_but_fill_the_schedule(tables, prepared):
    flights = tables["flights"]
    rows = prepared()
    assert len(rows) == flights["arr_delay"].notna().sum() < len(flights)
    busiest = flights.groupby(["origin", "time_hour"]).size().max()
    assert rows["flights_in_hour"].max() == busiest


def test_every_flight_is_there_once(tables, prepared):
    assert prepared().index.is_unique
    assert prepared().index.isin(tables["flights"].index).all()
