import dataclasses
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlp.core.launch import job_spec as jobs
from mlp.core.launch.job_spec import JobSpec

DNS = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
TEXT = st.text(max_size=80)
VALUES = st.dictionaries(TEXT, TEXT, max_size=4)
SPECS = st.builds(
    JobSpec,
    name=TEXT,
    project=TEXT,
    stage=TEXT,
    commands=st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    workdir=TEXT,
    root=TEXT,
    nodes=st.integers(1, 1000),
    processes_per_node=st.integers(1, 16),
    strategy=st.sampled_from(["single", "ddp"]),
    max_restarts=st.integers(0, 10),
    log_all_ranks=st.booleans(),
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


@given(SPECS)
def test_what_runs_in_the_pod_is_launched_as_mlp_yaml_said(spec: JobSpec) -> None:
    assert spec.world_size == spec.nodes * spec.processes_per_node
    assert all(spec.launch[name] == value for name, value in _launched(spec).items())


def _launched(spec: JobSpec) -> dict[str, object]:
    names = ("nodes", "processes_per_node", "strategy", "max_restarts", "log_all_ranks")
    return {name: value for name, value in dataclasses.asdict(spec).items() if name in names}
