"""`mlp models package`: the image runs where everything is locked down, the folder by itself."""

import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlp.adapters import images
from mlp.core.launch.image import reference
from tests.cluster.conftest import Namespace, await_
from tests.cluster.images import SOURCE, build_section
from tests.cluster.servers import free_port
from tests.conftest import BIN, Done
from tests.integration import model_store
from tests.integration.model_store import Store

pytestmark = pytest.mark.cluster

NODE = "127.0.0.1"
PORT = 8080
GRACE_S = 30
HEADERS = {"Content-Type": "application/json"}
# The model says whether the sum of the two is positive.
ROWS = [(-2.0, -3.0), (2.0, 3.0), (-1.0, 3.0), (1.0, -2.0)]
ANSWER = {"predictions": [0, 1, 1, 0]}


@dataclass(frozen=True)
class Packaged:
    """Two versions of a model; the first is packaged as a folder and as an image."""

    store: Store
    folder: Path
    image: str

    def package(self, version: str, folder: Path, image: str, *more: str) -> Done:
        """What `mlp models package --image` did, with the builder's flags of this machine."""
        section = build_section()
        base = ["--base", section["base"]] if "base" in section else []
        command = [f"{BIN}/mlp", *("models", "package", version), "--to", f"{folder}"]
        command += ["--image", image, "--json", *base, *more, "--", *section["flags"]]
        # With the whole environment: builders find their store and their network in it.
        done = subprocess.run(command, cwd=self.store.root, capture_output=True, text=True)
        assert "this is a bug" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def push(self, image: str) -> None:
        flags = build_section()["push_flags"]
        images.builder().push(image, flags, print)
        assert images.published(image, reference(image), flags)


@pytest.fixture(scope="module")
def packaged(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    assert "MLP_TEST_REGISTRY" in os.environ, "these tests push an image: set MLP_TEST_REGISTRY"
    root = tmp_path_factory.mktemp("package")
    store = model_store.make(shared, root / "project")
    needs = ["mlflow", "scikit-learn", f"-c {SOURCE / 'requirements' / 'lock.txt'}"]
    for flip in (False, True):
        name = f"flip-{flip}"
        store.register(model_store.save(root / name, flip=flip, pip_requirements=needs))
    image = f"{os.environ['MLP_TEST_REGISTRY']}/mlp-package:{uuid.uuid4().hex[:8]}"
    made = Packaged(store, root / "packaged", image)
    done = made.package("1", made.folder, image)
    assert done.code == 0, done.err
    assert done.document["image"] == image
    made.push(image)
    return made


def test_the_image_answers_in_a_locked_down_pod_and_ends_when_told(
    namespace: Namespace, packaged: Packaged
) -> None:
    namespace.apply(*pod(packaged.image))
    namespace.kubectl("wait", "pod/packaged", "--for=condition=Ready", "--timeout=600s")
    port = namespace.get("service", "packaged")["spec"]["ports"][0]["nodePort"]
    assert ask(port, "GET", "/ping")[0] == 200
    assert invoke(port) == (200, ANSWER)
    assert invoke(port, columns=["a", "x"])[0] == 400
    started = time.monotonic()
    namespace.kubectl("delete", "pod", "packaged")
    assert time.monotonic() - started < GRACE_S / 2


def test_the_folder_answers_with_a_python_that_has_its_requirements_only(
    packaged: Packaged, tmp_path: Path
) -> None:
    python = tmp_path / "env" / "bin" / "python"
    needs = ["-r", str(packaged.folder / "requirements.txt")]
    for command in (
        ["venv", str(tmp_path / "env")],
        ["pip", "install", "--python", python, *needs],
    ):
        subprocess.run([BIN / "uv", *command], check=True, capture_output=True, cwd=tmp_path)
    port = free_port()
    variables = {"PATH": "/usr/bin:/bin", "PYTHON": str(python), "PORT": str(port), "HOST": NODE}
    with subprocess.Popen(
        [packaged.folder / "serve"], env=variables, cwd="/", stderr=subprocess.PIPE
    ) as serving:
        try:
            await_(lambda: reached(port) or serving.poll() is not None, "an answer")
            assert invoke(port) == (200, ANSWER)
        finally:
            serving.terminate()
        assert serving.wait(GRACE_S / 2) in (0, -signal.SIGTERM)


def test_another_version_with_the_same_requirements_adds_only_its_own_files(
    packaged: Packaged, tmp_path: Path
) -> None:
    image = f"{packaged.image}-2"
    assert packaged.package("2", tmp_path / "p", image).code == 0
    packaged.push(image)
    before, after = layers(packaged.image), layers(image)
    changed = [layer for layer in after if layer not in before]
    assert list(after)[-len(changed) :] == changed
    assert 0 < sum(after[layer] for layer in changed) < 1_000_000 < sum(after.values())


def test_an_image_that_cannot_be_built_leaves_the_folder_and_says_so(
    packaged: Packaged, tmp_path: Path
) -> None:
    base = f"{os.environ['MLP_TEST_REGISTRY']}/mlp-package:nobody-made-this"
    done = packaged.package("1", tmp_path / "p", f"{packaged.image}-3", "--base", base)
    assert done.code == 3
    assert f"its folder is made: {tmp_path / 'p'}" in done.err
    assert "nobody-made-this" in done.err and "--base" in done.err
    # What it says to do does it, once that is fixed.
    file = tmp_path / "p" / "Containerfile"
    file.write_text(file.read_text().replace(f"FROM {base}", f"FROM {packaged.image}"))
    command = re.search(r"then: (.*)$", done.err, re.MULTILINE)
    assert command
    subprocess.run(shlex.split(command[1]), check=True, capture_output=True)


def pod(image: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pod that may do nothing but compute and write in /tmp, and its Service."""
    locked = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "main",
        "image": image,
        "securityContext": locked,
        "readinessProbe": {"httpGet": {"path": "/ping", "port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    name = {"name": "packaged", "labels": {"app": "packaged"}}
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    service = {"type": "NodePort", "selector": name["labels"], "ports": [{"port": PORT}]}
    return (
        {"apiVersion": "v1", "kind": "Pod", "metadata": name, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": name, "spec": service},
    )


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(NODE, port, timeout=30)
    try:
        connection.request(method, path, body, HEADERS)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def invoke(port: int, columns: list[str] | None = None) -> tuple[int, Any]:
    split = {"columns": columns or ["a", "b"], "data": ROWS}
    status, body = ask(port, "POST", "/invocations", json.dumps({"dataframe_split": split}))
    return status, json.loads(body)


def reached(port: int) -> bool:
    try:
        return ask(port, "GET", "/ping")[0] == 200
    except OSError:
        return False


def layers(image: str) -> dict[str, int]:
    """The layers' sizes in the registry, in bytes, from the base on."""
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{image}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {layer["digest"]: layer["size"] for layer in json.loads(done.stdout)["layers"]}
