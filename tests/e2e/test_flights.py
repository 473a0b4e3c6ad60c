"""examples/flights as a user runs it: from a copy in a fresh repository to a reproduced run."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Project, isolated
from tests.integration.served import until

pytestmark = pytest.mark.e2e
EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The example in a repository of its own, run once."""
    folder = tmp_path_factory.mktemp("flights")
    project = Project(folder / "flights", isolated(folder / "home"), installed=True)
    shutil.copytree(EXAMPLE, project.root)
    project.tool("git", "init", "--quiet")
    project.tool("dvc", "init", "--quiet")
    project.commit("the example")
    done = project.mlp("run", "--json", CI="true")
    assert done.code == 0, done.err
    assert done.document["delivered"]["complete"]
    project.commit("the first run")
    return project


def show(project: Project, run: str = "last") -> Any:
    return project.mlp("runs", "show", run, "--json").document


def test_the_run_leaves_nothing_to_do_for_dvc_or_git(flights: Project) -> None:
    assert flights.tool("dvc", "status", "--json").strip() == "{}"
    assert flights.tool("git", "status", "--porcelain") == ""


def test_the_models_beat_the_base_rate_on_the_months_they_never_saw(flights: Project) -> None:
    metrics = show(flights)["run"]["metrics"]
    auc = {model: metrics[f"test.{model}.roc_auc"] for model in ("network", "baseline", "constant")}
    assert auc["constant"] == 0.5
    assert auc["network"] > 0.71
    assert auc["baseline"] > 0.7


def test_every_stage_is_a_nested_run_with_what_went_in_and_out(flights: Project) -> None:
    stages = show(flights)["run"]["stages"]
    assert [stage["tags"]["mlp.stage"] for stage in stages] == [
        *("fetch", "prepare", "features"),
        *("train", "baseline", "evaluate"),
    ]
    assert all(stage["status"] == "FINISHED" for stage in stages)
    train = stages[3]
    assert float(train["params"]["train.lr"]) == 0.003
    recorded = flights.recorded()
    run = recorded.stage("train")
    assert len(recorded.history(run, "train_loss")) > 100, "a loss for every step"
    data = {item.dataset.name for item in run.inputs.dataset_inputs}
    assert {"data/features", "models/network.pt"} <= data


def test_the_logged_model_predicts_where_the_project_is_not(
    flights: Project, tmp_path: Path
) -> None:
    run = flights.recorded().stage("train")
    model = run.outputs.model_outputs[0].model_id
    script = (
        "import mlflow, pandas as pd, sys\n"
        f"mlflow.set_tracking_uri({flights.uri!r})\n"
        f"model = mlflow.pyfunc.load_model('models:/{model}')\n"
        f"december = pd.read_parquet({str(flights.root / 'data/future')!r})\n"
        "print(model.predict(december.head(100))['late_probability'].between(0, 1).sum())\n"
    )
    assert flights.tool("python", "-c", script, cwd=tmp_path).split()[-1] == "100"


def test_another_learning_rate_is_recorded_explained_and_undone(flights: Project) -> None:
    done = flights.mlp("train", "--set", "train.lr=0.01", "--json", CI="true")
    assert done.code == 0, done.err
    outcomes = {stage["name"]: stage["outcome"] for stage in done.document["stages"]}
    assert outcomes == {
        "fetch": "cached",
        "prepare": "cached",
        "features": "cached",
        "train": "ran",
    }
    history = flights.mlp("runs", "list", "--json").document["runs"]
    first, second = history[-1]["run_id"], history[0]["run_id"]
    changed = flights.mlp("runs", "diff", first, second, "--json")
    assert "train.lr" in changed.out
    assert flights.mlp("runs", "why", first, second).code == 0
    flights.tool("git", "checkout", "--quiet", "params.yaml", "dvc.lock")
    flights.tool("dvc", "checkout", "--quiet")
    assert flights.tool("dvc", "status", "--json").strip() == "{}"


def test_the_run_is_reproduced_bit_for_bit(flights: Project) -> None:
    first = flights.mlp("runs", "list", "--json").document["runs"][-1]["run_id"]
    done = flights.mlp("runs", "reproduce", first, "--json")
    assert done.code == 0, done.err
    result = done.document
    outputs = [item for item in result["items"] if item["kind"] == "output"]
    assert len(outputs) >= 7
    assert {item["match"] for item in outputs} == {"same"}
    assert flights.tool("git", "worktree", "list").count("\n") == 1, "the work tree is gone"


def test_two_versions_answer_september_and_its_labels_compare_them(flights: Project) -> None:
    history = flights.mlp("runs", "list", "--json").document["runs"]
    for run in (history[-1]["run_id"], history[-2]["run_id"]):
        registered = flights.mlp("models", "register", run)
        assert registered.code == 0, registered.err
    assert flights.mlp("models", "promote", "1").code == 0
    # `mlp train` measured nothing on the test months; with that accepted, the two are compared.
    unmeasured = flights.mlp("models", "promote", "2")
    assert unmeasured.code == 4 and "`mlp run` evaluates the model" in unmeasured.err
    accepted = ("--accept", "metrics", "--reason", "measured on August")
    refused = flights.mlp("models", "promote", "2", *accepted)
    assert refused.code == 4 and "champion: refused: worse by" in refused.err, refused.err
    assert flights.mlp("models", "promote", "2", "--to", "challenger").code == 0
    assert flights.mlp("ab", "share", "0.5").code == 0
    # How fast two versions answer on a machine that runs other tests too says nothing of them.
    patient = ("--config", "serve.max_latency_ms=9000")
    server = flights.start("serve", "--port", "0", "--json", *patient)
    try:
        line = server.stdout.readline()
        assert line, server.communicate()
        address = json.loads(line)["address"]
        until(lambda: httpx.get(f"{address}/ready").json()["challenger_ready"])
        flights.tool("python", "src/traffic.py", address)
    finally:
        server.terminate()
        server.communicate()
    labelled = flights.mlp("predictions", "label", "labels.csv")
    assert labelled.code == 0, labelled.err
    verdict = flights.mlp(
        "ab", "verdict", "--json", "--config", "ab.guards={error_rate: {max: 0.01}}"
    )
    assert verdict.code == 4, verdict.err
    told = verdict.document
    assert told["outcome"] == "inconclusive", told["reason"]
    assert told["champion"]["labelled"] + told["challenger"]["labelled"] == 6000
    assert 0.3 < told["champion"]["value"] < 0.45, "September's F1, of half the planes"
