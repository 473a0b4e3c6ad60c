"""mlp.yaml: every mistake is told at once, with its place; environments and settings merge."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlp.core.config import Config, Tracking, merge, parse
from mlp.core.errors import ConfigurationError
from mlp.core.launch.launch_section import LaunchSection

FULL = """\
project: flights
tracking:
  uri: sqlite:///runs.db
  experiment: late
launch:
  train: {strategy: ddp, processes_per_node: 2, max_restarts: 3, log_all_ranks: true}
envs:
  prod:
    tracking: {uri: "http://mlflow:5000"}
    launch: {train: {processes_per_node: 4}}
"""


def refused(text: str, **more: object) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        parse(text, **more)  # type: ignore[arg-type]
    assert error.value.exit_code == 3
    return (error.value.cause or error.value.message).splitlines()


def test_a_whole_file() -> None:
    config = parse(FULL)
    assert config.tracking == Tracking(uri="sqlite:///runs.db", experiment="late")
    assert config.launch["train"].processes_per_node == 2
    assert config.experiment == "late"
    assert parse("project: x").experiment == "x"


def test_an_environment_is_merged_over_the_rest_and_settings_over_both() -> None:
    config = parse(
        FULL, env="prod", settings=["tracking.experiment=e", "launch.train.max_restarts=0"]
    )
    assert config.tracking == Tracking(uri="http://mlflow:5000", experiment="e")
    expected = LaunchSection(
        strategy="ddp", processes_per_node=4, max_restarts=0, log_all_ranks=True
    )
    assert config.launch["train"] == expected


def test_every_mistake_is_told_at_once_with_line_and_nearest() -> None:
    text = """\
projet: x
tracking:
  url: y
launch:
  train:
    strategy: dpp
    processes_per_node: 0
    nods: 1
envs:
  prod: {trackin: {}}
