"""The scoring protocol: our answers are MLflow's, in its very words, and the quick way is taken."""

import json
import math
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from mlp.adapters.scoring import Refusal, Scorer, ScoringAnswer, merge

from . import scoring_models as models
from .scoring_models import Ask, Body, Reply, alike

warnings.filterwarnings("ignore")
TEXT = "text/plain; charset=utf-8"
# On these MLflow's server fails, with a 500, before the model is asked.
CRASH = Reply(500, b"Internal Server Error", TEXT)
QUICK = {
    "logistic", "labels", "mixed", "small", "whole", "text", "tensor", "proba", "torch",
    "torch_columns", "words", "sparse", "raising",
}  # fmt: skip


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return models.make(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def scorers(paths: dict[str, Path]) -> dict[str, Scorer]:
    return {name: Scorer.load(path, probabilities=True) for name, path in paths.items()}


NAMES = list(models.makers())


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scorer(scorers: dict[str, Scorer], name: str) -> Scorer:
    return scorers[name]


@pytest.fixture
def mlflow(scorer: Scorer) -> Iterator[Ask]:
    with models.mlflow_app(scorer.model) as ask:
        yield ask


def ours(scorer: Scorer, body: bytes, content_type: str | None) -> Reply:
    try:
        answer = scorer.answer(scorer.read(body, content_type))
    except Refusal as refusal:
        return Reply(refusal.status, refusal.body, refusal.content_type)
    return Reply(200, answer.body, models.JSON)


def differences(scorer: Scorer, mlflow: Ask, requests: dict[str, Body]) -> dict[str, Any]:
    """Where we answer something else; what MLflow's server fails on is refused with a 4xx."""
    found = {}
    for what, (body, content_type) in requests.items():
        theirs, mine = mlflow(body, content_type), ours(scorer, body, content_type)
        same = 400 <= mine.status < 500 or mine == CRASH if theirs == CRASH else mine == theirs
        if not same:
            found[what] = (theirs, mine)
    return found


def test_good_requests_are_answered_as_by_mlflow(name: str, scorer: Scorer, mlflow: Ask) -> None:
    assert differences(scorer, mlflow, models.good(name)) == {}


def test_bad_requests_are_refused_as_by_mlflow(scorer: Scorer, mlflow: Ask) -> None:
    assert differences(scorer, mlflow, models.bad()) == {}


def test_unusual_values_mean_what_they_mean_to_mlflow(
    name: str, scorer: Scorer, mlflow: Ask
) -> None:
    assert differences(scorer, mlflow, models.values(name)) == {}


FRAMES = (
    "split", "split without index", "split with null index", "split with labels",
    "split with the same label", "split, another column", "split, backwards", "records",
    "records, another column", "records, backwards", "charset", "indented",
)  # fmt: skip
BY_VALUE = ("instances", "instances, another column", "inputs", "inputs, another column")
ARRAYS = ("a list of lists", "instances, a list of lists")


def quickly_answered(name: str) -> tuple[str, ...]:
    if name in ("tensor", "torch"):
        return ARRAYS
    # numpy's smaller types and its own text do not survive MLflow's way through these formats.
    return FRAMES if name in ("small", "text", "words") else FRAMES + BY_VALUE


def test_usual_requests_are_answeredquickly(name: str, scorer: Scorer) -> None:
    assert scorer.quick == (name in QUICK)
    if not scorer.quick:
        return
    requests = models.good(name)
    slow = [
        what
        for what in quickly_answered(name)
        if scorer.quickly(scorer.read(*requests[what])) is None
    ]
    assert slow == []


@pytest.mark.parametrize("name", ["logistic", "labels", "whole", "text"])
def test_probabilities_are_those_of_the_model(name: str, scorer: Scorer) -> None:
    body, content_type = models.good(name)["split"]
    answer = scorer.answer(scorer.read(body, content_type))
    split = json.loads(body)["dataframe_split"]
    frame = models.pd.DataFrame(split["data"], columns=split["columns"])
    wanted = scorer.model.get_raw_model().predict_proba(frame)
    np.testing.assert_allclose(answer.probabilities, wanted)


def test_probabilities_can_be_left_out(paths: dict[str, Path]) -> None:
    scorer = Scorer.load(paths["logistic"])
    assert scorer.answer(scorer.read(*models.good("logistic")["split"])).probabilities is None


def test_large_batches_are_answered_as_by_mlflow(scorers: dict[str, Scorer]) -> None:
    frame, _ = models.table(2000)
    for name in ("logistic", "labels", "small", "proba", "torch_columns"):
        with models.mlflow_app(scorers[name].model) as ask:
            request = models.body({"dataframe_split": frame.to_dict(orient="split")})
            assert scorers[name].quickly(scorers[name].read(*request)) is not None
            assert ours(scorers[name], *request) == ask(*request)


def number(source: random.Random) -> Any:
    """A number as clients send them: mostly usual ones, some of them large, small or missing."""
    kind = source.random()
    if kind < 0.5:
        return source.gauss(0, 1)
    if kind < 0.8:
        return source.randint(-3, 3)
    if kind < 0.9:
        return source.choice((1, -1)) * 10.0 ** source.randint(-320, 308)
    return source.choice((None, 2**31, 2**53 + 1, -(2**63), 2**64, 0.0, -0.0, 1 / 3))


def numbers(source: random.Random, columns: list[str]) -> Body:
    """A request with rows of numbers in one of the formats, its columns in any order."""
    columns = source.sample([*columns, "more"], len(columns) + 1)
    usual, more = source.random() < 0.6, source.choice((0, 0.5))
    rows = [
        [source.randint(-9, 9) + more if usual else number(source) for _ in columns]
        for _ in range(source.randint(1, 4))
    ]
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    way = source.choice(("dataframe_split", "dataframe_records", "instances", "inputs", "lists"))
    if way == "lists":
        return models.body({source.choice(("inputs", "instances")): [row[:-1] for row in rows]})
    split = {"columns": columns, "data": rows}
    return models.body({way: split if way == "dataframe_split" else records})


@pytest.mark.parametrize("name", sorted(QUICK - {"words", "text"}))
def test_numbers_of_any_size_are_predicted_as_by_mlflow(name: str, scorer: Scorer) -> None:
    source, quick = random.Random(3), 0
    columns = ["x"] if name in ("sparse", "raising") else ["a", "b", "c"]
    for _ in range(150):
        body, content_type = numbers(source, columns)
        request = scorer.read(body, content_type)
        quick += scorer.quickly(request) is not None
        try:
            exact = scorer.exactly(request).body
        except Refusal as refusal:
            exact = refusal.body
        assert alike(ours(scorer, body, content_type).body, exact), body
    assert quick > 10


# --- rows of a request ----------------------------------------------------------------------------


def test_rows_divided_between_two_models_come_back_in_order(
    name: str, scorers: dict[str, Scorer]
) -> None:
    scorer = scorers[name]
    for what, request in models.good(name).items():
        whole = ours(scorer, *request)
        read = scorer.read(*request)
        if whole.status != 200 or not read.divisible or read.rows != 3:
            continue
        try:
            parts = [(rows, scorer.answer(read.take(rows))) for rows in ((0, 2), (1,))]
        except Refusal as refusal:
            assert name == "shop" or refusal.status < 500, (what, refusal)
            continue
        merged = merge(parts)
        if merged is None:  # one prediction for each row is what can be merged
            assert not isinstance(json.loads(whole.body)["predictions"], list), what
        elif name not in ("words", "chat"):  # they tell of the whole
            assert alike(merged.body, json.dumps(json.loads(whole.body)).encode()), what


def test_some_of_some_rows_are_those_of_the_whole(scorers: dict[str, Scorer]) -> None:
    scorer = scorers["proba"]
    for request in models.good("proba").values():
        read = scorer.read(*request)
        if not read.divisible or ours(scorer, *request).status != 200:
            continue
        twice = scorer.answer(read.take([2, 0]).take([1]))
        assert alike(twice.body, scorer.answer(read.take([0])).body)


def test_what_is_no_row_each_is_not_merged() -> None:
    parts = [
        ((0,), ScoringAnswer(b'{"predictions": {"a": [1]}}')),
        ((1,), ScoringAnswer(b'{"predictions": [1]}')),
    ]
    assert merge(parts) is None
    assert merge([((0, 1), ScoringAnswer(b'{"predictions": [1]}'))]) is None
    assert (
        merge([((1,), ScoringAnswer(b'{"predictions": [1]}')), ((0,), ScoringAnswer(b"[2]"))])
        is None
    )


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": {"columns": ["x", "user"], "data": [[1, "u"], [2, 7], [3, None]]}},
        {"dataframe_records": [{"x": 1, "user": "u"}, {"x": 2, "user": 7}, {"x": 3}]},
        {"instances": [{"user": "u"}, {"user": 7.0}, {"user": None}]},
        {"inputs": {"user": ["u", 7, None], "x": [1, 2, 3]}},
    ],
)
def test_keys_are_the_same_text_in_every_format(scorers: dict[str, Scorer], document: Any) -> None:
    request = scorers["chat"].read(*models.body(document))
    assert (request.rows, request.keys("user")) == (3, ["u", "7", ""])
    assert request.take([2, 0]).keys("user") == ["", "u"]
    assert request.keys("nobody") is None


