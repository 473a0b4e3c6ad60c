"""Parts of the cluster that are lost while a stage trains there, which all its users notice."""

import os
import subprocess
import time

import pytest

from tests.cluster.conftest import MakeRemote
from tests.cluster.training import EPOCHS, STEPS, Training, assert_one_curve, make

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive, pytest.mark.fault]


def cluster_switch(*arguments: str) -> None:
    """Take a part of the cluster away, or bring it back."""
    command = os.environ["MLP_TEST_CLUSTER"].split()
    subprocess.run([*command, *arguments], check=True, capture_output=True)


def test_a_node_that_is_lost(make_remote: MakeRemote) -> None:
    project = make(make_remote)
    training = Training(project)
    training.await_step(12)
    node = project.namespace.pods(project.job())[0]["spec"]["nodeName"]
    number = node.rpartition("-")[2]
    cluster_switch("stop-node", number)
    try:
        training.finish()
    finally:
        cluster_switch("start-node", number)
    assert_one_curve(project)


def test_the_api_server_away_for_a_minute(make_remote: MakeRemote) -> None:
    project = make(make_remote)
    training = Training(project)
    training.await_step(12)
    cluster_switch("stop-api")
    try:
        time.sleep(60)  # the minute itself
    finally:
        cluster_switch("start-api")
    training.finish()
    assert "does not answer; the job goes on" in training.text
    shown = [line for line in training.text.splitlines() if line.startswith("step ")]
    assert len(shown) == len(set(shown)) == STEPS * EPOCHS, "each line once"
    assert_one_curve(project)
