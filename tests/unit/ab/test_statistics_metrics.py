"""Metrics are sklearn's, tests are scipy's, intervals hold what they claim."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from mlp.core.ab.statistics import fixed_horizon, metrics, quantiles
from mlp.core.ab.statistics.labelled_rows import LabelledRows
from mlp.core.ab.statistics.metric_comparison import AnalysisPlan, compare
from mlp.core.errors import ConfigurationError

Array = NDArray[Any]


def rows(
    label: Any,
    prediction: Any,
    *,
    arm: Any = None,
    user: Any = None,
    weight: Any = None,
    probability: Any = None,
) -> LabelledRows:
    n = len(label)
    user = np.arange(n) if user is None else np.asarray(user)
    return LabelledRows(
        np.zeros(n, int) if arm is None else np.asarray(arm),
        user,
        int(user.max()) + 1 if n else 0,
        np.ones(n) if weight is None else np.asarray(weight, float),
        np.asarray(label, object),
        np.asarray(prediction, object),
        None if probability is None else np.asarray(probability, float),
    )


def value(name: str, data: LabelledRows, positive: str | None = None) -> float:
    """The champion's."""
    return float(metrics.find(name).of(data, positive).pair().value[0])


binary = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 20), st.floats(0.1, 9)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60)
@given(binary)
def test_metrics_of_two_classes_are_sklearns(data: list[tuple[int, int, int, float]]) -> None:
    label, prediction, step, weight = (np.array(column) for column in zip(*data, strict=True))
    score = step / 20
    both = np.stack([1 - score, score], -1)
    given_rows = rows(label, prediction, weight=weight, probability=both)
    known = {"sample_weight": weight}
    assert value("accuracy", given_rows) == pytest.approx(
        sk.accuracy_score(label, prediction, **known)
    )
    for name in ("precision", "recall", "f1"):
        expected = getattr(sk, f"{name}_score")(
            label, prediction, zero_division=np.nan, pos_label=1, **known
        )
        assert value(name, given_rows, "1") == pytest.approx(expected, nan_ok=True)
    assert value("brier", given_rows, "1") == pytest.approx(
        np.average((score - label) ** 2, weights=weight)
    )
    expected = sk.log_loss(label, both, labels=[0, 1], **known)
    assert value("log_loss", given_rows, "1") == pytest.approx(expected)
    if 0 < label.sum() < len(label):
        expected = sk.roc_auc_score(label, score, **known)
        assert value("auc", given_rows, "1") == pytest.approx(expected)
    else:
        assert np.isnan(value("auc", given_rows, "1"))
    assert value("conversion", given_rows, "1") == pytest.approx(np.average(label, weights=weight))


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), st.floats(0.1, 9)),
        min_size=1,
        max_size=40,
    )
)
def test_metrics_of_many_classes_are_sklearns(data: list[tuple[str, str, float]]) -> None:
    label, prediction, weight = (np.array(column) for column in zip(*data, strict=True))
    given_rows = rows(label, prediction, weight=weight)
    for name in ("precision", "recall", "f1"):
        expected = getattr(sk, f"{name}_score")(
            label, prediction, average="macro", zero_division=0, sample_weight=weight
        )
        assert value(f"{name}_macro", given_rows) == pytest.approx(expected)


numbers = st.floats(-100, 100).map(lambda x: round(x, 3))


@settings(max_examples=60)
@given(st.lists(st.tuples(numbers, numbers, st.floats(0.1, 9)), min_size=2, max_size=40))
def test_errors_of_regressions_are_sklearns(data: list[tuple[float, float, float]]) -> None:
    label, prediction, weight = (np.array(column) for column in zip(*data, strict=True))
    given_rows = rows(label, prediction, weight=weight)
    for name, function in (
        ("mae", sk.mean_absolute_error),
        ("mse", sk.mean_squared_error),
        ("rmse", sk.root_mean_squared_error),
    ):
        expected = function(label, prediction, sample_weight=weight)
        assert value(name, given_rows) == pytest.approx(expected, abs=1e-9)
    if np.ptp(label) > 0.01:
        expected = sk.r2_score(label, prediction, sample_weight=weight)
        assert value("r2", given_rows) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["auc", "log_loss", "brier"])
