"""What runs, what does not, and what is said of it."""

import json
import shutil

import pytest

from mlp.core.runs.recorded_run import Tag
from tests.conftest import Make, Project, single


def outcomes(document: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {stage["name"]: stage["outcome"] for stage in document["stages"]}


QUIET = {"prep.py": 'open("data.csv", "w").write(open("params.yaml").read())\n'}


def test_an_unchanged_stage_is_cached_and_linked_to_the_run_that_did_the_work(
    make_project: Make,
) -> None:
    project = make_project({"dvc.yaml": single("prep", "cp params.yaml x", outs=["x"])})
    assert outcomes(project.mlp("run", "--json").document) == {"prep": "ran"}
    assert outcomes(project.mlp("run", "--json").document) == {"prep": "cached"}
    recorded = project.recorded()
    first, second = recorded.stage("prep", 0), recorded.stage("prep", 1)
    assert first.data.tags[Tag.OUTCOME] == "ran"
    assert second.data.tags[Tag.OUTCOME] == "cached"
    assert second.data.tags[Tag.CACHED_FROM] == first.data.tags[Tag.RUN_ID]
    assert Tag.CACHED_FROM not in first.data.tags
    assert first.data.tags[Tag.FINGERPRINT] == second.data.tags[Tag.FINGERPRINT]
    assert second.info.status == "FINISHED"


def test_a_stage_from_the_run_cache_is_restored_and_linked(make_project: Make) -> None:
    stage = single("prep", "cp params.yaml x", params=["n"], outs=["x"])
    project = make_project({"dvc.yaml": stage})
    for n, outcome in [("5", "ran"), ("6", "ran"), ("5", "restored")]:
        done = project.mlp("run", "--json", "--set", f"n={n}")
        assert outcomes(done.document) == {"prep": outcome}
    recorded = project.recorded()
    first, last = recorded.stage("prep", 0), recorded.stage("prep", 2)
    assert last.data.tags[Tag.CACHED_FROM] == first.data.tags[Tag.RUN_ID]
    assert "n: 5" in (project.root / "x").read_text()


def test_metrics_and_plots_named_at_the_top_of_dvc_yaml_are_those_of_their_stage(
    make_project: Make,
) -> None:
    write = "mkdir -p live/plots; echo '{\"acc\": 0.5}' > live/metrics.json"
    stages = {
        "train": {
            "cmd": f"{write}; printf 'step,loss\\n0,1\\n' > live/plots/loss.csv",
            "outs": ["live"],
        },
        "other": {"cmd": "touch x", "outs": ["x"]},
    }
    top = {
        "metrics": ["live/metrics.json"],
        "plots": ["live/plots", {"the loss": {"x": "step", "y": {"live/plots/loss.csv": "loss"}}}],
    }
    project = make_project({"dvc.yaml": json.dumps({"stages": stages, **top})})
    first = project.mlp("run", "--json").document
    assert [stage["metrics"] for stage in first["stages"]] == [{"acc": 0.5}, {}]
    recorded = project.recorded()
    assert "plots/loss.csv" in recorded.artifacts(recorded.stage("train"))
    # In a clone without that directory, the other stages do not need it.
    shutil.rmtree(project.root / "live")
    shutil.rmtree(project.root / ".dvc" / "cache")
    done = project.mlp("run", "other", "--force", "--json")
    assert done.code == 0, done.err
    assert outcomes(done.document) == {"other": "ran"}


def test_force_runs_what_has_not_changed(make_project: Make) -> None:
    project = make_project({"dvc.yaml": single("prep", "cp params.yaml x", outs=["x"])})
    project.mlp("run")
    assert outcomes(project.mlp("run", "--force", "--json").document) == {"prep": "ran"}


def test_a_named_stage_runs_with_what_it_needs_only(project: Project) -> None:
    assert outcomes(project.mlp("run", "prep", "--json").document) == {"prep": "ran"}
    assert not (project.root / "model.txt").exists()


def test_a_failing_stage_ends_the_run_with_its_last_lines(make_project: Make) -> None:
    script = 'import sys\nprint("almost")\nsys.exit("no such column: age")\n'
    project = make_project({"prep.py": script})
    done = project.mlp("run", "--json")
    assert done.code == 6
    assert "stage 'prep' failed with exit code 1" in done.err
    assert done.err.count("no such column: age") == 2  # as it was printed, and as the cause
    assert "log.txt" in done.err
    assert outcomes(done.document) == {"prep": "failed"}
    recorded = project.recorded()
    assert [run.info.status for run in recorded.all] == ["FAILED", "FAILED"]
    stage = recorded.stage("prep")
    assert stage.data.tags[Tag.OUTCOME] == "failed"
    assert recorded.text(stage, "logs/log.txt") == "almost\nno such column: age\n"
    assert "mlp/provenance.json" in recorded.artifacts(recorded.pipelines[0])
    # And once it is fixed, the next run goes on from there.
    project.write(QUIET)
    assert outcomes(project.mlp("run", "--json").document) == {"prep": "ran", "train": "ran"}


def test_a_stage_that_dvc_gives_up_before_its_command_is_recorded_as_failed(
    make_project: Make,
) -> None:
    project = make_project({"dvc.yaml": single("prep", "true", deps=["absent.csv"])})
    done = project.mlp("run", "--json")
    assert done.code == 6
    assert "absent.csv" in done.err
    recorded = project.recorded()
    assert recorded.stage("prep").info.status == "FAILED"
    assert recorded.stage("prep").data.tags[Tag.OUTCOME] == "failed"


def test_a_stage_that_makes_no_output_fails_with_its_name(make_project: Make) -> None:
    project = make_project({"dvc.yaml": single("prep", "true", outs=["absent.csv"])})
    done = project.mlp("run", "--json")
    assert done.code == 6
    assert "absent.csv" in done.err
    assert project.recorded().stage("prep").data.tags[Tag.OUTCOME] == "failed"


def test_a_stage_of_several_commands_is_one_run(make_project: Make) -> None:
    commands = ["echo one > x", "echo two >> x", "cat x"]
    project = make_project(
        {"dvc.yaml": json.dumps({"stages": {"s": {"cmd": commands, "outs": ["x"]}}})}
    )
    assert project.mlp("run").code == 0
    recorded = project.recorded()
    assert len(recorded.all) == 2
    assert recorded.text(recorded.stage("s"), "logs/log.txt") == "one\ntwo\n"
    assert recorded.stage("s").info.status == "FINISHED"


def test_matrix_stages_and_those_of_other_files_have_runs_of_their_own(make_project: Make) -> None:
    project = make_project(
        {
            "dvc.yaml": json.dumps(
                {
                    "stages": {
                        "m": {
                            "matrix": {"x": ["a", "b"]},
                            "cmd": "echo ${item.x} > ${item.x}",
                            "outs": ["${item.x}"],
                        },
                        "all": {"cmd": "cat a sub/c", "deps": ["a", "sub/c"]},
                    }
                }
            ),
            "sub/dvc.yaml": single("c", "pwd && echo c > c", outs=["c"]),
        }
    )
    assert outcomes(project.mlp("run", "--json").document) == {
        "m@a": "ran",
        "m@b": "ran",
        "sub/dvc.yaml:c": "ran",
        "all": "ran",
    }
    recorded = project.recorded()
    log = recorded.text(recorded.stage("sub/dvc.yaml:c"), "logs/log.txt")
    assert log == f"{project.root}/sub\n"


def test_set_changes_params_keeps_comments_and_is_recorded(project: Project) -> None:
    done = project.mlp("run", "--set", "train.lr=0.5", "--set", "train.layers=[3]", "--json")
    assert done.code == 0
    assert (project.root / "params.yaml").read_text() == (
        "# What the stages read.\nn: 5\ntrain:\n  lr: 0.5  # the rate\n  layers: [3]\n"
    )
    assert {o["key"]: o["after"] for o in done.document["overrides"]} == {
        "train.lr": 0.5,
        "train.layers": [3],
    }
    recorded = project.recorded()
    pipeline = recorded.pipelines[0]
    provenance = json.loads(recorded.text(pipeline, "mlp/provenance.json"))
    assert provenance["overrides"] == ["train.lr=0.5", "train.layers=[3]"]
    assert pipeline.data.params["train.lr"] == "0.5"
    assert "+  lr: 0.5" in recorded.text(pipeline, "mlp/code.patch")


def test_a_param_that_is_not_there_changes_nothing(project: Project) -> None:
    done = project.mlp("run", "--set", "train.rl=1")
    assert done.code == 2
    assert "did you mean 'train.lr'?" in done.err
    assert project.tool("git", "status", "--short") == ""
    assert project.runs == []


def test_set_keeps_a_params_file_that_is_a_link(make_project: Make) -> None:
    project = make_project({"conf/params.yaml": "n: 1\n"}, commit=False)
    (project.root / "params.yaml").unlink()
    (project.root / "params.yaml").symlink_to("conf/params.yaml")
    project.commit()
    assert project.mlp("run", "prep", "--set", "n=2").code == 0
    assert (project.root / "params.yaml").is_symlink()
    assert (project.root / "conf/params.yaml").read_text() == "n: 2\n"


def test_a_dry_run_says_what_would_run_and_why_and_changes_nothing(project: Project) -> None:
    def files() -> dict[str, bytes]:
        paths = [p for p in project.root.rglob("*") if p.is_file()]
        ours = [p for p in paths if ".git/" not in str(p) and ".dvc/" not in str(p)]
        return {str(path): path.read_bytes() for path in ours}

    before = files()
    plan = project.mlp("run", "--dry-run", "--json", "--set", "n=7").document
    assert [(s["name"], s["runs"]) for s in plan["stages"]] == [("prep", True), ("train", True)]
    assert plan["overrides"] == [{"key": "n", "before": 5, "after": 7}]
    assert files() == before

    project.mlp("run")
    project.deliver()
    before = files()
    plan = project.mlp("run", "--dry-run", "--json").document
    assert [s["runs"] for s in plan["stages"]] == [False, False]
    plan = project.mlp("run", "--dry-run", "--json", "--set", "train.lr=9").document
    assert [(s["name"], s["runs"]) for s in plan["stages"]] == [("prep", False), ("train", True)]
    assert plan["stages"][1]["reasons"] == ["param train is modified (params.yaml)"]
    assert files() == before


def test_a_run_from_a_subdirectory_is_the_same(make_project: Make) -> None:
    project = make_project({"dvc.yaml": single("prep", "cp params.yaml x", outs=["x"])})
    folder = project.root / "src"
    folder.mkdir()
    assert project.mlp("run", cwd=folder).code == 0
    done = project.mlp("run", "prep", "--json", cwd=folder)
    assert outcomes(done.document) == {"prep": "cached"}
    recorded = project.recorded()
    assert recorded.stage("prep", 1).data.tags[Tag.CACHED_FROM]
    names = {i.dataset.name for i in recorded.stage("prep").inputs.dataset_inputs}
    assert names == {"x"}


@pytest.mark.parametrize(
    "arguments", [["run", "trian"], ["run", "trian", "--set", "n=9"], ["train", "trian"]]
)
def test_a_stage_that_is_not_there_is_a_usage_error_without_a_run(
    project: Project, arguments: list[str]
) -> None:
    done = project.mlp(*arguments)
    assert done.code == 2
    assert "trian" in done.err
    assert project.runs == []
    assert project.tool("git", "status", "--short") == ""


def test_train_runs_the_training_stage_and_what_it_needs(project: Project) -> None:
    done = project.mlp("train", "--json")
    assert outcomes(done.document) == {"prep": "ran", "train": "ran"}


def test_stdout_of_a_json_run_is_one_document(make_project: Make) -> None:
    project = make_project({"dvc.yaml": single("s", "echo to stdout; echo to stderr >&2")})
    done = project.mlp("run", "--json")
    assert json.loads(done.out)["status"] == "FINISHED"
    assert "to stdout" in done.err
    assert "to stderr" in done.err


def test_a_launch_of_no_stage_is_refused_before_anything_runs(make_project: Make) -> None:
    project = make_project({"mlp.yaml": "project: demo\nlaunch: {trian: {strategy: ddp}}\n"})
    done = project.mlp("run")
    assert done.code == 3
    assert "did you mean 'train'?" in done.err
    assert not project.runs
