from dataclasses import replace

import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal

from features import CATEGORIES, LATE_RATES, Encoding, encode, learn

PRIOR = 20


def test_a_training_flights_own_month_does_not_reach_its_features(months):
    january, february = months[1], months[2]
    flipped = january.assign(late=1 - january["late"])
    seen = []
    for first in (january, flipped):
        rows, encoding = learn({1: first, 2: february}, PRIOR)
        names = list(LATE_RATES)
        rates = rows[names] * pd.Series(encoding.scales)[names] + pd.Series(encoding.means)[names]
        seen.append((rates, rows.drop(columns=["late", *LATE_RATES])))
    own, other = slice(0, len(january)), slice(len(january), None)
    assert np.allclose(seen[0][0][own], seen[1][0][own], atol=1e-6)
    assert not np.allclose(seen[0][0][other], seen[1][0][other], atol=1e-2)
    assert_frame_equal(seen[0][1], seen[1][1])


def test_labels_of_later_months_change_no_feature(months):
    _, encoding = learn({1: months[1], 2: months[2]}, PRIOR)
    july = months[7]
    without_label = encode(july.drop(columns="late"), encoding)
    assert_frame_equal(without_label, encode(july, encoding))


def test_a_rate_of_few_flights_stays_near_the_overall_share(months):
    _, encoding = learn({1: months[1], 2: months[2]}, prior_flights=1e9)
    for rates in encoding.late_rates.values():
        assert np.allclose(list(rates.values()), encoding.late_share)


def test_what_training_never_saw_is_encoded_all_the_same(months):
    _, encoding = learn({1: months[1], 2: months[2]}, PRIOR)
    numbers = months[7].select_dtypes("number").columns
    strange = months[7].head(3).assign(carrier="??", dest="???", plane_engine="steam")
    strange[numbers.intersection(["weather_temp", "plane_year", "weather_wind_dir"])] = np.nan
    encoded = encode(strange, encoding)
    assert (encoded[["carrier", "dest", "plane_engine"]] == 0).all(axis=None)
    assert encoded.notna().all(axis=None)


def test_the_order_of_the_months_changes_nothing_learned(months):
    _, one = learn({1: months[1], 2: months[2]}, PRIOR)
    _, other = learn({2: months[2], 1: months[1]}, PRIOR)
    assert one.categories == other.categories
    assert one.late_rates == other.late_rates


def test_an_encoding_survives_its_file(months, tmp_path):
    _, encoding = learn({1: months[1], 2: months[2]}, PRIOR)
    encoding.save(tmp_path / "encoding.json")
    assert Encoding.load(tmp_path / "encoding.json") == encoding
    assert replace(encoding, late_share=0.0) != encoding
    assert list(encoding.categories) == CATEGORIES