def test_a_metric_of_probabilities_is_not_computed_from_classes(name: str) -> None:
    with pytest.raises(ConfigurationError, match="only the classes that were predicted") as refused:
        value(name, rows([0.0, 1.0, 1.0], [0.0, 1.0, 0.0]))
    assert "model.probability" in refused.value.fix
    assert value(name, rows([0.0, 1.0, 1.0], [0.1, 0.9, 0.4])) >= 0


def test_log_loss_of_many_classes_is_sklearns() -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 3, 200)
    probability = random.dirichlet([1, 1, 1], 200)
    found = value("log_loss", rows(label, label, probability=probability))
    assert found == pytest.approx(sk.log_loss(label, probability))
    seen = rows(label[label < 2], label[label < 2], probability=probability[label < 2])
    assert value("log_loss", seen) == pytest.approx(
        sk.log_loss(label[label < 2], probability[label < 2], labels=[0, 1, 2])
    )


def test_the_same_class_in_other_words_is_the_same_class() -> None:
    assert value("accuracy", rows([1, "1", True, 1.0, 0], [1.0, 1, 1, True, "0"])) == 1
    assert value("f1", rows(["no", "yes"], ["no", "yes"]), "yes") == 1
    assert value("f1", rows([0, 1, 1], [0, 1, 1]), "true") == 1


def test_what_does_not_fit_the_log_is_refused_with_what_would() -> None:
    with pytest.raises(ConfigurationError, match=r"have: accuracy.*did you mean 'f1'"):
        metrics.find("f11")
    with pytest.raises(ConfigurationError, match="two classes, and the log has 3") as refused:
        value("f1", rows([0, 1, 2], [0, 1, 2]))
    assert "f1_macro" in refused.value.fix
    with pytest.raises(
        ConfigurationError, match=r"'x', which is not a class of the log \(have: 0, 1\)"
    ):
        value("f1", rows([0, 1], [0, 1]), "x")
    with pytest.raises(ConfigurationError, match="rmse needs numbers, and the log has 'abc'"):
        value("rmse", rows(["abc"], [1.0]))
    assert metrics.find("roc_auc").name == "auc"


def two_arms(
    n: int, seed: int, *, users: int | None = None, better: float = 0.0
) -> tuple[LabelledRows, Array]:
    """Rows with labels, predictions and scores; several rows a user if `users` are fewer."""
    random = np.random.default_rng(seed)
    user = np.arange(n) if users is None else random.integers(0, users, n)
    arm = random.integers(0, 2, n if users is None else users)[user]
    label = random.random(n) < 0.4
    score = 1 / (1 + np.exp(-random.standard_normal(n) - (label - 0.5) * (2 + better * arm)))
    probability = np.stack([1 - score, score], -1)
    return rows(label, score > 0.5, arm=arm, user=user, probability=probability), arm


def test_the_plain_test_of_a_mean_is_welchs() -> None:
    random = np.random.default_rng(1)
    a, b = random.exponential(1.0, 80), random.exponential(1.3, 50)
    data = rows(np.r_[a, b], np.r_[a, b], arm=np.r_[np.zeros(80, int), np.ones(50, int)])
    statistic = metrics.find("mean_label").of(data, None)
    found = compare(statistic, AnalysisPlan(0.05, 0.8, None, 1000))
    expected = stats.ttest_ind(b, a, equal_var=False)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose(found.fixed, [interval.low, interval.high, expected.pvalue])
    assert found.difference == pytest.approx(b.mean() - a.mean())


