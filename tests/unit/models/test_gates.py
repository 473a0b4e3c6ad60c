"""The gates before a promotion: what passes, what is refused, and what is said of it."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlp.core.errors import UsageError
from mlp.core.models import gates
from mlp.core.models.gates import Gate, Scores, Signature, VersionOrigin
from mlp.core.models.model_section import ALL_GATES, Bound, Gates, Primary

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
TYPES = ("boolean", "integer", "long", "float", "double", "string")


# --- the signature --------------------------------------------------------------------------------


def column(name: str, kind: str = "double", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "required": True, **more}


def tensor(kind: str, *shape: int, **more: Any) -> dict[str, Any]:
    return {"type": "tensor", "tensor-spec": {"dtype": kind, "shape": list(shape)}, **more}


def param(name: str, kind: str = "double", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "default": 1, "shape": None, **more}


def takes(*inputs: dict[str, Any]) -> Signature:
    return Signature(inputs, [column("", "long")])


def gives(*outputs: dict[str, Any]) -> Signature:
    return Signature([column("a")], outputs)


def with_params(*params: dict[str, Any]) -> Signature:
    return Signature([column("a")], [column("", "long")], params)


def judged(candidate: Signature, champion: Signature) -> Gate:
    return gates.signature(candidate, champion, alone=False)


columns = st.builds(column, st.sampled_from("abcd"), st.sampled_from(TYPES), required=st.booleans())
inputs = st.lists(columns, min_size=1, max_size=4, unique_by=lambda item: item["name"])
# Of each type: how pandas calls it, and values that no smaller type holds.
VALUES: Mapping[str, tuple[str, Sequence[Any]]] = {
    "boolean": ("bool", [True, False]),
    "integer": ("int32", [-7, 2**31 - 1]),
    "long": ("int64", [-7, 2**62 + 1]),
    "float": ("float32", [-1.5, 1e30]),
    "double": ("float64", [-1.1, 1e300]),
    "string": ("object", ["x", ""]),
}


@given(inputs, st.data())
def test_what_the_champion_takes_mlflow_takes_for_whoever_passes(
    theirs: list[dict[str, Any]], data: st.DataObject
) -> None:
    """A call with every column, and one without those that may be left out."""
    import pandas as pd
    from mlflow.models import ModelSignature, validate_schema

    ours = [
        {**item, **data.draw(st.sampled_from([{}, {"required": False}, {"type": "double"}]))}
        for item in data.draw(st.permutations(theirs))
    ]
    ours = [*ours[data.draw(st.integers(0, 1)) :], *data.draw(st.just([]) | inputs)]
    ours = list({item["name"]: item for item in ours}.values())
    assume(ours and any(item["required"] for item in theirs))
    candidate, champion = takes(*ours), takes(*theirs)
    assume(judged(candidate, champion).passed)
    schema = ModelSignature.from_dict({"inputs": json.dumps(ours), "outputs": None}).inputs
    for called in (theirs, [item for item in theirs if item["required"]]):
        table = {}
        for item in called:
            dtype, values = VALUES[item["type"]]
            table[item["name"]] = pd.Series(values, dtype=dtype)
        validate_schema(pd.DataFrame(table), schema)


@given(inputs)
def test_a_model_can_replace_itself(mine: list[dict[str, Any]]) -> None:
    assert judged(takes(*mine), takes(*mine)).passed


@pytest.mark.parametrize(
    ("candidate", "champion"),
    [
        (takes(column("a"), column("new", required=False)), takes(column("a"))),
        (takes(column("a")), takes(column("a"), column("b"))),
        (takes(column("b"), column("a")), takes(column("a"), column("b"))),
        (takes(column("a", required=False)), takes(column("a"))),
        (takes(column("a", "double")), takes(column("a", "integer"))),
        (takes(column("a", "double")), takes(column("a", "float"))),
        (takes(column("a", "long")), takes(column("a", "integer"))),
        (takes(tensor("float32", -1, 3)), takes(tensor("float32", 8, 3))),
        (gives(column("y", "long")), gives(column("label", "long"))),
        (gives(column("p"), column("y", "long")), gives(column("y", "long"), column("p"))),
        (gives(column("y", "long")), gives()),
        (with_params(param("k"), param("new")), with_params(param("k"))),
        (with_params(param("k", default=2)), with_params(param("k"))),
    ],
)
def test_what_no_caller_notices_passes(candidate: Signature, champion: Signature) -> None:
    gate = judged(candidate, champion)
    assert gate.passed, gate.detail


@pytest.mark.parametrize(
    ("candidate", "champion", "said"),
    [
        (
            takes(column("a"), column("new")),
            takes(column("a")),
            "it needs the input new, which the champion does not take",
        ),
        (
            takes(column("a")),
            takes(column("a", required=False)),
            "it needs the input a, which callers may leave out now",
        ),
        (
            takes(column("a", "integer")),
            takes(column("a", "long")),
            "its input a is integer, and the champion's long",
        ),
        (
            takes(column("a", "float")),
            takes(column("a", "double")),
            "its input a is float, and the champion's double",
        ),
        (
            takes(column("a", "double")),
            takes(column("a", "long")),
            "its input a is double, and the champion's long",
        ),
        (
            takes(column("a", "array", items={"type": "long"})),
            takes(column("a", "array", items={"type": "string"})),
            'its input a is {"items": {"type": "long"}, "type": "array"}, and',
        ),
        (
            takes(tensor("float32", 8, 3)),
            takes(tensor("float32", -1, 3)),
            "its input number 1 is float32[8,3], and the champion's float32[-1,3]",
        ),
        (
            takes(tensor("float32", -1, 3)),
            takes(tensor("float32", -1, 3, 1)),
            "its input number 1 is float32[-1,3], and the champion's float32[-1,3,1]",
        ),
        (
            takes(tensor("float32", -1)),
            takes(tensor("float64", -1)),
            "its input number 1 is float32[-1], and the champion's float64[-1]",
        ),
        (
            gives(column("y", "double")),
            gives(column("y", "long")),
            "it gives double, and the champion long",
        ),
        (gives(), gives(column("y", "long")), "it gives nothing known, and the champion long"),
        (
            gives(column("klass", "long"), column("p")),
            gives(column("label", "long"), column("p")),
            "it gives klass: long, p: double, and the champion label: long, p: double",
        ),
        (
            gives(column("y", "long"), column("p"), column("more")),
            gives(column("y", "long"), column("p")),
            "it gives more: double, p: double, y: long, and the champion p: double, y: long",
        ),
        (
            with_params(),
            with_params(param("k")),
            "it does not take the param k as the champion does",
        ),
        (
            with_params(param("k", "string")),
            with_params(param("k")),
            "it does not take the param k as the champion does",
        ),
        (
            with_params(param("k")),
            with_params(param("k", shape=[-1])),
            "it does not take the param k as the champion does",
        ),
    ],
)
def test_what_would_break_a_caller_is_refused_and_named(
    candidate: Signature, champion: Signature, said: str
) -> None:
    gate = judged(candidate, champion)
    assert not gate.passed and said in gate.detail
    assert "--accept signature" in gate.fix


def test_without_a_champion_any_signature_passes_and_none_does_not() -> None:
    first = gates.signature(takes(column("a")), None, alone=True)
    assert first.passed and first.detail == "there is no champion to be compatible with"
    unsigned = gates.signature(takes(column("a")), None, alone=False)
    assert unsigned.passed and "the champion has no signature" in unsigned.detail
    for alone in (True, False):
        gate = gates.signature(None, takes(column("a")), alone)
        assert not gate.passed and "mlp.log_model" in gate.fix


@given(inputs)
def test_the_signature_is_read_as_mlflow_writes_it(mine: list[dict[str, Any]]) -> None:
    from mlflow.models import ModelSignature

    written = ModelSignature.from_dict(
        {
            "inputs": json.dumps(mine),
            "outputs": json.dumps([column("y", "long")]),
            "params": json.dumps([param("k")]),
        }
    ).to_dict()
    read = gates.signature_of({"signature": written})
    assert read is not None
    assert read == Signature(mine, [column("y", "long")], read.params)
    assert [item["name"] for item in read.params] == ["k"]


@pytest.mark.parametrize("description", [{}, {"signature": None}, {"signature": {"outputs": "[]"}}])
def test_a_model_without_inputs_in_its_signature_has_none(description: dict[str, Any]) -> None:
    assert gates.signature_of(description) is None


# --- metrics --------------------------------------------------------------------------------------

METRICS = st.sampled_from(["auc", "f1", "loss"])
bounds = st.dictionaries(
    METRICS, st.builds(Bound, min=st.none() | st.floats(0, 1), max=st.none() | st.floats(0, 1))
)


@given(bounds, st.dictionaries(METRICS, NUMBERS | st.floats(0, 1)))
def test_metrics_pass_exactly_if_each_is_recorded_and_keeps_its_bounds(
    asked: dict[str, Bound], found: dict[str, float]
) -> None:
    def kept(name: str, bound: Bound) -> bool:
        if name not in found:
            return False
        least = -math.inf if bound.min is None else bound.min
        most = math.inf if bound.max is None else bound.max
        unbounded = bound.min is None and bound.max is None
        return unbounded or least <= found[name] <= most

    gate = gates.metrics(asked, found)
    missed = {name for name, bound in asked.items() if not kept(name, bound)}
    assert gate.passed == (not missed)
    if missed:
        assert {problem.split()[0] for problem in gate.detail.split("; ")} == missed
        assert "model.gates.metrics" in gate.fix


@pytest.mark.parametrize("bound", [Bound(min=0.5), Bound(max=0.5), Bound(min=0.0, max=1.0)])
def test_a_metric_that_is_no_number_keeps_no_bound(bound: Bound) -> None:
    assert not gates.metrics({"f1": bound}, {"f1": math.nan}).passed


def test_a_bound_itself_is_kept() -> None:
    assert gates.metrics({"f1": Bound(min=0.5, max=0.5)}, {"f1": 0.5}).detail == "f1 0.5"


# --- against the champion -------------------------------------------------------------------------

goals = st.sampled_from(["maximize", "minimize"])
millionths = st.integers(-2_000_000, 2_000_000)
Goal = Literal["maximize", "minimize"]


def compared(goal: Goal, candidate: float, champion: float, max_drop: float = 0.0) -> Gate:
    return gates.champion(
        Primary(metric="f1", goal=goal), max_drop, Scores(candidate, champion, "on test.csv")
    )


@given(goals, millionths, st.integers(0, 1_000_000), st.integers(-1, 1) | millionths)
def test_worse_by_as_much_as_is_allowed_passes_and_by_more_does_not(
    goal: Goal, champion: int, allowed: int, beyond: int
) -> None:
    """As one reckons with decimals: 0.89 is worse than 0.9 by 0.01, and not by more."""
    worse = allowed + beyond
    candidate = champion - worse if goal == "maximize" else champion + worse
    ours, theirs, drop = (float(Decimal(n) / 1_000_000) for n in (candidate, champion, allowed))
    gate = compared(goal, ours, theirs, drop)
    assert gate.passed == (beyond <= 0)
    assert "on test.csv" in gate.detail
    if not gate.passed:
        assert f"(model.gates.max_drop is {drop:.6g})" in gate.detail


@given(NUMBERS, NUMBERS, st.floats(0, 10))
def test_a_lower_loss_counts_as_a_higher_score_does(a: float, b: float, max_drop: float) -> None:
    higher = compared("maximize", a, b, max_drop)
    assert higher.passed == compared("minimize", -a, -b, max_drop).passed


@given(goals, NUMBERS, st.floats(0))
def test_no_number_is_never_as_good_as_the_champion(
    goal: Goal, champion: float, max_drop: float
) -> None:
    assert not compared(goal, math.nan, champion, max_drop).passed


@given(goals, NUMBERS, st.floats(0))
def test_a_champion_whose_value_is_no_number_cannot_be_compared_with(
    goal: Goal, candidate: float, max_drop: float
) -> None:
    gate = compared(goal, candidate, math.nan, max_drop)
    assert not gate.passed and "cannot be compared" in gate.detail
    assert "--accept champion" in gate.fix


@given(st.floats(-1e300, 1e300), st.floats(0, 1e300))
def test_infinitely_worse_is_too_much(value: float, max_drop: float) -> None:
    assert not compared("maximize", -math.inf, value, max_drop).passed
    assert compared("maximize", value, -math.inf, max_drop).passed


@given(goals, NUMBERS.filter(lambda x: x == x))
def test_as_good_as_the_champion_passes(goal: Goal, value: float) -> None:
    assert compared(goal, value, value).passed


def test_what_cannot_be_compared_does_not_pass_and_says_why() -> None:
    primary = Primary(metric="f1")
    assert gates.champion(primary, 0.0, None).passed
    assert gates.champion(None, 0.0, None).passed
    unnamed = gates.champion(None, 0.0, Scores(1.0, 0.5))
    assert not unnamed.passed and "model.primary" in unnamed.fix
    for scores in (Scores(), Scores(candidate=1.0), Scores(champion=1.0)):
        gate = gates.champion(primary, 0.0, scores)
        assert not gate.passed and "a value is missing" in gate.detail
    gate = gates.champion(primary, 1.0, Scores(1.0, 0.5, why_not="of other data", fix="do so"))
    assert not gate.passed and gate.detail.endswith("of other data") and gate.fix == "do so"


# --- provenance, files, prediction ----------------------------------------------------------------

lineages = st.builds(
    VersionOrigin,
    st.none() | st.just("") | st.just("c" * 40),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["FINISHED", "FAILED", "KILLED"]),
    st.dictionaries(st.sampled_from(["a.csv", "b.csv"]), st.none() | st.just("d" * 32)),
)


@given(lineages)
def test_code_and_data_are_known_only_if_every_part_of_them_is(made: VersionOrigin) -> None:
    gate = gates.provenance(made)
    problems = {
        f"its run ended as {made.status}": made.status != "FINISHED",
        "its commit is not known": not made.commit,
        "its code had changes that were not recorded": made.dirty and not made.patch,
        "its data is not known": not made.data,
        "these have no hash": any(not digest for digest in made.data.values()),
    }
    assert gate.passed == (not any(problems.values()))
    if gate.passed:
        assert ("recorded changes" in gate.detail) == made.dirty
    else:
        assert {said for said in problems if said in gate.detail} == {
            said for said, so in problems.items() if so
        }


def test_files_pass_only_with_the_recorded_digest() -> None:
    assert gates.files("sha256:a", "sha256:a", []).passed
    changed = gates.files("sha256:a", "sha256:b", [f"changed: {i}" for i in range(7)])
    assert not changed.passed
    assert "changed: 4" in changed.detail and "changed: 5" not in changed.detail
    unknown = gates.files(None, "sha256:a", [])
    assert not unknown.passed and "it was not registered by mlp" in unknown.detail


def test_a_prediction_that_was_answered_has_nothing_to_mend() -> None:
    assert gates.prediction(True, "in 1 s", "x") == Gate(gates.PREDICTION, True, "in 1 s")
    assert gates.prediction(False, "it raised", "x") == Gate("prediction", False, "it raised", "x")


# --- what somebody lets be ------------------------------------------------------------------------

verdicts = st.lists(
    st.builds(Gate, st.sampled_from(ALL_GATES), st.booleans(), st.just("why")),
    unique_by=lambda gate: gate.name,
)


@given(verdicts, st.lists(st.sampled_from(ALL_GATES)))
def test_what_is_accepted_opens_and_its_verdict_stays(found: list[Gate], names: list[str]) -> None:
    after = gates.accept(found, names)
    assert [dataclasses.replace(gate, accepted=False) for gate in after] == found
    for gate in after:
        assert gate.opens == (gate.passed or gate.name in names)
        assert gate.accepted == (not gate.passed and gate.name in names)


def test_a_name_that_is_no_gates_is_answered_with_those_that_are() -> None:
    gates.check_names(ALL_GATES)
    with pytest.raises(UsageError, match=r"no gate 'metric' \(have: files, .*mean 'metrics'"):
        gates.check_names(["files", "metric"])


def test_a_challenger_has_to_be_able_to_answer_and_no_more() -> None:
    assert Gates().before("challenger") == ("files", "signature", "prediction")
    assert Gates().before("champion") == ALL_GATES
    chosen = Gates(champion=("champion", "metrics"), challenger=())
    assert chosen.before("champion") == ("files", "metrics", "champion"), "the cheap ones first"
    assert chosen.before("challenger") == ("files",)
