"""A model in production on a cluster, with all that a team has: a log on S3, journals on a volume,
a token, an autoscaler. A second version of it goes its way to champion by itself."""

import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlp.core import assets
from tests.cluster import servers
from tests.cluster.conftest import KEPT, Namespace, await_
from tests.cluster.deployed import NODE, Deployed, as_deployer
from tests.cluster.images import build_section
from tests.cluster.load import Asked, post
from tests.conftest import Project, isolated

pytestmark = pytest.mark.cluster

# Its own: the tests share one MLflow server.
MODEL = "answers"
PASSWORD = "correct-horse-battery"
TOKEN = "a-token-of-the-tests"

# A model that is right in a stated share of cases.
ANSWER_PY = """\
import mlflow


class Answer(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.right = context.model_config["right"]

    def predict(self, context, model_input, params=None):
        return (model_input["truth"] == (model_input["noise"] < self.right)).astype(int)


mlflow.models.set_model(Answer())
"""
TRAIN_PY = """\
import json
import mlflow
import pandas as pd
import yaml

right = yaml.safe_load(open("params.yaml"))["right"]
table = pd.read_csv("data.csv")
mlflow.pyfunc.log_model(
    name="model",
    python_model="answer.py",
    model_config={"right": right},
    input_example=table[:2],
    pip_requirements=["mlflow", "pandas"],
)
json.dump({"accuracy": right}, open("metrics.json", "w"))
"""
DVC_YAML = """\
stages:
  train:
    cmd: python train.py
    deps: [train.py, answer.py, data.csv]
    params: [right]
    metrics:
    - metrics.json: {cache: false}
"""


@pytest.fixture(scope="module")
def released(
    namespace: Namespace,
    bucket: str,
    environment_image: str,
    mlflow_server: servers.MlflowServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployed]:
    """Two versions from two runs: 1, right in 0.7 of the cases, is champion; 2, right in 0.9, is
    challenger. Nothing is deployed yet."""
    root = tmp_path_factory.mktemp("released")
    with servers.postgres(PASSWORD) as state:
        environ = isolated(root / "home") | {k: os.environ[k] for k in KEPT if k in os.environ}
        environ |= {"MLP_STATE": state, "AWS_DEFAULT_REGION": "us-east-1"}
        project = Project(root / "project", environ)
        project.root.mkdir()
        project.tool("git", "init", "--quiet")
        project.tool("dvc", "init", "--quiet")
        data = "truth,noise\n0,0.5\n1,0.5\n"
        config = json.dumps(settings(namespace, bucket, environment_image, mlflow_server))
        project.write({"answer.py": ANSWER_PY, "train.py": TRAIN_PY, "dvc.yaml": DVC_YAML})
        project.write({"mlp.yaml": config, "data.csv": data, "params.yaml": "right: 0.7\n"})
        project.commit()
        in_namespace(namespace, state)
        made = Deployed(project, namespace, project.client(mlflow_server.uri), MODEL)
        for version, right, alias in (("1", 0.7, "champion"), ("2", 0.9, "challenger")):
            made.mlp("run", "--set", f"right={right}")
            assert made.mlp("models", "register", "--json").document["version"] == version
            made.mlp("models", "promote", version, "--to", alias)
        project.environ["KUBECONFIG"] = str(as_deployer(namespace, root))
        yield made
        project.mlp("deploy", "remove", "--target", "prod")


def in_namespace(namespace: Namespace, state: str) -> None:
    """The Secrets and the volume claim that the project names."""
    secrets: Mapping[str, Mapping[str, str]] = {
        "s3": {k: os.environ[k] for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
        "state": {"MLP_STATE": state},
        "token": {"SCORING_TOKEN": TOKEN},
    }
    for name, keys in secrets.items():
        literals = [f"--from-literal={key}={value}" for key, value in keys.items()]
        namespace.kubectl("create", "secret", "generic", name, *literals)
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "journals"},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
    )