"""
    mistakes = refused(text)
    assert [m.split(": ")[0] for m in sorted(mistakes)] == [
        "mlp.yaml:10:10",
        "mlp.yaml:1:1",
        "mlp.yaml:1:1",
        "mlp.yaml:3:3",
        "mlp.yaml:6:15",
        "mlp.yaml:7:25",
        "mlp.yaml:8:5",
    ]
    told = "\n".join(mistakes)
    for words in (
        "unknown key 'projet' (have: project, tracking, ",
        ", launch, targets, envs), did you mean 'project'?",
        "key 'project' is missing",
        "unknown key 'tracking.url' (have: uri, experiment), did you mean 'uri'?",
        "launch.train.strategy: 'dpp' is not one of single, ddp, did you mean 'ddp'?",
        "launch.train.processes_per_node: 0 does not fit",
        "unknown key 'launch.train.nods'",
        "did you mean 'nodes'?",
        "did you mean 'tracking'?",
    ):
        assert words in told


@given(
    st.sampled_from([(), ("tracking",), ("launch", "train"), ("envs", "prod", "tracking")]),
    st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda key: yaml.safe_load(key) == key),
    st.integers(0, 5),
)
def test_an_unknown_key_anywhere_is_told_with_its_line(
    section: tuple[str, ...], key: str, blank: int
) -> None:
    known = {*Config.model_fields, *Tracking.model_fields, *LaunchSection.model_fields, "envs"}
    if key in known:
        return
    lines = ["project: x"] if section else []
    lines += ["  " * i + f"{name}:" for i, name in enumerate(section)]
    lines += ["#"] * blank
    lines.append("  " * len(section) + f"{key}: 1")
    lines += [] if section else ["project: x"]
    place = f"mlp.yaml:{len(lines) - (0 if section else 1)}:{2 * len(section) + 1}"
    (mistake,) = refused("\n".join(lines))
    assert mistake.startswith(f"{place}: unknown key")
    assert repr(".".join([*section[2 if section[:1] == ("envs",) else 0 :], key])) in mistake


@pytest.mark.parametrize(
    ("text", "have"),
    [
        ("model: {name: m, nam: p}", "(have: name, task, primary, "),
        ("model: {name: m, gates: {metrics: {f1: {mni: 1}}}}", "(have: min, max), did you mean"),
        ("targets: {gpu: {kind: kubernetes, image: i, imag: x}}", "(have: kind, context, "),
        ("targets: {gpu: {kind: kubernetes, image: i, resources: {gp: 1}}}", "(have: gpu, "),
        ("launch: {train: {nods: 1}}", "(have: target, strategy, "),
        ("deploy: {resources: {gpus: 1}}", "(have: "),
    ],
)
def test_an_unknown_key_is_answered_with_those_of_its_section(text: str, have: str) -> None:
    (mistake,) = refused(f"project: x\n{text}\n")
    assert have in mistake
    assert ("target, strategy" in mistake) == text.startswith("launch")


def test_a_setting_with_an_unknown_key_is_answered_with_those_of_its_section() -> None:
    (mistake,) = refused("project: x\nmodel: {name: m}", settings=["model.nam=a"])
    assert "(have: name, task, " in mistake and "did you mean 'name'?" in mistake


def test_a_models_name_is_no_longer_than_the_ledger_keeps() -> None:
    assert parse(f"project: x\nmodel: {{name: {'m' * 255}}}").model is not None
    (mistake,) = refused(f"project: x\nmodel: {{name: {'m' * 256}}}")
    assert "model.name" in mistake and "255" in mistake


@pytest.mark.parametrize("key", ["no", "1", "null", "2024-01-01"])
def test_a_key_that_yaml_takes_for_something_else_is_told(key: str) -> None:
    (mistake,) = refused(f"project: x\n{key}: y\n")
    assert mistake.startswith("mlp.yaml:")
    assert "put it in quotes" in mistake


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "project",
        "project: [",
        "a: b: c",
        "\x00",
        "project: x\nproject: y",
        "? [a]\n: 1",
    ],
)
def test_what_is_no_mapping_or_no_yaml_is_told_with_its_place(text: str) -> None:
    assert all(mistake.startswith("mlp.yaml") for mistake in refused(text))


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["project", "tracking", "launch", "envs", "train", "uri"])
                | st.integers(),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    ).map(yaml.safe_dump)
)
def test_any_text_is_a_configuration_or_a_list_of_mistakes(text: str) -> None:
    try:
        parse(text)
    except ConfigurationError as error:
        assert error.cause


def test_an_environment_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match=r"'prd' is not in mlp.yaml \(have: prod\), did"):
        parse(FULL, env="prd")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("serve.challenger_memory=12", "it should be at least 64Mi"),
        ("serve.challenger_memory=63Mi", "it should be at least 64Mi"),
        ("serve.log='s3://'", "it should be a folder, or an address such as s3://BUCKET/PATH"),
        ("serve.log='s3:///'", "s3://BUCKET/PATH"),
        ("serve.log='://b'", "s3://BUCKET/PATH"),
        ("serve.log=''", "s3://BUCKET/PATH"),
    ],
)
def test_what_a_server_could_not_work_with_is_refused(setting: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(FULL, settings=[setting])
    assert words in caught.value.cause and setting.partition("=")[0] in caught.value.cause
    parse(FULL, settings=["serve.challenger_memory=64Mi", "serve.log=s3://b"])


@pytest.mark.parametrize("setting", ["a", "=1", "tracking.uri=[", "tracking.urj=x", "launch=1"])
def test_a_setting_that_does_not_fit_is_refused(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--config|mistake"):
        parse(FULL, settings=[setting])


TREES = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


@given(TREES)
def test_merging_nothing_or_itself_changes_nothing(tree: dict[str, object]) -> None:
    assert merge(tree, {}) == merge({}, tree) == merge(tree, tree) == tree


@given(TREES, TREES)
def test_what_is_laid_over_wins(base: dict[str, object], over: dict[str, object]) -> None:
    def holds(merged: object, part: object) -> bool:
        if not isinstance(part, dict):
            return merged == part
        return isinstance(merged, dict) and all(holds(merged[k], v) for k, v in part.items())

    merged = merge(base, over)
    assert holds(merged, over)
    assert set(merged) == set(base) | set(over)
    assert all(merged[k] == v for k, v in base.items() if k not in over)
