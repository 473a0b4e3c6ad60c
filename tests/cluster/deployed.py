"""A project whose model is deployed, and what is done with it."""

import json
import os
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from tests.cluster.conftest import Namespace
from tests.cluster.images import SOURCE
from tests.cluster.load import Load, Question, ask, load
from tests.cluster.test_security import kubeconfig_of
from tests.conftest import BIN, Done, Project

NODE = "127.0.0.1"


@dataclass
class Deployed:
    """A project whose model is deployed, and how it is asked."""

    project: Project
    namespace: Namespace
    client: MlflowClient
    # Also the name of its release.
    model: str

    def mlp(self, *arguments: str) -> Done:
        """What `mlp ARGUMENTS` did; it is to succeed."""
        done = self.project.mlp(*arguments)
        assert done.code == 0, (arguments, done.out, done.err)
        return done

    @property
    def port(self) -> int:
        """Of the Service, on every node."""
        return int(self.namespace.get("service", self.model)["spec"]["ports"][0]["nodePort"])

    def load(self, question: Question = ask) -> AbstractContextManager[Load]:
        """Requests without a break, see `load`."""
        return load(NODE, self.port, question)

    @property
    def pods(self) -> set[str]:
        """The names of its pods, those that are leaving too."""
        return {pod["metadata"]["name"] for pod in self.namespace.get("pods")["items"]}

    def mlflow(self, *arguments: str) -> str:
        """What `mlflow deployments ARGUMENTS` prints; it is to succeed."""
        command = [str(BIN / "mlflow"), "deployments", *arguments]
        # As the cluster's administrator: predicting goes through its API.
        environ = self.project.environ | {"KUBECONFIG": os.environ["KUBECONFIG"]}
        done = subprocess.run(
            command, cwd=self.project.root, env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def change(self, *path: str, **values: str) -> None:
        """Write keys into mlp.yaml."""
        text = (self.project.root / "mlp.yaml").read_text()
        inner = changed = json.loads(text)
        for key in path:
            inner = inner[key]
        inner.update(values)
        self.project.write({"mlp.yaml": json.dumps(changed)})

    def champion(self, version: str) -> None:
        """As somebody does it in MLflow's pages."""
        self.client.set_registered_model_alias(self.model, "champion", version)


def as_deployer(namespace: Namespace, place: Path) -> Path:
    """The kubeconfig of somebody who has the least role only."""
    namespace.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "mlp"}})
    namespace.kubectl("apply", f"--filename={SOURCE / 'docs' / 'role-deploy.yaml'}")
    return kubeconfig_of(namespace, "mlp", place)
