"""`mlp runs reproduce` on real repositories: what it proves, and what it must not claim."""

import json
from pathlib import Path

import pytest

from tests.conftest import Make, Project, single

pytestmark = pytest.mark.slow

RANDOM = 'import json, random\njson.dump({"acc": random.random()}, open("m.json", "w"))\n'
NEARLY = 'import json, os\njson.dump({"acc": 0.5 + os.urandom(1)[0] * 1e-9}, open("m.json", "w"))\n'


def one_stage(make_project: Make, code: str) -> Project:
    yaml = single("score", "python score.py", deps=["score.py"], metrics=[{"m.json": {"cache": 0}}])
    return make_project(
        {"dvc.yaml": yaml.replace('"cache": 0', '"cache": false'), "score.py": code}
    )


def test_a_dirty_tree_with_new_files_is_reproduced_bit_for_bit(project: Project) -> None:
    project.write({"prep.py": 'open("data.csv", "w").write(open("new.txt").read())\n'})
    project.write({"new.txt": "x\r\n1\r\n\u00e9\n"})
    assert project.mlp("run", "--set", "train.lr=0.3", CI="1").code == 0
    project.tool("git", "stash", "--include-untracked")
    done = project.mlp("runs", "reproduce", "--json")
    assert done.code == 0, done.err
    result = done.document
    assert result["reproduced"]
    outputs = {i["name"]: i["match"] for i in result["items"] if i["kind"] == "output"}
    assert outputs == dict.fromkeys(["data.csv", "model.txt", "metrics.json", "loss.csv"], "same")
    recorded = project.recorded()
    assert recorded.pipelines[-1].data.tags["mlp.reproduces"] == result["run_id"]
    assert recorded.pipelines[-1].data.params["train.lr"] == "0.3"


def test_the_users_work_tree_and_branches_are_left_alone(project: Project) -> None:
    assert project.mlp("run", CI="1").code == 0
    project.write({"unrelated.txt": "mine"})
    before = project.tool("git", "status", "--porcelain", "--branch")
    assert project.mlp("runs", "reproduce").code == 0
    assert project.tool("git", "status", "--porcelain", "--branch") == before
    assert project.tool("git", "worktree", "list").count("\n") == 1
    assert project.tool("dvc", "status", "--json").strip() == "{}"


def test_imported_data_comes_from_the_cache_wherever_its_source_is(make_project: Make) -> None:
    stage = single("train", "cp raw.csv model.txt", deps=["raw.csv"], outs=["model.txt"])
    project = make_project({"dvc.yaml": stage, "../elsewhere/raw.csv": "x\n1\n"})
    project.tool("dvc", "import-url", "--quiet", "../elsewhere/raw.csv")
    project.commit()
    assert project.mlp("run", CI="1").code == 0
    done = project.mlp("runs", "reproduce", "--json")
    assert done.code == 0, done.err
    inputs = [item for item in done.document["items"] if item["kind"] == "input"]
    assert [(item["name"], item["match"]) for item in inputs] == [("raw.csv", "same")]


def test_a_metric_that_comes_out_otherwise_ends_with_4(make_project: Make) -> None:
    project = one_stage(make_project, RANDOM)
    assert project.mlp("run", CI="1").code == 0
    assert project.mlp("runs", "reproduce").code == 4


def test_a_tolerance_lets_last_digits_differ(make_project: Make) -> None:
    project = one_stage(make_project, NEARLY)
    assert project.mlp("run", CI="1").code == 0
    done = project.mlp("runs", "reproduce", "--tolerance", "1e-6")
    assert done.code == 0, done.out


def test_a_run_whose_commit_is_gone_is_refused_with_the_way_out(project: Project) -> None:
    project.tool("git", "checkout", "--quiet", "-b", "other")
    project.write({"extra.txt": "1"})
    project.commit("on another branch")
    assert project.mlp("run", CI="1").code == 0
    project.tool("git", "checkout", "--quiet", "--force", "main")
    project.tool("git", "branch", "-D", "other")
    project.tool("git", "reflog", "expire", "--expire=now", "--all")
    project.tool("git", "gc", "--quiet", "--prune=now")
    done = project.mlp("runs", "reproduce")
    assert done.code == 3
    assert "is not in this clone" in done.err
    assert "git fetch" in done.err


@pytest.mark.parametrize("keep", [True, False])
def test_the_work_tree_stays_only_when_it_is_asked_for(project: Project, keep: bool) -> None:
    assert project.mlp("run", CI="1").code == 0
    done = project.mlp("runs", "reproduce", "--json", *(["--keep"] if keep else []))
    assert done.code == 0
    assert (done.document["directory"] is not None) == keep
    assert project.tool("git", "worktree", "list").count("\n") == (2 if keep else 1)


def test_a_run_that_fails_this_time_leaves_its_work_tree_with_the_log(
    make_project: Make, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    stage = {"cmd": f"echo looked; test ! -e {away} && echo 1 > x", "outs": ["x"]}
    project = make_project({"dvc.yaml": json.dumps({"stages": {"s": stage}})})
    assert project.mlp("run", CI="1").code == 0
    away.touch()
    done = project.mlp("runs", "reproduce")
    assert done.code == 6
    told = done.err.rpartition("with its logs: ")[2].strip()
    (log,) = (project.root / told).glob(".mlp/runs/*/stages/*/log.txt")
    assert "looked" in log.read_text()
