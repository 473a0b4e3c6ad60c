"""`mlp ab` on a real log, ledger and registry: the verdict, its exit codes, traffic and shares."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from mlp.adapters.predictions.prediction_journal import PredictionJournal
from mlp.adapters.state import open_state
from mlp.core.ab.traffic import position
from mlp.core.models.ledger import Action, LedgerEntry
from mlp.core.serving.prediction_log import Label, Served
from tests.conftest import Done, Make, Project

YAML = """\
project: demo
model: {name: m, task: classification, primary: {metric: accuracy}}
serve: {challenger: 0.5, route_by: user}
"""
BEGAN = time.time() - 3600


@pytest.fixture
def shop(make_project: Make) -> Project:
    """A project whose model has a champion, version 1, and a challenger, version 2."""
    project = make_project({"mlp.yaml": YAML}, commit=False)
    client = project.client()
    client.create_registered_model("m")
    for alias in ("champion", "challenger"):
        version = client.create_model_version("m", f"file://{project.root}/none").version
        client.set_registered_model_alias("m", alias, version)
    ledger = [
        LedgerEntry("m", Action.PROMOTED, "1", alias="champion"),
        LedgerEntry("m", Action.PROMOTED, "2", alias="challenger"),
        LedgerEntry("m", Action.SHARED, "2", evidence={"share": 0.5, "shadow": False}),
    ]
    state = open_state(f"sqlite:///{project.root}/.mlp/state.db")
    for number, entry in enumerate(ledger):
        with_time = LedgerEntry(
            entry.model, entry.action, entry.version, alias=entry.alias,
            evidence=entry.evidence, at=BEGAN,
        )  # fmt: skip
        state.append(with_time, after=number)
    state.close()
    return project


Mlp = Callable[..., Done]


@pytest.fixture
def mlp(shop: Project) -> Mlp:
    return shop.call


def serve(
    project: Project,
    n: int,
    *,
    right: tuple[float, float] = (0.8, 0.8),
    slow: float = 1.0,
    misrouted: float = 0.0,
    began: float = BEGAN,
    label: Callable[[int], Any] = int,
) -> None:
    """`n` requests of n / 3 users as a server writes them down, and their labels."""
    random = np.random.default_rng(0)
    journal = PredictionJournal(project.root / ".mlp" / "predictions", "m")
    labels = []
    for number in range(n):
        user = f"user-{random.integers(0, n // 3)}"
        theirs = position("m", user) < 0.5 + misrouted
        truth = int(random.integers(0, 2))
        answer = truth if random.random() < right[theirs] else 1 - truth
        journal.append(
            Served(
                f"{began:.0f}-{number}",
                began + 10 + number * 0.1,
                "2" if theirs else "1",
                "challenger" if theirs else "champion",
                float(random.lognormal(1.0, 0.3)) * (slow if theirs else 1.0),
                "application/json",
                b'{"inputs": [[1.0]]}',
                b'{"predictions": [%d]}' % answer,
                keys=[user],
                probabilities=[[1 - 0.8 * answer, 0.8 * answer]],
            )
        )
        labels.append(Label(f"{began:.0f}-{number}", label(truth), 0, began + 2000))
    journal.label(labels)
    journal.close()


def test_a_better_challenger_ends_with_0_and_says_on_what_it_rests(shop: Project, mlp: Mlp) -> None:
    serve(shop, 5000, right=(0.75, 0.85))
    done = shop.mlp("ab", "verdict")
    assert done.code == 0, done.err
    assert done.out.startswith("better: version 2 is better: accuracy differs by +0.1")
    assert "split: as configured" in done.out
    found = mlp("ab", "verdict", "--metric", "f1", "--json").document
    assert (found["metric"], found["outcome"], found["because"]) == ("f1", "better", "metric")
    assert found["champion"]["requests"] + found["challenger"]["requests"] == 5000
    assert [guard["state"] for guard in found["guards"]] == ["kept", "kept"]
    found = mlp("ab", "verdict", "--metric", "auc", "--json").document
    assert found["outcome"] == "better"


def test_no_difference_ends_with_4_and_the_samples_needed_unless_that_is_allowed(
    shop: Project, mlp: Mlp
) -> None:
    serve(shop, 3000)
    done = mlp("ab", "verdict", "--config", "ab.effect=0.02")
    assert done.code == 4
    assert done.out.startswith("inconclusive: ")
    assert "to show 0.02 (the stated effect)" in done.out
    assert mlp("ab", "verdict", "--allow-inconclusive").code == 0
    few = mlp("ab", "verdict", "--since", "40m", "--json")
    assert few.code == 4
    assert few.document["because"] == "too few samples"
    assert few.document["needs"]["champion"] == 1000


@pytest.mark.parametrize(
    ("served", "because"),
    [
        ({"right": (0.85, 0.75)}, "metric"),
        ({"right": (0.75, 0.85), "slow": 3.0}, "guard"),
        ({"right": (0.75, 0.85), "misrouted": 0.1}, "sample ratio mismatch"),
    ],
)
def test_what_speaks_against_it_ends_with_4_also_where_inconclusive_is_allowed(
    shop: Project, mlp: Mlp, served: dict[str, Any], because: str
) -> None:
    serve(shop, 5000, **served)
    done = mlp("ab", "verdict", "--allow-inconclusive", "--json")
    assert (done.code, done.document["because"]) == (4, because)


def test_labels_may_be_text_and_metrics_of_what_followed_need_no_prediction(
    shop: Project, mlp: Mlp
) -> None:
    serve(shop, 3000, label=lambda truth: "yes" if truth else "no")
    found = mlp("ab", "verdict", "--metric", "conversion", "--json").document
    assert found["champion"]["value"] == pytest.approx(0.5, abs=0.05)


def test_a_challenger_that_was_taken_out_is_worse_until_it_gets_a_share_again(
    shop: Project, mlp: Mlp
) -> None:
    serve(shop, 3000)
    state = open_state(f"sqlite:///{shop.root}/.mlp/state.db")
    state.append_next(LedgerEntry("m", Action.TAKEN_OUT, "2", actor="mlp serve", reason="it hung"))
    found = mlp("ab", "verdict", "--json")
    assert found.code == 4
    assert (found.document["outcome"], found.document["because"]) == ("worse", "taken out")
    assert found.document["reason"] == "version 2 was taken out: it hung"
    assert "version 2 was taken out: it hung" in mlp("ab", "status").out
    assert mlp("ab", "share", "0.2", "--reason", "fixed").code == 0
    assert mlp("ab", "verdict", "--json").document["because"] == "no difference yet"
    state.close()


def test_status_and_share_tell_and_set_the_traffic(shop: Project, mlp: Mlp) -> None:
    serve(shop, 300)
    done = mlp("ab", "share", "0.25")
    assert done.code == 0, done.err
    assert done.out.startswith("version 2 answers 25 % of the users (entry 4)")
    shadow = mlp("ab", "share", "0.5", "--shadow", "--json").document
    assert (shadow["evidence"]["share"], shadow["evidence"]["shadow"]) == (0.5, True)
    found = mlp("ab", "status", "--json").document
    assert found["traffic"] == {"champion": "1", "challenger": "2", "share": 0.5, "shadow": True}
    assert [period["traffic"]["share"] for period in found["history"]] == [0.5, 0.25, 0.5]
    assert {arm["version"]: arm["labelled"] for arm in found["counted"]}.keys() == {"1", "2"}
    assert (
        "1 answers, and version 2 predicts beside it for 50 % of the users"
        in mlp("ab", "status").out
    )
    assert mlp("ab", "share", "1.5").code == 2


def test_what_is_served_after_the_look_at_the_ledger_does_not_count(
    shop: Project, mlp: Mlp
) -> None:
    """A server may have taken the challenger out by then: all rows would be the champion's."""
    serve(shop, 3000)
    serve(shop, 3000, misrouted=-0.5, began=time.time() + 600)
    found = mlp("ab", "verdict", "--allow-inconclusive", "--json").document
    assert found["champion"]["requests"] + found["challenger"]["requests"] <= 3000
    assert found["because"] != "sample ratio mismatch"


