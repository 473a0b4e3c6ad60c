"""`mlp build` with a real builder and registry; the image runs where everything is locked down."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import mlp
from mlp.adapters import wheel
from tests.cluster.conftest import Namespace
from tests.cluster.images import image_project

pytestmark = pytest.mark.cluster

SHOW = """
import getpass, json, os, sys
import dvc_s3, mlp.cli.main, pytorch_lightning, torch
from importlib.metadata import distributions
from mlp.adapters import wheel
print(json.dumps({
    "user": [os.getuid(), getpass.getuser(), os.path.expanduser("~")],
    "digest": wheel.running().digest,
    "compiled": os.path.exists(mlp.cli.main.__cached__) and os.path.exists(torch.__cached__),
    "packages": {d.name: d.version for d in distributions()},
    "files": sorted(os.listdir("/mlp")),
}))
"""


def _pod(name: str, image: str, *command: str) -> dict[str, Any]:
    locked = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "main", "image": image, "command": command, "securityContext": locked}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [container],
        },
    }


def test_a_locked_down_pod_runs_exactly_this_mlp(
    namespace: Namespace, environment_image: str
) -> None:
    namespace.apply(_pod("shows", environment_image, "python", "-c", SHOW))
    wait = "--for=jsonpath={.status.phase}=Succeeded"
    namespace.kubectl("wait", "pod/shows", wait, "--timeout=600s")
    shown = json.loads(namespace.kubectl("logs", "shows").splitlines()[-1])
    assert shown["user"] == [1000, "mlp", "/home/mlp"]
    assert shown["digest"] == wheel.running().digest
    assert shown["compiled"]
    assert shown["files"] == []
    assert "uv" not in shown["packages"]
    if "+cpu" in shown["packages"]["torch"]:
        assert not [name for name in shown["packages"] if name.startswith("nvidia")]


def test_the_second_build_finds_it_in_the_registry(tmp_path: Path, environment_image: str) -> None:
    made = image_project(tmp_path).build()
    assert made["image"] == environment_image
    assert made["reason"] == "the registry has it"


def test_another_mlp_changes_only_small_layers_at_the_end(
    tmp_path: Path, environment_image: str
) -> None:
    other = tmp_path / "src" / "mlp"
    shutil.copytree(Path(mlp.__file__).parent, other)
    other.joinpath("extra.py").write_text(f"NAME = {str(tmp_path)!r}\n")
    made = image_project(tmp_path / "project").build(PYTHONPATH=str(other.parent))
    before, after = _layers(environment_image), _layers(made["image"])
    changed = {layer: size for layer, size in after.items() if layer not in before}
    assert list(after)[-len(changed) :] == list(changed)
    assert 0 < sum(changed.values()) < 10_000_000 < sum(after.values())


def _layers(image: str) -> dict[str, int]:
    """The layers' sizes in the registry, in bytes, from the base on."""
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{image}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {layer["digest"]: layer["size"] for layer in json.loads(done.stdout)["layers"]}
