import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlp.core.launch import job_spec as jobs
from mlp.core.launch.job_spec import JobSpec
from mlp.core.launch.launch import STRATEGIES, Launch, launch_of
from mlp.core.runs.run_header import RunHeader, RunLaunch

DNS = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
TEXT = st.text(max_size=80)
VALUES = st.dictionaries(TEXT, TEXT, max_size=4)
LAUNCHES = st.builds(
    Launch,
    target=TEXT,
    strategy=st.sampled_from(STRATEGIES),
    nodes=st.integers(1, 1000),
    processes_per_node=st.integers(1, 16),
    gpus=st.none() | st.integers(0, 16),
    max_restarts=st.integers(0, 10),
    log_all_ranks=st.booleans(),
)
SPECS = st.builds(
    JobSpec,
    name=TEXT,
    project=TEXT,
    stage=TEXT,
    commands=st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    workdir=TEXT,
    root=TEXT,
    launch=LAUNCHES,
    inputs=st.lists(TEXT, max_size=3).map(tuple),
    bundle=TEXT,
    image=TEXT,
    run_id=TEXT,
    experiment=TEXT,
    remote=VALUES,
    states=VALUES,
    checkpoints=st.none() | TEXT,
    tracking_uri=st.none() | TEXT,
)


@given(TEXT, TEXT, VALUES, st.integers(0, 99_999))
@example("p" * 80, "s" * 80, {}, 99_999)
@example("", "", {}, 0)
@example("9", "-", {}, 0)
def test_a_jobs_name_is_one_that_dns_takes_for_every_node_of_it(
    project: str, stage: str, identity: dict[str, str], node: int
) -> None:
    name = jobs.job_name(project, stage, identity)
    assert DNS.fullmatch(name)
    assert len(f"{name}-{node}-abcde") <= 63
    assert len(f"job-{name}-abcde") <= 63, "as Kueue calls its Workload"


@given(TEXT, TEXT, VALUES)
def test_a_jobs_name_is_the_same_for_the_same_work(
    project: str, stage: str, identity: dict[str, str]
) -> None:
    reversed_keys = dict(reversed(identity.items()))
    name = jobs.job_name(project, stage, identity)
    assert jobs.job_name(project, stage, reversed_keys) == name
    assert jobs.job_name(project, stage, {**identity, "more": "work"}) != name


def test_a_jobs_name_is_the_same_in_every_version() -> None:
    """Or a job that is submitted again by a later version would not be found."""
    assert jobs.job_name("Flights", "train@a", {"bundle": "1"}) == "flights-train-a-e5325ec636"


@given(TEXT)
def test_a_label_is_one_that_kubernetes_takes(text: str) -> None:
    label = jobs.label(text)
    assert len(label) <= 63
    assert LABEL.fullmatch(label)
    assert jobs.label(label) == label


@given(SPECS)
def test_a_spec_comes_back_from_its_json(spec: JobSpec) -> None:
    text = spec.to_json()
    assert "\n" not in text
    assert JobSpec.from_json(text) == spec


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "x"}', "null", '"x"'])
def test_what_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        JobSpec.from_json(text)


@given(SPECS)
def test_two_jobs_of_one_name_leave_nothing_in_the_same_place(spec: JobSpec) -> None:
    assert spec.folder("uid-1") != spec.folder("uid-2")
    assert spec.folder("uid-1").startswith("mlp/jobs/")


@given(LAUNCHES)
def test_a_launch_comes_back_from_its_json(launch: Launch) -> None:
    known = json.loads(json.dumps(launch.to_dict()))
    assert Launch.from_dict({**known, "of": "a later version"}) == launch
    assert launch.world_size == launch.nodes * launch.processes_per_node


def test_a_stage_is_launched_by_its_name_or_its_matrix() -> None:
    launches = {"train": Launch(nodes=2), "train@b": Launch(nodes=3)}
    nodes = [
        launch_of(launches, name) for name in ("train", "train@a", "train@b", "sub/dvc.yaml:train")
    ]
    assert [launch.nodes for launch in nodes if launch] == [2, 2, 3, 2]
    assert launch_of(launches, "prep") is None


HEADERS = st.builds(
    RunHeader,
    run_id=TEXT,
    experiment=TEXT,
    tracking_uri=st.none() | TEXT,
    settings=st.lists(TEXT, max_size=2).map(tuple),
    command_line=st.lists(TEXT, max_size=2).map(tuple),
    started=st.floats(0, 2e9),
    launching=st.builds(
        RunLaunch,
        launches=st.dictionaries(TEXT, LAUNCHES, max_size=2),
        targets=st.dictionaries(TEXT, VALUES, max_size=2),
        stages=st.lists(TEXT, max_size=2).map(tuple),
        overrides=st.lists(TEXT, max_size=2).map(tuple),
        attach=st.none() | TEXT,
        checked=st.floats(0, 2e9),
    ),
)


@given(HEADERS)
def test_a_runs_header_comes_back_from_its_json(header: RunHeader) -> None:
    assert RunHeader.from_json(header.to_json()) == header


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"launch": {}}'])
def test_what_is_no_header_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        RunHeader.from_json(text)
