"""A place in the cluster that KUBECONFIG names, for what is measured there.

The image, registry and S3 server are those of the tests (`tests/cluster`), and come from the same
variables.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import turns
import yaml

ROOT = Path(__file__).parent.parent
MLP = str(Path(sys.executable).parent / "mlp")
_GIT = ("git", "-c", "user.name=bench", "-c", "user.email=bench@localhost")
_SECRET = "s3"
_JOBS = "/apis/batch/v1"


@dataclass(frozen=True)
class Place:
    """A namespace with the keys of a bucket, an image to run, and a directory here."""

    namespace: str
    bucket: str
    image: str
    folder: Path

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints. Raises SystemExit where it fails."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{command} failed:\n{done.stderr}")
        return done.stdout

    def remove_jobs(self) -> None:
        """Delete all jobs of the namespace and wait until they and their pods are gone."""
        self.kubectl("delete", "jobs", "--all", "--cascade=foreground", "--wait=true")

    def project(
        self,
        name: str,
        stages: Mapping[str, Any],
        *,
        files: Mapping[str, str] | None = None,
        launch: Mapping[str, Any] | None = None,
        tracking_uri: str | None = None,
        **target: Any,
    ) -> Path:
        """A repository with these stages and a target `gpu`; `target` is more of its section."""
        directory = self.folder / name
        directory.mkdir()
        section = {
            "kind": "kubernetes",
            "namespace": self.namespace,
            "image": self.image,
            "secrets": [_SECRET],
            **target,
        }
        config: dict[str, Any] = {"project": name, "targets": {"gpu": section}}
        if launch:
            config["launch"] = launch
        if tracking_uri:
            config["tracking"] = {"uri": tracking_uri}
        written = {
            "mlp.yaml": yaml.safe_dump(config),
            "dvc.yaml": yaml.safe_dump({"stages": stages}),
            **(files or {}),
        }
        for file, text in written.items():
            (directory / file).write_text(text, encoding="utf-8")
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        dvc = [sys.executable, "-m", "dvc"]
        remote = f"s3://{self.bucket}/{name}"
        for command in (
            [*_GIT, "init", "--quiet"],
            [*dvc, "init", "--quiet"],
            [*dvc, "remote", "add", "--quiet", "--default", "storage", remote],
            [*dvc, "remote", "modify", "--quiet", "storage", "endpointurl", endpoint],
        ):
            subprocess.run(command, cwd=directory, env=turns.environment(), check=True)
        commit(directory)
        return directory


def commit(directory: Path) -> None:
    """Commit all that is in a project."""
    for command in ([*_GIT, "add", "--all"], [*_GIT, "commit", "--quiet", "--message", "bench"]):
        subprocess.run(command, cwd=directory, env=turns.environment(), check=True)


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Namespace, bucket and image; namespace and bucket are gone afterwards."""
    if "KUBECONFIG" not in os.environ:
        raise SystemExit("this benchmark needs a cluster: set KUBECONFIG (see tests/cluster)")
    sys.path.insert(0, str(ROOT))
    from tests.cluster import images, servers

    name = f"mlp-bench-{uuid.uuid4().hex[:8]}"
    bucket = servers.make_bucket()
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as folder:
        top = Path(folder)
        image = os.environ.get("MLP_BENCH_IMAGE")
        if image is None:
            image = str(images.image_project(top / "image").build()["image"])
        made = Place(name, bucket, image, top)
        made.kubectl("create", "namespace", name)
        try:
            made.kubectl("apply", "--filename=-", stdin=json.dumps(_keys()))
            yield made
        finally:
            made.kubectl("delete", "namespace", name, "--wait=false")
            servers.remove_bucket(bucket)


def _keys() -> dict[str, Any]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _SECRET},
        "stringData": {n: os.environ[n] for n in names} | {"AWS_DEFAULT_REGION": "us-east-1"},
    }


def mlp(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call mlp in a project. Raises SystemExit, with what it printed, where it fails."""
    done = subprocess.run(
        [MLP, *arguments],
        cwd=directory,
        env=turns.environment(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"mlp {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done


def planned(directory: Path, *arguments: str) -> list[dict[str, Any]]:
    """The manifests that `mlp train ARGUMENTS` would make."""
    text = mlp(directory, "train", *arguments, "--dry-run").stdout
    return [document for document in yaml.safe_load_all(text) if document]


class Arrivals:
    """When which event of a namespace's Jobs came from the API server, by our own clock."""

    def __init__(self, namespace: str) -> None:
        from mlp.adapters.cluster import Cluster

        self._cluster = Cluster(None, namespace)
        self._path = self._cluster.path("jobs", api=_JOBS)
        self._seen: list[tuple[float, dict[str, Any]]] = []
        self._more = threading.Condition()
        listed = self._cluster.get(self._path)
        self._version = listed["metadata"]["resourceVersion"]
        threading.Thread(target=self._watch, daemon=True).start()

    def wait(
        self,
        true: Callable[[dict[str, Any]], bool],
        after: float = 0.0,
        patience: float = 120.0,
    ) -> tuple[float, dict[str, Any]]:
        """Time (of `time.monotonic`) and the event, the first after `after` that is `true`."""
        until = time.monotonic() + patience
        with self._more:
            while True:
                for at, event in self._seen:
                    if at >= after and true(event):
                        return at, event
                left = until - time.monotonic()
                if left <= 0:
                    raise SystemExit(f"no such event of a Job came in {patience:g} s")
                self._more.wait(left)

    def _watch(self) -> None:
        query = {"resourceVersion": self._version, "timeoutSeconds": 3600}
        for event in self._cluster.watch(self._path, 3600.0, **query):
            with self._more:
                self._seen.append((time.monotonic(), event))
                self._more.notify_all()


def added(event: Mapping[str, Any]) -> bool:
    """Whether a Job was created."""
    return bool(event["type"] == "ADDED")


def completed(event: Mapping[str, Any]) -> bool:
    """Whether a Job is complete."""
    conditions: Sequence[Mapping[str, Any]] = (
        event["object"].get("status", {}).get("conditions", ())
    )
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)
