"""Ids, overrides, names of metrics, the environment of a stage, errors of the system."""

import errno
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.core.errors import UsageError, from_os_error
from mlp.core.nearest import did_you_mean
from mlp.core.runs import environment
from mlp.core.runs.identity import new_run_id, stage_run_id
from mlp.core.runs.overrides import assign, split
from mlp.core.runs.pipeline import DataItem, StageState, flatten, metric_names

LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())
KEYS = st.text(st.characters(exclude_characters="."), min_size=1, max_size=5)
PARAMS = st.recursive(
    LEAVES, lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8
).filter(lambda value: isinstance(value, dict))


def test_run_ids_look_like_mlflows_and_differ() -> None:
    ids = {new_run_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", run_id) for run_id in ids)


@given(st.text(), st.text())
def test_a_stages_run_id_follows_from_run_and_stage(one: str, other: str) -> None:
    run = "a" * 32
    assert stage_run_id(run, one) == stage_run_id(run, one)
    assert re.fullmatch("[0-9a-f]{32}", stage_run_id(run, one))
    assert (stage_run_id(run, one) == stage_run_id(run, other)) == (one == other)


@given(PARAMS)
def test_every_flattened_param_can_be_set(params: dict[str, object]) -> None:
    for key, value in flatten(params).items():
        override = assign(params, key, "new")
        assert (override.before, override.after) == (value, "new")
        assert flatten(params)[key] == "new"
        assign(params, key, value)


@pytest.mark.parametrize("key", ["lrr", "train.lrr", "train.lr.x", "nothing", "", "."])
def test_a_param_that_is_not_there_is_refused_with_those_that_are(key: str) -> None:
    with pytest.raises(UsageError, match=r"have: train.lr, n") as refused:
        assign({"train": {"lr": 0.1}, "n": 1}, key, 1)
    assert "params.yaml" in refused.value.fix


def test_the_nearest_param_is_named() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'train.lr'\?"):
        assign({"train": {"lr": 0.1}}, "train.lrr", 1)


def test_a_setting_is_a_key_and_everything_behind_the_first_equals_sign() -> None:
    assert split("a.b=c=d") == ("a.b", "c=d")
    assert split("a=") == ("a", "")
    for wrong in ("a", "=1", " =1", ""):
        with pytest.raises(UsageError, match="KEY=VALUE"):
            split(wrong)


def test_a_metric_of_several_files_is_told_apart_by_its_file() -> None:
    values = {"a.json": {"acc": 1, "x": {"y": 2.5}}, "b.json": {"acc": 3, "name": "text"}}
    expected = {"a.json:acc": 1.0, "b.json:acc": 3.0, "x.y": 2.5}
    assert metric_names(values, values) == expected


@given(st.dictionaries(st.text(min_size=1), st.dictionaries(KEYS, st.floats(), max_size=4)))
def test_no_metric_is_lost_to_another(values: dict[str, dict[str, float]]) -> None:
    assert len(metric_names(values, values)) <= sum(len(metrics) for metrics in values.values())
    assert {repr(v) for v in metric_names(values, values).values()} == {
        repr(v) for metrics in values.values() for v in metrics.values()
    }


def test_a_metrics_file_may_hold_anything() -> None:
    values = {"a.json": {"l": [1, 2], "s": "x", "n": None, "b": True, "deep": {"er": {"v": 1}}}}
    assert metric_names(values, values) == {"b": 1.0, "deep.er.v": 1.0}


def test_the_fingerprint_follows_content_and_not_sizes() -> None:
    def state(digest: str, size: int | None, command: str = "c") -> str:
        item = DataItem("p", digest, size)
        return StageState("s", (command,), (item,), (), {"a": 1}).fingerprint

    assert state("d", 1) == state("d", None)
    assert len({state("d", 1), state("e", 1), state("d", 1, "x")}) == 3


STAGE = {
    environment.RUN_ID: "r",
    environment.RUN_DIR: "/d",
    environment.STAGE: "train",
    environment.STAGE_RUN_ID: "s",
}


def test_outside_of_a_run_there_is_no_stage() -> None:
    assert environment.stage({}) is None


@pytest.mark.parametrize(
    ("rank", "launch", "prefix"),
    [
        (None, {}, ""),
        ("0", {"log_all_ranks": True}, ""),
        ("1", {}, None),
        ("1", {"log_all_ranks": True}, "rank_1/"),
    ],
)
def test_rank_0_records_and_the_others_when_asked(
    rank: str | None, launch: dict[str, bool], prefix: str | None
) -> None:
    environ = STAGE | {environment.LAUNCH: json.dumps(launch)} | ({"RANK": rank} if rank else {})
    stage = environment.stage(environ)
    assert stage is not None
    assert stage.stage_run_id == "s"
    assert environment.rank_prefix(stage, environ) == prefix


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_what_the_system_refuses_is_told_with_a_fix(number: int) -> None:
    import os

    error = from_os_error(OSError(number, os.strerror(number), "/some/file"))
    assert error.exit_code == 3
    assert "/some/file" in error.message
    assert error.fix


def test_what_was_probably_meant() -> None:
    assert did_you_mean("trian", ["train", "prep"]) == ", did you mean 'train'?"
    assert did_you_mean("zzz", ["train"]) == ""
