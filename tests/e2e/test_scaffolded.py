"""A scaffolded project as a new user meets it, through every door it has."""

from pathlib import Path

import pytest

from tests.conftest import Project, isolated

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=["tabular", "lightning"])
def scaffolded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of each template, run once."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    elsewhere = Project(folder, isolated(folder / "home"))
    made = elsewhere.mlp("init", "first", "--template", request.param)
    assert made.code == 0, made.err
    project = Project(folder / "first", elsewhere.environ)
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
