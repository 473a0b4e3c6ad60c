"""A scaffolded project as a new user meets it, through every door it has."""

import json
from pathlib import Path

import httpx
import pytest

from tests.conftest import Project, isolated
from tests.integration.served import until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=["tabular", "lightning"])
def scaffolded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of each template, run once."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    elsewhere = Project(folder, isolated(folder / "home"), installed=True)
    made = elsewhere.mlp("init", "first", "--template", request.param)
    assert made.code == 0, made.err
    project = Project(folder / "first", elsewhere.environ, installed=True)
    done = project.mlp("run", CI="true")
    assert done.code == 0, done.err
    return project


def test_its_first_run_is_in_mlflow_with_a_model(scaffolded: Project) -> None:
    recorded = scaffolded.recorded()
    assert [run.info.status for run in recorded.pipelines][:1] == ["FINISHED"]
    assert recorded.stage("train", of=0).outputs.model_outputs
    assert recorded.pipelines[0].data.metrics["accuracy"] > 0.9


def test_its_own_tests_pass(scaffolded: Project) -> None:
    assert "passed" in scaffolded.tool("python", "-m", "pytest", "-q")


def test_doctor_and_status_find_nothing_wrong(scaffolded: Project) -> None:
    doctor = scaffolded.mlp("doctor")
    assert doctor.code == 0, doctor.out + doctor.err
    assert scaffolded.mlp("status").code == 0


def test_mlflow_run_goes_through_the_pipeline(scaffolded: Project) -> None:
    scaffolded.tool("mlflow", "run", ".", "-P", "lr=0.02", "--env-manager", "local")
    scaffolded.tool("mlflow", "run", ".", "--backend", "mlp", "-P", "lr=0.03")
    recorded = scaffolded.recorded()
    rates = [run.data.params.get("train.lr") for run in recorded.pipelines]
    assert {"0.02", "0.03"} <= set(rates)
    assert all(run.info.status == "FINISHED" for run in recorded.pipelines)


def test_two_processes_train_it_without_a_change_of_code(scaffolded: Project) -> None:
    if "pytorch" not in (scaffolded.root / "src" / "train.py").read_text():
        assert scaffolded.mlp("train", "--dry-run").code == 0  # scikit-learn trains in one process
        return
    done = scaffolded.mlp("train", "--processes", "2", "--force", CI="true")
    assert done.code == 0, done.err
    recorded = scaffolded.recorded()
    steps = [step for step, _ in recorded.history(recorded.stage("train"), "train_loss")]
    assert steps == sorted(set(steps)), "each step once, from rank 0"


def test_from_its_runs_to_answers_by_two_versions_and_back(scaffolded: Project) -> None:
    first, second = [registered(scaffolded, seed) for seed in ("8", "9")]
    promoted = scaffolded.mlp("models", "promote", first)
    assert promoted.code == 0, promoted.out + promoted.err
    assert scaffolded.mlp("models", "promote", second, "--to", "challenger").code == 0
    # On a machine that runs other tests too, a challenger may be slow for reasons of theirs.
    patient = ("--config", "serve.max_latency_ms=9000")
    server = scaffolded.start("serve", "--port", "0", "--challenger", "0.5", "--json", *patient)
    try:
        line = server.stdout.readline()
        assert line, server.communicate()
        address = json.loads(line)["address"]
        body = example_of(scaffolded, first)

        def version_for(user: str) -> str:
            headers = {"X-Route-Key": user, "Content-Type": "application/json"}
            answer = httpx.post(f"{address}/invocations", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
            return str(answer.headers["X-Model-Version"])

        until(lambda: {version_for(str(user)) for user in range(20)} == {first, second})
        assert [version_for("ann") for _ in range(5)] == [version_for("ann")] * 5
        told = scaffolded.mlp(
            "models", "promote", second, "--accept", "champion", "--reason", "now"
        )
        assert told.code == 0, told.out + told.err
        until(lambda: {version_for(str(user)) for user in range(20)} == {second})
        assert scaffolded.mlp("models", "rollback", "--reason", "no").code == 0
        until(lambda: {version_for(str(user)) for user in range(20)} == {first})
    finally:
        server.terminate()
        server.communicate()
    assert server.returncode == 0
    shown = scaffolded.mlp("predictions", "show", "-n", "1000", "--json").document
    assert {row["version"] for row in shown["predictions"]} == {first, second}
    told = [
        entry["action"]
        for entry in scaffolded.mlp("models", "history", "--json").document["entries"]
    ]
    assert told.count("rolled back") == 1


def registered(project: Project, seed: str) -> str:
    """The version of a run with that seed, which had trained already."""
    trained = project.mlp("train", "--set", f"seed={seed}", CI="true")
    assert trained.code == 0, trained.err
    done = project.mlp("run", "--json", CI="true")
    assert done.code == 0, done.err
    run = done.document["run_id"]
    return str(project.mlp("models", "register", run, "--json").document["version"])


def example_of(project: Project, version: str) -> bytes:
    """The request that is stored with a version that the server has loaded."""
    folder = project.root / ".mlp" / "serving" / "versions"
    return next(folder.glob(f"*/{version}/serving_input_example.json")).read_bytes()
