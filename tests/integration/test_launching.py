"""What is refused before a stage is launched anywhere, and what a stage on a target becomes."""

import json

import pytest
import yaml

from tests.conftest import Make, Project, single

CONFIG = {
    "project": "demo",
    "launch": {"train": {"target": "gpu", "nodes": 2, "strategy": "ddp"}},
    "targets": {
        "gpu": {
            "kind": "kubernetes",
            "namespace": "ml",
            "image": "registry.example.com/demo:1",
            "resources": {"gpu": 4},
        }
    },
}


@pytest.fixture
def remote(make_project: Make) -> Project:
    """A project whose training stage has a target; nothing of it is asked."""
    project = make_project(
        {
            "mlp.yaml": json.dumps(CONFIG),
            "dvc.yaml": single("train", "python train.py", deps=["train.py"], outs=["model.txt"]),
        }
    )
    project.tool("dvc", "remote", "add", "--default", "storage", "s3://bucket/data")
    return project


def manifests(project: Project, *arguments: str) -> list[dict[str, object]]:
    done = project.mlp("train", "--dry-run", *arguments)
    assert done.code == 0, done.err
    return list(yaml.safe_load_all(done.out))


def spec(manifest: object) -> dict[str, object]:
    assert isinstance(manifest, dict)
    return dict(json.loads(manifest["metadata"]["annotations"]["mlp/spec"]))


def test_several_nodes_need_a_target(project: Project) -> None:
    done = project.mlp("train", "--nodes", "2")
    assert done.code == 2
    assert "this machine is one" in done.err
    assert "--target" in done.err


def test_a_target_that_is_none_is_answered_with_those_that_are(remote: Project) -> None:
    done = remote.mlp("train", "--target", "gpuu")
    assert done.code == 2
    assert "(have: local, gpu)" in done.err
    assert "did you mean 'gpu'?" in done.err


def test_as_many_processes_as_gpus_unless_said_otherwise(remote: Project) -> None:
    job, service = manifests(remote)
    assert spec(job)["launch"]["processes_per_node"] == 4
    assert spec(job)["launch"]["nodes"] == 2
    assert service["kind"] == "Service"
    job, _ = manifests(remote, "--gpus", "2")
    assert spec(job)["launch"]["processes_per_node"] == 2
    assert "nvidia.com/gpu: '2'" in yaml.safe_dump(job)
    job, _ = manifests(remote, "--processes", "1")
    assert spec(job)["launch"]["processes_per_node"] == 1
    assert "nvidia.com/gpu: '4'" in yaml.safe_dump(job)


def test_several_processes_are_planned_as_ddp_whatever_the_templates_section_says(
    remote: Project,
) -> None:
    section = {"target": "gpu", "strategy": "single", "gpus": 0}
    remote.write({"mlp.yaml": json.dumps({**CONFIG, "launch": {"train": section}})})
    for arguments, gang in (
        (["--processes", "2"], "1 nodes x 2 processes, ddp"),
        (["--nodes", "2"], "2 nodes x 1 processes, ddp"),
    ):
        assert spec(manifests(remote, *arguments)[0])["launch"]["strategy"] == "ddp"
        assert gang in remote.mlp("train", "--dry-run", *arguments).out
    assert spec(manifests(remote)[0])["launch"]["strategy"] == "single"


def test_a_strategy_for_one_process_is_refused_for_several(remote: Project) -> None:
    done = remote.mlp("train", "--dry-run", "--strategy", "single")
    assert done.code == 2
    assert "train is launched on 2 node(s)" in done.err
    alone = manifests(remote, "--strategy", "single", "--nodes", "1", "--processes", "1")
    assert spec(alone[0])["launch"]["strategy"] == "single"


def test_what_mlp_yaml_has_of_a_matrix_holds_for_each_of_its_stages_on_a_target(
    remote: Project,
) -> None:
    stage = {"matrix": {"seed": [1]}, "cmd": "python train.py ${item.seed}", "deps": ["train.py"]}
    remote.write({"dvc.yaml": json.dumps({"stages": {"train": stage}})})
    done = remote.mlp("run", "--target", "gpu", "--dry-run")
    assert done.code == 0, done.err
    assert "on gpu: 2 nodes x 4 processes, ddp" in done.out


def test_the_same_work_is_the_same_job_and_other_work_another(remote: Project) -> None:
    def name(*arguments: str) -> object:
        return spec(manifests(remote, *arguments)[0])["name"]

    first = name()
    assert first == name()
    assert name("--nodes", "3") != first
    remote.write({"train.py": "print('other')\n"})
    assert name() != first


def test_without_a_remote_that_pods_reach_it_says_so(remote: Project) -> None:
    remote.tool("dvc", "remote", "modify", "storage", "url", str(remote.root.parent / "files"))
    done = remote.mlp("train", "--dry-run")
    assert "a directory of this machine" in done.out
    assert "dvc remote add --default" in done.out


def test_local_wins_over_the_target_of_mlp_yaml(remote: Project) -> None:
    remote.write({"train.py": "open('model.txt', 'w').write('made here')\n"})
    done = remote.mlp("train", "--target", "local")
    assert done.code == 0, done.err
    assert (remote.root / "model.txt").exists()
