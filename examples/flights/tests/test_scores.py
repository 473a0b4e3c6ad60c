import numpy as np
import pytest

from scores import best_threshold, scores

LATE = np.array([0, 0, 0, 1, 0, 1, 1, 0])
GUESS = np.array([0.1, 0.2, 0.3, 0.35, 0.4, 0.7, 0.8, 0.15])


def test_no_threshold_has_a_higher_f1_than_the_best():
    best = scores(LATE, GUESS, best_threshold(LATE, GUESS))["f1"]
    assert best == max(scores(LATE, GUESS, t)["f1"] for t in GUESS)


def test_a_constant_guess_scores_as_one_that_knows_nothing():
    values = scores(LATE, np.full(len(LATE), LATE.mean()), LATE.mean())
    share = LATE.mean()
    assert values["roc_auc"] == 0.5
    assert values["average_precision"] == share
    assert values["f1"] == pytest.approx(2 * share / (1 + share), abs=1e-5)
