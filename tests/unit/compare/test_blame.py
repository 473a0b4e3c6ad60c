"""What differs between runs is found, and only what can reach a metric is blamed for it."""

import dataclasses
import json
import math
from typing import Any

import pytest

from mlp.cli.views.changes import values
from mlp.cli.views.runs_diff import diff_text, why_text
from mlp.core.compare import contrast
from mlp.core.compare.blame import MetricExplanation, explain
from mlp.core.compare.run_comparison import CodeDifference, Difference, FileChange, RunState
from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.runs import run_artifacts
from mlp.core.runs.pipeline import DataItem, StageState
from mlp.core.runs.provenance import Code, Environment, Machine, Provenance
from mlp.core.runs.recorded_run import RunRecord, Tag


def _item(path: str, digest: str = "1") -> DataItem:
    return DataItem(path, f"{path}{digest}", 10)


def _provenance(**changes: Any) -> Provenance:
    plain = Provenance(
        run_id="r",
        started=0.0,
        command_line=(),
        directory="/",
        user="u",
        targets=(),
        overrides=(),
        launches={},
        seed=1,
        image=None,
        code=Code(commit="c" * 40),
        machine=Machine("host", "Linux", "cpu", 2, 2**30),
        environment=Environment("3.11", "python", {"torch": "2.6", "click": "8.1"}),
    )
    return dataclasses.replace(plain, **changes)


def _record(metrics: dict[str, dict[str, float]], **tags: str) -> RunRecord:
    stages = [
        RunRecord(
            f"{name}-id", name, name, "FINISHED", 0, 1, {}, values,
            {Tag.STAGE: name, Tag.OUTCOME: tags.get(name, "ran")},
        )
        for name, values in metrics.items()
    ]  # fmt: skip
    own = {name: value for values in metrics.values() for name, value in values.items()}
    return RunRecord("a" * 32, "m", "run", "FINISHED", 0, 1, {}, own, {}, tuple(stages))


def _run(
    f1: float,
    *,
    raw: str = "1",
    clean: str = "1",
    model: str = "1",
    train_code: str = "1",
    lr: float = 0.1,
    title: str = "x",
    provenance: Provenance | None = None,
) -> RunState:
    """raw -> prepare -> clean -> train -> model -> evaluate; report hangs on nothing."""
    stages = (
        StageState("prepare", ("p",), (_item("raw.csv", raw),), (_item("clean.csv", clean),), {}),
        StageState(
            "train",
            ("t",),
            (_item("clean.csv", clean), _item("src/train.py", train_code)),
            (_item("model.pt", model),),
            {"lr": lr},
        ),
        StageState("evaluate", ("e",), (_item("model.pt", model),), (), {}),
        StageState("report", ("r",), (_item("logo.png", title),), (), {"title": title}),
    )
    record = _record({"train": {}, "evaluate": {"f1": f1}})
    return contrast.state_of(record, provenance or _provenance(), stages)


def _difference(before: RunState, after: RunState, *files: FileChange) -> Difference:
    old, new = before.provenance, after.provenance
    return Difference(
        before=contrast.side(before),
        after=contrast.side(after),
        params=contrast.params(before, after),
        code=CodeDifference(files, contrast.commands(before, after)),
        data=[d for d in contrast.data(before, after) if not d.path.endswith(".py")],
        environment=contrast.environment(old, new),
        launches=contrast.launches(before, after),
        seed=contrast.seed(before, after),
        metrics=contrast.metrics(before, after),
    )


def _why(before: RunState, after: RunState, *files: FileChange) -> MetricExplanation:
    return explain(_difference(before, after, *files), before, after)


def test_causes_come_in_order_of_likelihood_with_the_way_that_they_took() -> None:
    other = _provenance(
        seed=2,
        machine=Machine("elsewhere", "Linux", "cpu", 16, 2**30),
        environment=Environment("3.11", "python", {"torch": "2.7", "click": "8.2"}),
        launches={"train": {"processes_per_node": 2}},
    )
    found = _why(
        _run(0.7),
        _run(0.8, raw="2", clean="2", model="2", lr=0.2, provenance=other),
        FileChange("src/train.py", "modified", 3, 1),
    )
    assert [cause.kind for cause in found.causes] == [
        *("data", "code", "param", "seed", "launch", "ml packages", "packages", "machine")
    ]
    assert found.causes[0].stages == ("prepare", "train", "evaluate")
    assert found.made_by == ("evaluate",)
    assert found.verdict == "several things changed"


def test_a_change_that_cannot_reach_the_metric_is_not_blamed() -> None:
    found = _why(_run(0.7), _run(0.8, title="y"), FileChange("README.md", "modified", 1, 1))
    assert found.causes == ()
    assert {harmless.name for harmless in found.harmless} == {"logo.png", "title", "README.md"}


def test_a_change_that_left_an_output_the_same_is_stopped_there() -> None:
    found = _why(_run(0.7), _run(0.8, raw="2"))
    assert found.verdict == "nothing changed"
    assert [(h.name, "came out the same" in h.reason) for h in found.harmless] == [
        ("raw.csv", True)
    ]


def test_derived_data_is_told_from_sources() -> None:
    found = _difference(_run(0.7), _run(0.8, raw="2", clean="2", model="2"))
    made = {change.path: change.made_by for change in found.data}
    assert made == {"raw.csv": None, "clean.csv": "prepare", "model.pt": "train"}