def test_times_are_those_of_the_users_own_clock(mlp: Mlp, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("TZ", "America/Los_Angeles")
            time.tzset()
            began = time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(BEGAN))
            assert began in mlp("ab", "status").out
    finally:
        time.tzset()


def test_without_a_challenger_or_with_an_unknown_metric_it_says_what_to_do(
    shop: Project, mlp: Mlp
) -> None:
    done = mlp("ab", "verdict", "--metric", "f11")
    assert done.code == 3
    assert "did you mean 'f1'" in done.err
    done = mlp("ab", "verdict", "--since", "tomorrow")
    assert (done.code, "--since 'tomorrow' is not a time" in done.err) == (2, True)
    client = shop.client()
    client.delete_registered_model_alias("m", "challenger")
    with pytest.raises(MlflowException):
        client.get_model_version_by_alias("m", "challenger")
    done = mlp("ab", "verdict")
    assert done.code == 3
    assert "mlp models promote VERSION --to challenger" in done.err
    assert mlp("ab", "share", "0.1").code == 3
    assert "version 1 answers everybody" in mlp("ab", "status").out


def test_a_shadow_is_compared_on_the_rows_that_both_have_predicted(shop: Project, mlp: Mlp) -> None:
    state = open_state(f"sqlite:///{shop.root}/.mlp/state.db")
    shadow = {"share": 0.5, "shadow": True}
    state.append_next(LedgerEntry("m", Action.SHARED, "2", evidence=shadow, at=BEGAN + 1))
    state.close()
    random = np.random.default_rng(0)
    journal = PredictionJournal(shop.root / ".mlp" / "predictions", "m")
    for number in range(3000):
        truth = int(random.integers(0, 2))
        shadowed = ("1", "champion", 0.8), ("2", "shadow", 0.85)
        for version, route, right in shadowed[: 1 + number % 2]:
            answer = truth if random.random() < right else 1 - truth
            body = b'{"predictions": [%d]}' % answer
            at = BEGAN + 10 + number * 0.1
            journal.append(
                Served(f"r{number}", at, version, route, 2.0, "application/json",
                       b'{"inputs": [[1.0]]}', body)
            )  # fmt: skip
        journal.label([Label(f"r{number}", truth)])
    journal.close()
    found = mlp("ab", "verdict", "--json").document
    assert (found["mode"], found["sample_ratio"]) == ("shadow", None)
    assert found["champion"]["labelled"] == found["challenger"]["labelled"] == 1500
    assert found["outcome"] in ("better", "inconclusive")
    refused = mlp("ab", "verdict", "--metric", "conversion")
    assert refused.code == 3
    assert "in shadow only the champion answers" in refused.err
