"""What one `mlp run` leaves in MLflow."""

import hashlib
import json

import pytest

from mlp.core.runs.recorded_run import Tag
from tests.conftest import Done, Make, Project, Recorded


@pytest.fixture(scope="module")
def project(make_shared_project: Make) -> Project:
    return make_shared_project()


@pytest.fixture(scope="module")
def done(project: Project) -> Done:
    return project.mlp("run", "--json")


@pytest.fixture(scope="module")
def recorded(project: Project, done: Done) -> Recorded:
    return project.recorded()


def test_the_result_is_one_document_and_what_stages_print_is_on_their_own_channels(
    done: Done,
) -> None:
    assert done.code == 0, done.err
    document = json.loads(done.out[done.out.index("{") :])
    assert [(s["name"], s["outcome"]) for s in document["stages"]] == [
        ("prep", "ran"),
        ("train", "ran"),
    ]
    assert document["status"] == "FINISHED"
    assert document["metrics"] == {"acc": 0.5, "nested.f1": 0.25}


def test_one_run_for_the_pipeline_and_one_below_it_for_each_stage(recorded: Recorded) -> None:
    (pipeline,) = recorded.pipelines
    assert len(recorded.all) == 3
    stages = recorded.children(pipeline)
    assert [run.data.tags[Tag.STAGE] for run in stages] == ["prep", "train"]
    assert {run.info.status for run in recorded.all} == {"FINISHED"}
    assert all(run.info.end_time >= run.info.start_time for run in recorded.all)
    assert [run.info.run_name for run in stages] == ["prep", "train"]
    assert [run.data.tags[Tag.OUTCOME] for run in stages] == ["ran", "ran"]


def test_params_are_those_that_each_stage_reads(recorded: Recorded) -> None:
    assert recorded.stage("prep").data.params == {"n": "5"}
    train = {"train.lr": "0.1", "train.layers": "[1, 2]"}
    assert recorded.stage("train").data.params == train
    assert recorded.pipelines[0].data.params == {"n": "5"} | train


def test_metrics_come_from_code_from_metrics_files_and_from_plots(recorded: Recorded) -> None:
    train = recorded.stage("train")
    assert recorded.history(train, "train_loss") == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert recorded.history(train, "acc") == [(0, 0.5)]
    assert recorded.history(train, "nested.f1") == [(0, 0.25)]
    assert recorded.history(train, "loss/loss") == [(0, 1.0), (1, 0.5)]
    assert recorded.pipelines[0].data.metrics == {"acc": 0.5, "nested.f1": 0.25}


def test_artifacts_are_logs_plots_and_the_provenance(project: Project, recorded: Recorded) -> None:
    train = recorded.stage("train")
    assert recorded.artifacts(train) == {"logs/log.txt", "plots/loss.csv"}
    assert recorded.text(train, "logs/log.txt") == "trained\n"
    pipeline = recorded.pipelines[0]
    assert recorded.artifacts(pipeline) == {
        "mlp/provenance.json",
        "mlp/dvc.lock",
        "mlp/stages.json",
    }
    assert recorded.text(pipeline, "mlp/dvc.lock") == (project.root / "dvc.lock").read_text()


def test_data_is_recorded_with_the_hashes_and_sizes_of_dvc(
    project: Project, recorded: Recorded
) -> None:
    def digests(stage: str) -> dict[str, tuple[str, str]]:
        inputs = recorded.stage(stage).inputs.dataset_inputs
        return {i.dataset.name: (i.dataset.digest, i.tags[0].value) for i in inputs}

    content = (project.root / "data.csv").read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert digests("prep")["data.csv"] == (digest, "output")
    assert digests("train")["data.csv"] == (digest, "input")
    assert set(digests("train")) == {
        *("train.py", "data.csv"),
        *("model.txt", "metrics.json", "loss.csv"),
    }
    (profile,) = [
        json.loads(i.dataset.profile)
        for i in recorded.stage("prep").inputs.dataset_inputs
        if i.dataset.name == "data.csv"
    ]
    assert profile["size"] == len(content)
    sources = recorded.pipelines[0].inputs.dataset_inputs
    assert {i.dataset.name for i in sources} == {"prep.py", "train.py"}


def test_provenance_has_code_command_line_packages_and_machine(
    project: Project, recorded: Recorded
) -> None:
    pipeline = recorded.pipelines[0]
    record = json.loads(recorded.text(pipeline, "mlp/provenance.json"))
    commit = project.tool("git", "rev-parse", "HEAD").strip()
    assert record["code"]["commit"] == commit
    assert record["code"]["branch"] == "main"
    assert record["code"]["dirty"] is False
    assert record["command_line"] == ["mlp", "run", "--json"]
    assert record["environment"]["packages"]["mlflow"]
    assert record["machine"]["memory"] > 0
    assert "PATH" in record["environment"]["variables"]
    assert record["run_id"] == pipeline.data.tags[Tag.RUN_ID] == project.runs[0].name
    assert pipeline.data.tags[Tag.COMMIT] == commit
    assert pipeline.data.tags[Tag.DIRTY] == "false"
    assert pipeline.data.tags["mlflow.source.git.branch"] == "main"


def test_dvc_finds_nothing_to_do_afterwards_and_works_without_mlp(
    project: Project, done: Done
) -> None:
    assert "up to date" in project.tool("dvc", "status")
    assert "didn't change" in project.tool("dvc", "repro")
    project.tool("dvc", "repro", "--force")
    assert "up to date" in project.tool("dvc", "status")
    # Outputs, the lock and DVC's own ignore entries are DVC's to leave; nothing of mlp is seen.
    assert ".mlp" not in project.tool("git", "status", "--short")