def test_chance_is_named_with_the_stage_in_which_it_fell() -> None:
    found = _why(_run(0.7), _run(0.8, model="2", provenance=_provenance(seed=1)))
    assert (found.verdict, found.diverged) == ("nothing changed", ("train",))
    assert "chance" in why_text(found)
    unseeded = _provenance(seed=None)
    without = _why(_run(0.7, provenance=unseeded), _run(0.8, model="2", provenance=unseeded))
    assert "No seed was recorded" in why_text(without)


def test_equal_metrics_need_no_explanation() -> None:
    found = _why(_run(0.7), _run(0.7, model="2", lr=0.2))
    assert found.verdict == "equal"
    assert "Nothing to explain" in why_text(found)


def test_putting_one_thing_back_is_a_command_that_a_shell_can_run() -> None:
    found = _why(
        _run(0.7), _run(0.8, model="2", lr=0.2), FileChange("src/train.py", "modified", 1, 1)
    )
    assert [cause.trial for cause in found.causes] == [
        "git checkout cccccccccccc -- src/train.py && mlp run",
        "mlp run --set lr=0.1",
    ]
    assert "2 things changed at once" in why_text(found)


def test_code_that_no_stage_declares_is_less_likely_but_not_harmless() -> None:
    found = _why(_run(0.7), _run(0.8, model="2"), FileChange("src/common.py", "modified", 1, 1))
    assert [cause.kind for cause in found.causes] == ["undeclared code"]


def test_a_metric_that_the_runs_do_not_share_is_refused_with_the_nearest() -> None:
    before, after = _run(0.7), _run(0.8)
    with pytest.raises(UsageError, match=r"'f11'.*have: f1.*did you mean 'f1'"):
        explain(_difference(before, after), before, after, "f11")


def test_a_value_that_a_cached_stage_did_not_log_again_is_not_gone() -> None:
    before, after = (
        contrast.state_of(
            dataclasses.replace(_record({"train": values}, train=outcome), metrics={}), None, ()
        )
        for values, outcome in (({"loss": 0.1}, "ran"), ({}, "cached"))
    )
    assert contrast.metrics(before, after) == ()


def test_a_name_that_stages_use_for_other_values_is_told_by_stage() -> None:
    before, after = (
        contrast.state_of(_record({"train": {"loss": loss}, "test": {"loss": 0.5}}), None, ())
        for loss in (0.1, 0.2)
    )
    found = {m.name: (m.before, m.after) for m in contrast.metrics(before, after)}
    assert found == {"loss": (0.5, 0.5), "train:loss": (0.1, 0.2)}


def test_a_metric_that_is_not_a_number_equals_itself_and_has_no_difference() -> None:
    nan = math.nan
    (same,) = contrast.metrics(_run(nan), _run(nan))
    (other,) = contrast.metrics(_run(0.5), _run(nan))
    assert same.equal and not other.equal
    assert (other.difference, other.relative) == (None, None)


def test_params_with_the_same_text_are_the_same() -> None:
    before = _run(0.7, lr=0.1)
    record = dataclasses.replace(before.record, params={"lr": "0.1", "title": "x"})
    assert contrast.params(before, dataclasses.replace(before, record=record, stages=())) == ()


def test_results_are_json_and_come_back_from_it() -> None:
    found = _why(_run(0.7), _run(0.8, raw="2", clean="2", model="2"))
    assert json.loads(json.dumps(dataclasses.asdict(found)))["causes"][0]["kind"] == "data"
    run = _run(0.7)
    written = json.dumps(dataclasses.asdict(_provenance()))
    read = run_artifacts.provenance(written[:-1] + ', "of_a_later_version": 1}')
    assert json.dumps(dataclasses.asdict(read)) == written
    stages = json.dumps([dataclasses.asdict(stage) for stage in run.stages])
    assert run_artifacts.stages(stages) == run.stages


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"code": 1}', "[1]"])
def test_a_damaged_record_is_one_clear_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match="damaged"):
        run_artifacts.provenance(text)
    if text != "[]":
        with pytest.raises(ConfigurationError, match="damaged"):
            run_artifacts.stages(text)


def test_two_values_are_told_apart_with_as_few_digits_as_it_takes() -> None:
    assert values(12.6, 13.1) == "12.6 -> 13.1"
    assert values(0.123456, 0.123457) == "0.123456 -> 0.123457"
    assert values(336776, 337977) == "336,776 -> 337,977"
    assert values(None, "x") == "(none) -> x"
    assert values(math.nan, math.inf) == "nan -> inf"


def test_patches_are_compared_file_by_file() -> None:
    one = b"diff --git a/x.py b/x.py\n+1\ndiff --git a/same.py b/same.py\n+2\n"
    other = b"diff --git a/same.py b/same.py\n+2\ndiff --git a/my y.py b/my y.py\n+3\n"
    assert {f.path for f in contrast.patched_files(one, other)} == {"x.py", "my y.py"}


def test_a_difference_shows_only_what_differs() -> None:
    text = diff_text(_difference(_run(0.7), _run(0.8, lr=0.2, model="2")))
    assert "f1  0.7 -> 0.8  +0.1 (+14.3%)" in text
    assert "lr  0.1 -> 0.2  (train)" in text
    assert "No difference in code, environment." in text
    assert "Environment" not in text
