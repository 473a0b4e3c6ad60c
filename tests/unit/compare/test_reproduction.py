import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.core.compare.reproduction import (
    Item,
    Match,
    Reproduction,
    compare_environment,
    compare_metrics,
    compare_stages,
)

numbers = st.floats(allow_nan=True, allow_infinity=False, width=32)


def stage(digest: str = "aa", source: str = "ss", lr: float = 0.1) -> dict[str, object]:
    return {
        "name": "train",
        "deps": [{"path": "data.csv", "digest": source}],
        "outs": [{"path": "model", "digest": digest}],
        "params": {"train": {"lr": lr}},
    }


def matches(items: list[Item]) -> dict[str, Match]:
    return {f"{item.kind} {item.name}": item.match for item in items}


def test_equal_stages_are_the_same_in_every_item() -> None:
    items = compare_stages([stage()], [stage()], bits_count=True)
    assert matches(items) == {
        "input data.csv": Match.SAME,
        "params train": Match.SAME,
        "output model": Match.SAME,
    }


@pytest.mark.parametrize(
    ("again", "item"),
    [
        (stage(digest="bb"), "output model"),
        (stage(source="tt"), "input data.csv"),
        (stage(lr=0.2), "params train"),
    ],
)
def test_a_difference_makes_the_verdict_negative(again: dict[str, object], item: str) -> None:
    items = compare_stages([stage()], [again], bits_count=True)
    assert matches(items)[item] == Match.DIFFERS
    assert not Reproduction("a", "b", tuple(items)).reproduced


def test_with_a_tolerance_other_bits_are_told_and_do_not_count() -> None:
    items = compare_stages([stage()], [stage(digest="bb")], bits_count=False)
    assert matches(items)["output model"] == Match.DIFFERS
    assert Reproduction("a", "b", tuple(items)).reproduced


def test_a_stage_that_did_not_run_again_is_told() -> None:
    items = compare_stages([stage()], [], bits_count=True)
    assert not Reproduction("a", "b", tuple(items)).reproduced


def test_an_output_without_a_hash_is_not_called_the_same() -> None:
    unhashed = stage() | {"outs": [{"path": "model", "digest": None}]}
    items = compare_stages([unhashed], [unhashed], bits_count=True)
    assert matches(items)["output model"] == Match.UNCHECKED


@given(st.dictionaries(st.text(min_size=1), numbers))
def test_metrics_are_the_same_as_themselves(metrics: dict[str, float]) -> None:
    items = compare_metrics(metrics, metrics, 0.0, counts=True)
    assert all(item.match == Match.SAME for item in items)
    assert len(items) == len(metrics)


@given(numbers, numbers, st.floats(0, 0.5))
def test_a_metric_within_tolerance_is_near_in_both_directions(
    a: float, b: float, tolerance: float
) -> None:
    (there,) = compare_metrics({"m": a}, {"m": b}, tolerance, counts=True)
    (back,) = compare_metrics({"m": b}, {"m": a}, tolerance, counts=True)
    assert there.match == back.match
    if there.match == Match.WITHIN:
        assert abs(a - b) <= tolerance * max(abs(a), abs(b)) * (1 + 1e-9)


def test_a_metric_that_is_missing_or_nan_once_differs() -> None:
    items = compare_metrics({"a": 1.0, "b": 1.0}, {"b": math.nan}, 0.5, counts=True)
    assert matches(items) == {"metric a": Match.DIFFERS, "metric b": Match.DIFFERS}


def test_another_environment_is_told_by_package_and_does_not_count() -> None:
    def record(torch: str) -> dict[str, object]:
        return {
            "environment": {"python": "3.11.7", "packages": {"torch": torch}},
            "machine": {"cpu": "c", "cores": 2, "system": "s", "gpus": []},
        }

    items = compare_environment(record("2.12"), record("2.13"))
    (packages,) = [item for item in items if "packages" in item.name]
    assert packages.match == Match.DIFFERS
    assert packages.detail == "torch 2.12 -> 2.13"
    assert Reproduction("a", "b", tuple(items)).reproduced
