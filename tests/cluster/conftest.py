"""A real cluster for the tests: the one that KUBECONFIG names."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from mlp.adapters.cluster import Cluster

# From the label on, the cluster refuses every pod that is not locked down.
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


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
    made.kubectl("delete", "namespace", made.name, "--wait=false")
