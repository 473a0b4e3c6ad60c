"""What a stage's own MLflow calls record lands in its run, once."""

import json
import re

import pytest

from mlp.core.runs.recorded_run import Tag
from tests.conftest import Done, Make, Project, Recorded, single

pytestmark = pytest.mark.slow

SCRIPTS = {
    "plain.py": """
import os
import mlflow
mlflow.set_experiment("somewhere else")
for step in range(3):
    mlflow.log_metric("loss", 1 / (step + 1), step=step)
mlflow.log_metrics({"a": 1.0, "b/c": 2.0}, step=7)
mlflow.log_params({"lr": 0.1, "deep": "yes"})
mlflow.set_tag("team", "blue")
open("local.txt", "w").write("from a file")
mlflow.log_artifact("local.txt", "files")
mlflow.log_text("from a text", "notes/note.txt")
mlflow.log_dict({"x": 1}, "d.json")
assert mlflow.active_run().data is not None
run = mlflow.get_run(mlflow.active_run().info.run_id)
assert run.data.metrics["loss"] == 1 / 3, run.data.metrics
assert run.data.params == {"lr": "0.1", "deep": "yes"}
history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
assert [m.step for m in history] == [0, 1, 2]
""",
    "nested.py": """
import mlflow
with mlflow.start_run(run_name="mine", tags={"own": "tag"}):
    mlflow.log_metric("outer", 1)
    with mlflow.start_run(run_name="fold 1", nested=True):
        mlflow.log_metric("inner", 2)
        mlflow.log_text("x", "fold.txt")
        with mlflow.start_run(run_name="deepest", nested=True):
            mlflow.log_param("p", 1)
with mlflow.start_run(run_name="second"):
    mlflow.log_metric("later", 3)
try:
    with mlflow.start_run(run_name="broken"):
        1 / 0
except ZeroDivisionError:
    pass
""",
    "model.py": """
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
x, y = load_iris(return_X_y=True)
mlflow.sklearn.autolog(log_models=False)
model = LogisticRegression(max_iter=5000).fit(x, y)
info = mlflow.sklearn.log_model(
    model, name="iris", input_example=x[:2], pip_requirements=["scikit-learn"])
again = mlflow.sklearn.load_model(info.model_uri)
assert (again.predict(x) == model.predict(x)).all()
""",
    "ours.py": """
import mlp
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
x, y = load_iris(return_X_y=True, as_frame=True)
x = x.round().astype("Int64")
mlp.log({"ours": 1.5})
mlp.log({"ours": 2.5, "word": "no number", "endless": float("inf")})
mlp.log_model(LogisticRegression(max_iter=5000).fit(x, y), x[:2])
""",
    "workers.py": """
import multiprocessing
import mlflow

def fold(number):
    with mlflow.start_run(nested=True, run_name=f"fold {number}"):
        mlflow.log_param("fold", number)

if __name__ == "__main__":
    mlflow.log_param("folds", 2)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fold, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    found = mlflow.search_runs(output_format="list")
    names = {run.info.run_name for run in found}
    assert {"workers", "fold 0", "fold 1"} <= names, names
    found = mlflow.search_runs(filter_string="params.fold = '1'", experiment_names=["demo"])
    assert list(found["tags.mlflow.runName"]) == ["fold 1"], found
    assert mlflow.get_experiment_by_name("another") is None
    assert mlflow.get_experiment_by_name("demo").name == "demo"
""",
    "refused.py": """
import mlflow
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression

def refused(call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except MlflowException:
        return True

model = LogisticRegression().fit([[0], [1]], [0, 1])
assert refused(mlflow.log_metric, "", 1)
assert refused(mlflow.log_metric, "a//b", 1)
assert refused(mlflow.log_param, "a/../b", 1)
for call in (mlflow.log_metric, mlflow.log_param):
    call("a_b", 1)
    assert refused(call, "a%b", 2), "it would be recorded as a_b"
for name in ("v1.2", "a:b", "a%b", "it's"):
    assert refused(mlflow.sklearn.log_model, model, name=name), name
""",
    "param.py": """
import sys, mlflow
from mlflow.exceptions import MlflowException
try:
    mlflow.log_param("seed", sys.argv[1])
except MlflowException as e:
    mlflow.set_tag("told", str(e)[:40])
""",
    "metric.py": "import sys, mlflow; mlflow.log_metric(sys.argv[1], 1); mlflow.end_run()\n",
}
STAGES = {
    **{
        name: {"cmd": f"python {name}.py", "deps": [f"{name}.py"]}
        for name in ("plain", "nested", "model", "ours", "workers", "refused")
    },
    "changed": {"cmd": ["python param.py 1", "python param.py 2"]},
    "several": {"cmd": ["python metric.py first", "python metric.py second"]},
}


@pytest.fixture(scope="module")
def project(make_shared_project: Make) -> Project:
    return make_shared_project({**SCRIPTS, "dvc.yaml": json.dumps({"stages": STAGES})})


@pytest.fixture(scope="module")
def done(project: Project) -> Done:
    return project.mlp("run")


@pytest.fixture(scope="module")
def recorded(project: Project, done: Done) -> Recorded:
    assert done.code == 0, done.err
    return project.recorded()


