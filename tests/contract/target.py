"""What every target keeps, the local one and a cluster alike: a suite that each of them passes."""

import json

import pytest

from tests.conftest import Make, Project, Recorded

TWO_COMMANDS = json.dumps(
    {"stages": {"two": {"cmd": ["echo one > a", "cat a a > b"], "outs": ["b"]}}}
)


class TargetContract:
    """For a class with the fixture `launched`, whose projects run on the target `name`."""

    name = "local"

    @pytest.fixture
    def launched(self) -> Make:
        """What makes a project whose stages can run on the target."""
        raise NotImplementedError

    def recorded(self, project: Project) -> Recorded:
        """What is in MLflow of the project."""
        return project.recorded()

    def test_it_leaves_what_dvc_itself_leaves(self, launched: Make) -> None:
        project = launched()
        done = project.mlp("train", "--target", self.name)
        assert done.code == 0, done.err
        assert "trained" in done.err, "what the stage prints is shown"
        assert project.tool("dvc", "status", "--json").strip() == "{}"
        there = (project.root / "dvc.lock").read_text()
        names = ("model.txt", "metrics.json")
        outputs = {name: (project.root / name).read_bytes() for name in names}
        for name in ("dvc.lock", "model.txt", "metrics.json", "loss.csv"):
            (project.root / name).unlink()
        project.tool("dvc", "repro", "--force")
        assert (project.root / "dvc.lock").read_text() == there, "byte for byte"
        assert {name: (project.root / name).read_bytes() for name in names} == outputs

    def test_it_is_one_run_with_all_that_the_stage_recorded(self, launched: Make) -> None:
        project = launched()
        assert project.mlp("run", "--target", self.name, "train", CI="true").code == 0
        found = self.recorded(project)
        assert len(found.pipelines) == 1
        stages = {run.data.tags["mlp.stage"]: run for run in found.children(found.pipelines[0])}
        assert set(stages) == {"prep", "train"}, "the stage before it runs as DVC runs it"
        train = stages["train"]
        assert train.info.status == "FINISHED"
        assert [value for _, value in found.history(train, "train_loss")] == [1.0, 0.5, 1 / 3]
        assert train.data.metrics["acc"] == 0.5
        assert "trained" in found.text(train, "logs/log.txt")
        self.check_place(stages["prep"].data.tags, train.data.tags)

    def check_place(self, before: dict[str, str], tags: dict[str, str]) -> None:
        """Where the stage ran, in its tags; `before` are those of a stage that DVC ran here."""
        assert not {"mlp.job", "mlp.pod", "mlp.node"} & {*before, *tags}

    def test_the_exit_code_of_the_code_and_its_last_words_come_back(self, launched: Make) -> None:
        project = launched({"train.py": "import sys\nprint('so it goes')\nsys.exit(3)\n"})
        done = project.mlp("train", "--target", self.name, CI="true")
        assert done.code == 6
        assert "3" in done.err and "so it goes" in done.err
        found = self.recorded(project)
        assert found.stage("train").info.status == "FAILED"
        assert found.pipelines[0].info.status == "FAILED"

    def test_a_stage_with_several_commands_runs_them_in_turn(self, launched: Make) -> None:
        project = launched({"dvc.yaml": TWO_COMMANDS})
        done = project.mlp("run", "--target", self.name)
        assert done.code == 0, done.err
        assert (project.root / "b").read_text() == "one\none\n"
