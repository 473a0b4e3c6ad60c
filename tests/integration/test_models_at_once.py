"""Several who change the same model, and some who die meanwhile; on SQLite and PostgreSQL."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlp.core.models.ledger import Action
from tests.cluster.servers import postgres
from tests.integration import model_store, promoters
from tests.integration.model_store import Store

pytestmark = pytest.mark.slow

PROMOTERS = 20


@pytest.fixture(scope="module")
def base(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return model_store.make(shared, tmp_path_factory.mktemp("models") / "project")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as uri:
        yield uri


@pytest.fixture(params=["sqlite", "postgresql"])
def store(
    base: Store, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Store:
    """Two versions of a model of this test's own, of files that nobody reads here."""
    if request.param == "postgresql":
        monkeypatch.setenv("MLP_STATE", request.getfixturevalue("server"))
    mine = base.named(re.sub(r"\W", "-", request.node.name))
    mine.configure()
    mine.client.create_registered_model(mine.model)
    for _ in range(PROMOTERS):
        mine.client.create_model_version(mine.model, str(tmp_path))
    return mine


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", promoters.__name__, *arguments],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_of_twenty_concurrent_promoters_one_wins_and_the_others_are_told(store: Store) -> None:
    versions = [str(number + 1) for number in range(PROMOTERS)]
    process = start("race", str(store.root), store.model, "", *versions)
    told = [json.loads(line) for line in process.communicate()[0].splitlines()]
    assert process.returncode == 0 and len(told) == PROMOTERS
    (winner,) = [each for each in told if each["code"] == 0]
    for loser in (each for each in told if each is not winner):
        assert loser["code"] == 4
        assert f"is version {winner['version']} since" in loser["says"]
    assert store.aliases() == {"champion": winner["version"]}
    made = [entry.action for entry in store.entries()]
    assert made == [Action.INTENDED, Action.PROMOTED]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_promoter_killed_around_the_alias_is_told_of_by_the_next_command(
    store: Store, when: str
) -> None:
    store.champion_by_hand("1")
    assert len(store.ok("history")["found"]) == 1
    process = start("die", when, str(store.root), store.model, "1", "2")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert store.entries()[-1].action == Action.INTENDED
    told = store.mlp("list")
    settled = store.entries()[-1]
    if when == "before":
        assert settled.action == Action.ABANDONED and store.aliases() == {"champion": "1"}
        assert "abandoned" in told.err
    else:
        assert settled.action == Action.PROMOTED and store.aliases() == {"champion": "2"}
        assert "completed after a crash" in told.err
    assert store.ok("list")["found"] == []
