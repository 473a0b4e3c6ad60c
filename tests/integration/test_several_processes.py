"""A stage on several processes: one run, recorded by rank 0."""

import json

import pytest

from mlp.core.runs.recorded_run import PROVENANCE
from tests.conftest import Make, Project, single

pytestmark = pytest.mark.slow

MLP_YAML = "project: demo\nlaunch: {train: {processes_per_node: 2, log_all_ranks: %s}}\n"
SCRIPT = """
import os, pathlib, sys
import mlflow, mlp
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
pathlib.Path(f"rank{rank}").write_text(str(world))
mlp.log({"ours": rank}, step=1)
mlflow.log_metric("theirs", rank)
mlflow.log_param("rank", rank)
mlflow.log_text(f"of rank {rank}", "note.txt")
with mlflow.start_run(nested=True, run_name="inner"):
    mlflow.log_metric("deep", rank)
print(f"rank {rank} of {world}")
"""


def make(make_project: Make, log_all_ranks: bool, script: str = SCRIPT) -> Project:
    return make_project(
        {
            "dvc.yaml": single("train", "python train.py", outs=["rank0", "rank1"]),
            "mlp.yaml": MLP_YAML % str(log_all_ranks).lower(),
            "train.py": script,
        }
    )


def test_rank_0_records_once_and_the_others_nothing(make_project: Make) -> None:
    project = make(make_project, log_all_ranks=False)
    done = project.mlp("train")
    assert done.code == 0, done.err
    assert (project.root / "rank1").read_text() == "2"
    recorded = project.recorded()
    run = recorded.stage("train")
    assert run.data.metrics == {"ours": 0.0, "theirs": 0.0}
    assert run.data.params == {"rank": "0"}
    assert recorded.text(run, "note.txt") == "of rank 0"
    assert recorded.artifacts(run) == {"note.txt", "logs/log.txt"}
    assert [child.data.metrics for child in recorded.children(run)] == [{"deep": 0.0}]
    assert "rank 1" not in recorded.text(run, "logs/log.txt")


def test_all_ranks_record_under_names_of_their_own_when_asked(make_project: Make) -> None:
    project = make(make_project, log_all_ranks=True)
    assert project.mlp("run").code == 0
    recorded = project.recorded()
    run = recorded.stage("train")
    assert run.data.metrics == {
        "ours": 0.0,
        "theirs": 0.0,
        "rank_1/ours": 1.0,
        "rank_1/theirs": 1.0,
    }
    assert recorded.text(run, "note.txt") == "of rank 0"
    assert recorded.text(run, "rank_1/note.txt") == "of rank 1"


def test_the_command_line_says_how_many(make_project: Make) -> None:
    command = "echo $WORLD_SIZE > n$RANK; echo $MLP_LAUNCH > launch.json"
    project = make_project(
        {
            "dvc.yaml": single("train", command),
            "mlp.yaml": "project: demo\nlaunch: {train: {strategy: single}}\n",
        }
    )
    assert project.mlp("train", "--processes", "2").code == 0
    assert {path.name: path.read_text() for path in project.root.glob("n?")} == {
        "n0": "2\n",
        "n1": "2\n",
    }
    recorded = project.recorded()
    known = json.loads(recorded.text(recorded.pipelines[-1], PROVENANCE))
    assert known["launches"]["train"]["strategy"] == "ddp"
    assert json.loads((project.root / "launch.json").read_text())["strategy"] == "ddp"
    assert project.mlp("train").code == 0
    assert (project.root / "n").read_text() == "\n"


def test_a_failing_rank_fails_the_stage_with_its_own_words(make_project: Make) -> None:
    script = """
import os, sys, time
if os.environ["RANK"] == "1":
    sys.exit("rank one has enough")
time.sleep(60)  # ended by torchrun
"""
    project = make(make_project, log_all_ranks=False, script=script)
    done = project.mlp("run")
    assert done.code == 6
    assert done.err.count("rank one has enough") == 2  # as it is printed, and as the cause
    assert "rank 1 failed first, with exit code 1" in done.err
    recorded = project.recorded()
    assert recorded.stage("train").info.status == "FAILED"
    assert "rank one" in recorded.text(recorded.stage("train"), "logs/log.txt")