def test_keys_come_from_csv_and_keep_large_numbers(scorers: dict[str, Scorer]) -> None:
    read = scorers["chat"].read
    large = 18446744073709551616
    assert read(f"user,x\n{2**62},1\n".encode(), models.CSV).keys("user") == [str(2**62)]
    for document in (
        {"inputs": [{"user": large}]},
        {"dataframe_split": {"columns": ["user"], "data": [[large]]}},
    ):
        assert read(*models.body(document)).keys("user") == [str(large)]
    for document in (
        {"messages": [], "user": "u"},
        {"inputs": {"user": "u", "x": 1}},
        {"inputs": {"user": ["u"], "x": 1}},
        {"inputs": {"user": "u", "x": [1, 2]}},
        {"instances": {"user": "u", "x": 1}},
    ):
        assert read(*models.body(document)).keys("user") == ["u"], document


def test_the_stored_example_is_a_request(scorers: dict[str, Scorer]) -> None:
    example = scorers["logistic"].example
    assert example is not None
    assert scorers["logistic"].read(*example).rows == 2
    assert scorers["logistic"].answer(scorers["logistic"].read(*example)).body == (
        ours(scorers["logistic"], *example).body
    )
    assert scorers["mixed"].example is None


def test_good_requests_fit_the_schema(name: str, scorer: Scorer) -> None:
    fits = jsonschema_rs.validator_for(scorer.schema).is_valid
    for what in (*FRAMES, *BY_VALUE, *ARRAYS, "inputs by column"):
        body, content_type = models.good(name)[what]
        if ours(scorer, body, content_type).status == 200:
            assert fits(json.loads(body)), what


