"""`mlp serve` and the challenger's share, from the command line."""

import json
import signal
import socket

import httpx
import pytest

from tests.conftest import Make, Project
from tests.integration.served import MODEL, World, until

pytestmark = pytest.mark.slow

MLP_YAML = f"""\
project: demo
state: sqlite:///state.db
model: {{name: {MODEL}}}
serve: {{port: 0, poll: 0.2, drain: 3}}
"""


@pytest.fixture(scope="module")
def project(make_shared_project: Make) -> Project:
    return make_shared_project({"mlp.yaml": MLP_YAML})


@pytest.fixture(scope="module")
def here(project: Project) -> World:
    made = World(project.root)
    made.register()
    made.register()
    return made


def test_without_a_champion_nothing_is_served(project: Project, here: World) -> None:
    done = project.mlp("serve")
    assert done.code == 3
    assert "has no champion" in done.err and "mlp models promote" in done.err


def test_what_would_be_served_is_shown(project: Project, here: World) -> None:
    here.alias("champion", "1")
    done = project.mlp("serve", "--dry-run", "--json", "--workers", "3", "--port", "8123")
    assert done.code == 0, done.err
    spec = done.document["spec"]
    assert (spec["serve"]["workers"], spec["serve"]["port"]) == (3, 8123)
    assert spec["serve"]["log"] == str(project.root / "predictions")
    assert spec["state"] is None
    assert done.document["traffic"]["champion"] == "1"


def test_a_port_that_is_taken_is_one_clear_error(project: Project, here: World) -> None:
    here.alias("champion", "1")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = project.mlp("serve", "--port", port)
    assert done.code == 3
    assert f"cannot listen at 127.0.0.1:{port}" in done.err and "--port" in done.err


def test_a_token_that_is_not_set_is_told_before_anything_starts(
    project: Project, here: World
) -> None:
    here.alias("champion", "1")
    done = project.mlp("serve", "--config", "serve.token_env=NO_SUCH_TOKEN")
    assert done.code == 3 and "NO_SUCH_TOKEN" in done.err


def test_a_log_that_cannot_be_kept_is_told_before_anything_starts(
    project: Project, here: World
) -> None:
    here.alias("champion", "1")
    done = project.mlp("serve", "--config", "serve.log=mlp.yaml/predictions")
    assert done.code == 3 and "serve.log" in done.err and "mlp.yaml/predictions" in done.err


def test_a_share_set_by_a_command_is_followed_and_ctrl_c_ends_it(
    project: Project, here: World
) -> None:
    here.alias("champion", "1")
    server = project.start("serve", "--json")
    try:
        line = server.stdout.readline()
        assert line, server.communicate()
        url = json.loads(line)["address"]
        body = {"dataframe_records": [{"user": "a", "do": ""}]}
        assert httpx.post(url + "/invocations", json=body).json() == {"predictions": [1]}
        here.alias("challenger", "2")
        done = project.mlp("ab", "share", "1", "--reason", "a try", "--json")
        assert done.code == 0, done.err
        assert done.document["evidence"]["share"] == 1

        def answered_by() -> str:
            return str(httpx.post(url + "/invocations", json=body).headers["x-model-version"])

        until(lambda: answered_by() == "2")
        untracked = project.tool("git", "status", "--porcelain", "--untracked-files=all")
        assert "predictions" not in untracked and ".mlp" not in untracked
    finally:
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate()
    assert server.returncode == 0, errors
    assert b"Traceback" not in errors
    shown = project.mlp("predictions", "show", "--json")
    assert shown.code == 0 and '"2"' in shown.out, shown.err


def test_a_share_needs_a_challenger(project: Project, here: World) -> None:
    here.client.delete_registered_model_alias(MODEL, "challenger")
    done = project.mlp("ab", "share", "0.5")
    assert done.code == 3 and "has no challenger" in done.err