@pytest.mark.parametrize("name", ["f1", "precision", "auc", "rmse", "log_loss", "f1_macro"])
def test_the_delta_method_and_the_bootstrap_agree(name: str) -> None:
    """Both standard errors of the difference, with three rows a user; the bootstrap's varies."""
    data, _ = two_arms(6000, seed=2, users=2000)
    if name == "rmse":
        label = data.label.astype(float)
        data = rows(
            label,
            data.probability[:, 1],
            arm=data.arm,
            user=data.user,  # type: ignore[index]
        )
    metric, random = metrics.find(name), np.random.default_rng(0)
    drawn = []
    for _ in range(1000):  # each user counts Poisson(1) times, all rows of one user alike
        weight = random.poisson(1.0, data.users)[data.user].astype(float)
        resample = dataclasses.replace(data, weight=weight)
        drawn.append(float(metric.of(resample, None).pair().contrast()[0]))
    _, variance = metric.of(data, None).pair().contrast()
    assert np.std(drawn) == pytest.approx(float(variance) ** 0.5, rel=0.1)


def test_a_users_rows_in_both_arms_are_not_independent() -> None:
    """The same rows in both arms differ by nothing, for certain."""
    data, _ = two_arms(500, seed=3)
    again = rows(
        np.r_[data.label, data.label],
        np.r_[data.prediction, data.prediction],
        arm=np.r_[np.zeros(500, int), np.ones(500, int)],
        user=np.r_[data.user, data.user],
        probability=np.r_[data.probability, data.probability],  # type: ignore[arg-type]
    )
    for name in ("log_loss", "r2"):
        d, variance = metrics.find(name).of(again, None).pair().contrast()
        assert (d, variance) == (pytest.approx(0), pytest.approx(0, abs=1e-12))


@pytest.mark.parametrize("name", ["f1", "auc"])
def test_the_plain_interval_covers_the_truth_as_often_as_it_says(name: str) -> None:
    """200 experiments at 95 %: between 180 and 199 (binomial, beyond three standard errors)."""
    data, _ = two_arms(400_000, seed=6)
    truth = value(name, rows(data.label, data.prediction, probability=data.probability))
    covered = 0
    for seed in range(200):
        some, _ = two_arms(800, seed=100 + seed, users=400)
        statistic = metrics.find(name).of(some, None)
        (_, low, high), _ = compare(statistic, AnalysisPlan(0.05, 0.8, None, 1000)).arms
        covered += low <= truth <= high
    assert 180 <= covered <= 199


def test_an_arm_that_has_not_failed_yet_has_a_spread() -> None:
    """20 failures of 10,000 against none of 1,000, where 2 are expected, is no evidence."""
    label = np.r_[np.ones(10_000, int), np.ones(1_000, int)]
    prediction = label.copy()
    prediction[:20] = 0
    data = rows(label, prediction, arm=np.r_[np.zeros(10_000, int), np.ones(1_000, int)])
    found = compare(metrics.find("accuracy").of(data, None), AnalysisPlan(0.05, 0.8, None, 1000))
    assert found.sequential[2] > 0.5


def test_nothing_to_compare_is_not_a_number_and_no_crash() -> None:
    for name in ("f1", "auc", "rmse", "f1_macro", "accuracy", "conversion", "r2"):
        data = rows([], [], probability=np.zeros((0, 2)))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error")
            statistic = metrics.find(name).of(data, None)
            found = compare(statistic, AnalysisPlan(0.05, 0.8, None, 1000))
        assert np.isnan(found.difference)
        assert found.sequential[2] == 1


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(0.01, 0.99))
def test_quantiles_are_numpys(values: list[float], q: float) -> None:
    found = quantiles.quantile(np.array(values), np.ones(len(values)), q)
    assert found in (
        np.quantile(values, q, method="inverted_cdf"),
        np.quantile(values, q, method="higher"),
    ) or found == pytest.approx(np.quantile(values, q, method="inverted_cdf"))


def test_freedom_of_equal_arms_is_the_sum_of_both() -> None:
    assert fixed_horizon.freedom([1.0, 1.0], [50, 50]) == pytest.approx(98)