def test_calls_without_start_run_land_in_the_stages_run(recorded: Recorded) -> None:
    run = recorded.stage("plain")
    assert recorded.history(run, "loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert recorded.history(run, "a") == [(7, 1.0)]
    assert recorded.history(run, "b/c") == [(7, 2.0)]
    assert run.data.params == {"lr": "0.1", "deep": "yes"}
    assert run.data.tags["team"] == "blue"
    assert recorded.text(run, "files/local.txt") == "from a file"
    assert recorded.text(run, "notes/note.txt") == "from a text"
    assert recorded.artifacts(run) == {
        *("d.json", "files/local.txt", "notes/note.txt", "logs/log.txt")
    }


def test_set_experiment_does_not_lead_a_stage_out_of_its_run(recorded: Recorded) -> None:
    experiments = {e.name for e in recorded.client.search_experiments()}
    assert experiments == {"Default", "demo"}
    assert recorded.children(recorded.stage("plain")) == []


def test_nested_runs_stay_nested_and_further_runs_are_below_the_stages(recorded: Recorded) -> None:
    run = recorded.stage("nested")
    assert run.data.metrics == {"outer": 1.0}
    assert run.data.tags["own"] == "tag"
    below = {child.info.run_name: child for child in recorded.children(run)}
    assert set(below) == {"fold 1", "second", "broken"}
    assert below["fold 1"].data.metrics == {"inner": 2.0}
    assert recorded.artifacts(below["fold 1"]) == {"fold.txt"}
    assert below["second"].data.metrics == {"later": 3.0}
    assert below["second"].info.status == "FINISHED"
    assert below["broken"].info.status == "FAILED"
    (deepest,) = recorded.children(below["fold 1"])
    assert deepest.data.params == {"p": "1"}


def test_autologging_and_a_logged_model_land_in_the_stages_run(recorded: Recorded) -> None:
    run = recorded.stage("model")
    assert run.data.params["max_iter"] == "5000"
    assert "training_score" in run.data.metrics
    (output,) = run.outputs.model_outputs
    model = recorded.client.get_logged_model(output.model_id)
    assert model.name == "iris"
    assert model.source_run_id == run.info.run_id
    assert str(model.status) == "READY"
    files = {f.path for f in recorded.client.list_logged_model_artifacts(model.model_id)}
    assert {"MLmodel", "model.pkl"} <= files or {"MLmodel", "model.skops"} <= files


def test_the_delivered_model_loads_and_names_its_run(project: Project, recorded: Recorded) -> None:
    """Its example has nullable integers: missing ones are floats to MLflow."""
    import mlflow
    import pandas as pd

    run = recorded.stage("ours")
    assert recorded.history(run, "ours") == [(0, 1.5), (1, 2.5)], "without a step they count on"
    assert run.data.metrics.keys() == {"ours", "endless"}
    (output,) = run.outputs.model_outputs
    mlflow.set_tracking_uri(project.uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    assert loaded.metadata.model_id == output.model_id
    assert recorded.client.get_logged_model(output.model_id).source_run_id == run.info.run_id
    columns = loaded.metadata.signature.inputs
    assert [kind.name for kind in columns.input_types()] == ["double"] * 4
    row = pd.DataFrame([[5.1, 3.5, 1.4, 0.2]], columns=columns.input_names())
    assert len(loaded.predict(row)) == 1


def test_an_infinite_metric_is_shown_as_one_and_json_has_null(
    project: Project, recorded: Recorded
) -> None:
    run = recorded.stage("ours").info.run_id
    assert re.search(r"endless +inf", project.call("runs", "show", run).out)
    assert '"endless": null' in project.call("runs", "show", run, "--json").out


def test_processes_of_one_stage_share_its_run(recorded: Recorded) -> None:
    run = recorded.stage("several")
    assert run.data.metrics == {"first": 1.0, "second": 1.0}
    assert recorded.children(run) == []


def test_workers_that_are_spawned_have_runs_of_their_own(recorded: Recorded) -> None:
    run = recorded.stage("workers")
    assert run.data.params == {"folds": "2"}
    below = {child.info.run_name: child.data.params for child in recorded.children(run)}
    assert below == {"fold 0": {"fold": "0"}, "fold 1": {"fold": "1"}}


def test_a_param_that_another_process_of_the_stage_logged_is_not_changed(
    recorded: Recorded,
) -> None:
    run = recorded.stage("changed")
    assert run.data.params == {"seed": "1"}
    assert "Changing param values" in run.data.tags["told"]


def test_nothing_is_recorded_twice_or_elsewhere(recorded: Recorded) -> None:
    stages = recorded.children(recorded.pipelines[0])
    assert sorted(run.data.tags[Tag.STAGE] for run in stages) == sorted(STAGES)
    assert len(recorded.all) == 1 + len(STAGES) + 4 + 2
    assert len(recorded.client.search_logged_models([stages[0].info.experiment_id])) == 2
    assert {run.info.status for run in stages} == {"FINISHED"}


IDS = """
import json, mlflow
project = mlflow.get_experiment_by_name("demo")
found = mlflow.search_runs([project.experiment_id], output_format="list")
own = mlflow.get_experiment(project.experiment_id).name
default = mlflow.get_experiment_by_name("Default").experiment_id
json.dump([project.experiment_id, own, default, len(found)], open("ids", "w"))
"""


def test_an_experiment_goes_by_its_own_id(make_project: Make) -> None:
    project = make_project({"dvc.yaml": single("ids", "python ids.py"), "ids.py": IDS})
    assert project.mlp("run").code == 0
    recorded = project.recorded()
    assert project.mlp("run", "--force").code == 0
    experiment = recorded.client.get_experiment_by_name("demo")
    assert experiment is not None
    told = json.loads((project.root / "ids").read_text())
    # Of the first run the pipeline and its stage, of this one the pipeline too, if it has arrived.
    assert told[:3] == [experiment.experiment_id, "demo", "0"] and told[3] >= 3, told