def settings(
    namespace: Namespace, bucket: str, image: str, mlflow_server: servers.MlflowServer
) -> dict[str, Any]:
    """What mlp.yaml says."""
    target = {
        "kind": "kubernetes",
        "namespace": namespace.name,
        "image": image,
        "build": build_section(),
        "secrets": ["s3"],
        "env": {
            "OMP_NUM_THREADS": "1",
            "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    }
    return {
        "project": "demo",
        "tracking": {"uri": mlflow_server.uri, "experiment": namespace.name},
        "model": {"name": MODEL, "primary": {"metric": "accuracy"}},
        "serve": {
            "log": f"s3://{bucket}/{namespace.name}",
            "rotate": 2,
            "token_env": "SCORING_TOKEN",
            "challenger_memory": "1Gi",
            # Servers, cluster, MLflow and clients share two cores: slowness is another test's.
            "max_latency_ms": 5000,
        },
        "ab": {"min_samples": 200},
        "targets": {"prod": target},
        "deploy": {
            "service": "NodePort",
            "state_secret": "state",
            "token_secret": "token",
            "journal": "journals",
            "autoscale": {"min": 2, "max": 3, "cpu": 40},
            "resources": {"cpu": "100m", "memory": "512Mi"},
        },
    }


def question(connection: http.client.HTTPConnection, key: str) -> Asked:
    """A row whose answer is known, and then what it is: a prediction with its label."""
    rows = random.Random(key)
    truth, noise = rows.randrange(2), rows.random()
    body = json.dumps({"dataframe_records": [{"truth": truth, "noise": noise}]}).encode()
    token = {"Authorization": f"Bearer {TOKEN}"}
    headers = {"X-Route-Key": key, "X-Request-Id": key, **token}
    answer, said = post(connection, "/invocations", body, headers)
    if answer.status != 200:
        return Asked(time.monotonic(), "", f"{answer.status}: {said[:200]!r}")
    version = answer.headers["X-Model-Version"]
    label = json.dumps({"request_id": key, "label": truth}).encode()
    told, said = post(connection, "/feedback", label, token)
    problem = "" if told.status == 200 else f"{told.status}: {said[:200]!r}"
    return Asked(time.monotonic(), "" if problem else version, problem, key)


def test_mlflows_command_line_deploys_the_champion_behind_a_token(released: Deployed) -> None:
    model = f"models:/{MODEL}@champion"
    made = ("-t", "mlp", "-m", model, "--name", MODEL, "-C", "target=prod")
    assert f"{MODEL} is created" in released.mlflow("create", *made)
    connection = http.client.HTTPConnection(NODE, released.port, timeout=30)
    refused, _ = post(connection, "/invocations", b"{}", {})
    assert refused.status == 401
    assert question(connection, "first").version == "1"


class Rollout:
    """`mlp deploy rollout` as a process, and the lines that it has said so far."""

    def __init__(self, project: Project) -> None:
        command = ("deploy", "rollout", "--steps", "50,100", "--step-time", "5s", "--only-better")
        self.process = project.start(*command)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line.decode())

    def said(self, words: str) -> bool:
        return any(words in line for line in self.lines)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.end()

    def end(self) -> int:
        """Its exit code, once it has one."""
        self.process.stdout.read()
        self._reader.join()
        return int(self.process.wait())


def test_a_rollout_ends_with_a_new_champion_whatever_happens_on_the_way(
    released: Deployed, mlflow_server: servers.MlflowServer
) -> None:
    with released.load(question) as asked:
        first = Rollout(released.project)
        await_(lambda: first.said("gets 50%"), "the first step")
        first.kill()
        await_(lambda: asked.versions["2"] > 20, "the challenger's answers")
        mlflow_server.stop()
        second = Rollout(released.project)
        await_(lambda: second.said("nothing changes while this lasts"), "word of the registry")
        answered = len(asked.asked)
        await_(lambda: len(asked.asked) > answered + 200, "answers without a registry")
        mlflow_server.start()
        assert second.end() == 0, "".join(second.lines)
        await_(lambda: {each.version for each in asked.asked[-100:]} == {"2"}, "one champion")
        await_(lambda: released.namespace.get("hpa", MODEL)["status"]["desiredReplicas"] == 3, "3")
    assert asked.failed == []
    entries = released.mlp("models", "history", "--json").document["entries"]
    moves = [(each["action"], each["version"]) for each in entries if each["action"] != "intended"]
    assert moves[-3:] == [("shared", "2"), ("shared", "2"), ("promoted", "2")]
    assert "better" in entries[-1]["reason"]
    print(f"rollout: {len(asked.asked)} requests with labels, none failed")
    acknowledged = {each.request_id for each in asked.asked}
    await_(lambda: logged(released) >= acknowledged, "every answer, with its label, on S3")


def logged(released: Deployed) -> set[str]:
    """The ids of the requests whose predictions and labels are in the log."""
    asked = "SELECT DISTINCT request_id FROM labelled WHERE label IS NOT NULL"
    shown = released.mlp("predictions", "query", asked, "-n", "100000", "--json").document
    return {row["request_id"] for row in shown["rows"]}


def test_a_deployment_keeps_the_pods_that_the_autoscaler_added(released: Deployed) -> None:
    before = released.pods
    released.change("targets", "prod", "env", COLOUR="blue")
    released.mlflow("update", "-t", "mlp", "--name", MODEL)
    deployment = released.namespace.get("deployment", MODEL)
    assert deployment["spec"]["replicas"] == 3
    await_(lambda: not before & released.pods, "the old pods' end")


def test_a_deployment_that_was_killed_is_mended_as_the_next_one_says(
    released: Deployed, tmp_path: Path
) -> None:
    planned = released.mlp("deploy", "--dry-run", "--json").document
    planned["values"]["server"]["state"]["secret"] = "not-there"
    values = tmp_path / "values.json"
    values.write_text(json.dumps(planned["values"]))
    namespace = f"--namespace={released.namespace.name}"
    upgrade = ["helm", "upgrade", MODEL, str(assets.chart()), f"--values={values}", namespace]
    helm = subprocess.Popen([*upgrade, "--wait"], start_new_session=True)
    status = ["helm", "status", MODEL, namespace, "--output=json"]
    await_(lambda: b"pending-upgrade" in subprocess.check_output(status), "a pending release")
    os.killpg(helm.pid, signal.SIGKILL)
    helm.wait()
    refused = released.project.mlp("deploy")
    assert refused.code == 5, refused.err
    [correct] = [part for part in refused.err.split("`") if part.startswith("helm rollback")]
    subprocess.run(correct.split(), env=released.project.environ, check=True, capture_output=True)
    assert released.mlp("deploy", "--wait", "--json").document["ready"] >= 2


def test_mlflows_command_line_removes_it(released: Deployed) -> None:
    released.mlflow("delete", "-t", "mlp", "--name", MODEL)
    await_(lambda: not released.namespace.get("deployments,pods")["items"], "an empty namespace")
