"""A server that takes connections and never answers: the command says what it waits for."""

import json
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.conftest import Make

pytestmark = pytest.mark.slow


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


TARGET = "targets: {gpu: {kind: kubernetes, namespace: default, image: x/y:1}}\n"


@pytest.mark.parametrize(
    ("command", "what"),
    [("runs list", "MLflow at"), ("jobs list", "the cluster at"), ("run --pull", "the DVC remote")],
)
def test_a_command_that_gets_no_answer_says_whom_it_asks(
    make_project: Make, silent: str, command: str, what: str
) -> None:
    cluster = {"clusters": [{"name": "c", "cluster": {"server": silent}}], "current-context": "x"}
    cluster["contexts"] = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
    cluster["users"] = [{"name": "u", "user": {}}]
    remote = f"['remote \"s\"']\nurl = s3://b/x\nendpointurl = {silent}\n[core]\nremote = s\n"
    project = make_project(
        {
            "mlp.yaml": f"project: demo\ntracking: {{uri: '{silent}'}}\n{TARGET}",
            "kubeconfig": json.dumps(cluster),
            ".dvc/config": remote,
        }
    )
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "here"}
    process = project.start(*command.split(), KUBECONFIG=f"{project.root}/kubeconfig", **keys)
    first = process.stderr.readline().decode()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    project.stop_recorders()
    assert first.startswith(f"waiting for {what}")
