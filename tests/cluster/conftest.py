"""A real cluster for the tests: the one that KUBECONFIG names."""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlp.adapters.cluster import Cluster
from tests.cluster import servers
from tests.cluster.images import environment_image
from tests.conftest import FILES, Project, isolated

__all__ = ["environment_image"]

# In so many days all faults have had their turn.
FAULT_DAYS = 3


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the faults of other days, where MLP_TEST_DAY says which day it is."""
    day = os.environ.get("MLP_TEST_DAY")
    if not day:
        return
    faults = sorted((i for i in items if i.get_closest_marker("fault")), key=lambda i: i.nodeid)
    others = {fault for n, fault in enumerate(faults) if (n - int(day)) % FAULT_DAYS}
    config.hook.pytest_deselected(items=[*others])
    items[:] = [item for item in items if item not in others]


# From the label on, the cluster refuses every pod that is not locked down.
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
PATIENCE_S = 600.0  # where servers, cluster and clients share a slow machine


@dataclass(frozen=True)
class Namespace:
    """A namespace that the tests made, and kubectl in it."""

    name: str

    @property
    def cluster(self) -> Cluster:
        return Cluster(None, self.name)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints; it is to succeed."""
        command = ["kubectl", "--namespace", self.name, *arguments]
        done = subprocess.run(command, input=stdin.encode(), capture_output=True)
        assert done.returncode == 0, (command, done.stderr.decode())
        return done.stdout.decode()

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def apply(self, *manifests: Any) -> None:
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(manifests))

    def pods(self, job: str) -> list[Any]:
        """The pods of a job, the oldest first."""
        found = self.get("pods", f"--selector=batch.kubernetes.io/job-name={job}")["items"]
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def jobs(self) -> list[str]:
        return [job["metadata"]["name"] for job in self.get("jobs")["items"]]


def await_(condition: Callable[[], Any], what: str, patience: float = PATIENCE_S) -> Any:
    """The first true answer of `condition`, asked until it comes."""
    until = time.monotonic() + patience
    while not (answer := condition()):
        assert time.monotonic() < until, f"{what} did not happen in {patience} s"
        time.sleep(0.25)
    return answer


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    """A namespace of its own for the tests of a module, restricted, removed afterwards."""
    assert "KUBECONFIG" in os.environ, "these tests need a cluster: set KUBECONFIG"
    made = Namespace(f"mlp-{uuid.uuid4().hex[:8]}")
    made.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": made.name, "labels": RESTRICTED},
        }
    )
    yield made
    # A namespace that goes while its Jobs have pods is Terminating for ever: nobody is left to
    # take the Job's finalizer off the pods.
    made.kubectl("delete", "jobs", "--all", "--cascade=foreground")
    made.kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """An S3 bucket; the keys to it are in the AWS variables."""
    made = servers.make_bucket()
    yield made
    servers.remove_bucket(made)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.MlflowServer]:
    """MLflow on PostgreSQL, as a team has it; this machine and the pods reach it alike."""
    folder = tmp_path_factory.mktemp("mlflow")
    with servers.postgres() as store:
        server = servers.MlflowServer(store, folder, servers.free_port())
        server.start()
        yield server
        server.stop()


@dataclass
class RemoteProject(Project):
    """A project with a target `gpu` in a namespace."""

    namespace: Namespace = None  # type: ignore[assignment]

    def job(self) -> str:
        """The only job of the namespace, once it is there."""
        found: list[str] = await_(self.namespace.jobs, "a job")
        assert len(found) == 1, found
        return found[0]

    def clone(self, root: Path) -> "RemoteProject":
        """Another person's clone of the repository, on another machine."""
        self.tool("git", "clone", "--quiet", str(self.root), str(root))
        return RemoteProject(root, {**self.environ}, namespace=self.namespace)


MakeRemote = Callable[..., RemoteProject]
KEPT = ("KUBECONFIG", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def target(namespace: Namespace, image: str, **more: Any) -> dict[str, Any]:
    """A section of `targets` that works in the tests' cluster."""
    return {
        "kind": "kubernetes",
        "namespace": namespace.name,
        "image": image,
        "resources": {"cpu": "500m", "memory": "1Gi"},
        "secrets": ["s3"],
        "node_lost_after": "10s",
        "grace": "20s",
        **more,
    }


@pytest.fixture
def make_remote(
    namespace: Namespace,
    bucket: str,
    environment_image: str,
    mlflow_server: servers.MlflowServer,
    tmp_path: Path,
) -> Iterator[MakeRemote]:
    """Make a project whose stages can run in the cluster; `files` beside the usual ones, `more`
    in its target. Its jobs are gone when the test ends."""

    def make(files: Mapping[str, str] | None = None, **more: Any) -> RemoteProject:
        environ = isolated(tmp_path / "home") | {k: os.environ[k] for k in KEPT}
        environ["AWS_DEFAULT_REGION"] = "us-east-1"
        project = RemoteProject(tmp_path / "project", environ, namespace=namespace)
        project.root.mkdir()
        project.tool("git", "init", "--quiet", "--initial-branch=main")
        project.tool("dvc", "init", "--quiet")
        remote = f"s3://{bucket}/{uuid.uuid4().hex[:8]}"
        project.tool("dvc", "remote", "add", "--default", "storage", remote)
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        project.tool("dvc", "remote", "modify", "storage", "endpointurl", endpoint)
        config = {
            "project": "demo",
            "tracking": {"uri": mlflow_server.uri, "experiment": tmp_path.name},
            "targets": {"gpu": target(namespace, environment_image, **more)},
        }
        project.write({**FILES, "mlp.yaml": json.dumps(config), **(files or {})})
        project.commit("the project")
        return project

    keys = {k: os.environ[k] for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s3"},
        "stringData": {**keys, "AWS_DEFAULT_REGION": "us-east-1"},
    }
    namespace.apply(secret)
    yield make
    namespace.kubectl("delete", "jobs", "--all", "--cascade=foreground")