def test_exponents_that_end_the_parser_of_pandas_are_read(scorers: dict[str, Scorer]) -> None:
    def answer(cell: str) -> Reply:
        return ours(scorers["sparse"], f"x,user\n{cell},12e99999999999\n".encode(), models.CSV)

    assert answer("1e-99999999999").body == b'{"predictions": [{"x": NaN}]}'
    assert answer("-1e99999999999").body == b'{"predictions": [{"x": NaN}]}'
    assert answer("2.5").body == b'{"predictions": [{"x": 2.5}]}'
    assert answer("text").status == 400


# --- fuzzing --------------------------------------------------------------------------------------

_PIECES = (
    b"null", b"true", b"1e999", b"-0", b"NaN", b"[", b"]", b"{", b"}", b'"', b",", b":", b"1" * 25,
    b"\\ud800", b"\xff", b"\x00", b'"a"', b'"inputs"', b'"instances"', b'"params"', b"[[]]",
    b"9" * 17, b"e-99999999999",
)  # fmt: skip


def mutated(source: random.Random, requests: list[Body]) -> Body:
    """A good request with one to three things wrong in it, most of them small."""
    body, content_type = source.choice(requests)
    for _ in range(source.randint(1, 3)):
        at, to = sorted(source.choices(range(len(body) + 1), k=2))
        to = min(to, at + source.choice((0, 1, 2, 8, 1000)))
        how = source.random()
        if how < 0.5:
            body = body[:at] + source.choice(_PIECES) + body[to:]
        elif how < 0.7:
            body = body[:at] + body[to:]
        elif how < 0.8:
            body = body[:at] + body[at:to] * 2 + body[to:]
        else:
            body, content_type = restructured(source, body, content_type)
    if source.random() < 0.03:
        content_type = source.choice((None, "text/csv", "application/json; charset=x", "x/y", ""))
    return body, content_type


def restructured(source: random.Random, body: bytes, content_type: str | None) -> Body:
    """The same with another value somewhere in its JSON."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return body, content_type
    at: Any = document
    while isinstance(at, dict | list) and at:
        key = source.choice(list(at) if isinstance(at, dict) else range(len(at)))
        if source.random() < 0.3 or not isinstance(at[key], dict | list):
            at[key] = source.choice(
                (None, True, 1, 2**70, 0.5, math.nan, "x", "", [], {}, [1], {"a": 1}, [[1, 2, 3]])
            )
            break
        at = at[key]
    return json.dumps(document).encode(), content_type


def fuzzed(name: str, count: int, seed: int) -> list[Body]:
    source = random.Random(seed)
    requests = list(models.good(name).values())
    return [mutated(source, requests) for _ in range(count)]


def test_fuzzed_requests_are_answered_as_by_mlflow(name: str, scorer: Scorer, mlflow: Ask) -> None:
    requests = {str(request): request for request in fuzzed(name, 60, seed=1)}
    assert differences(scorer, mlflow, requests) == {}


def test_ten_thousand_fuzzed_requests_neither_fail_nor_fill_the_memory(
    scorers: dict[str, Scorer],
) -> None:
    chosen = ("logistic", "words", "tensor", "scaled")
    sizes, statuses = [], set()
    for seed in range(5):
        for name in chosen:
            for body, content_type in fuzzed(name, 500, seed):
                statuses.add(ours(scorers[name], body, content_type).status)
        sizes.append(resident())
    assert statuses == {200, 400, 415}
    assert sizes[-1] - sizes[1] < 30_000_000, sizes


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
