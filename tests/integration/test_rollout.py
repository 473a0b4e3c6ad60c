"""A rollout on one machine: MLflow and ledger in SQLite, each move by a process of its own."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlp.adapters.state import StateDatabase, open_state
from mlp.core.models.ledger import Action, LedgerEntry
from tests.conftest import Done, Project, isolated

pytestmark = pytest.mark.slow

MODEL = "answers"
CONFIG = {"project": "demo", "model": {"name": MODEL, "task": "regression"}}


@pytest.fixture
def project(shared: Path, tmp_path: Path) -> Project:
    """A project whose model has a champion, version 1, and a challenger, version 2."""
    made = Project(tmp_path / "project", isolated(tmp_path / "home"))
    made.root.mkdir()
    shutil.copyfile(shared / "mlflow.db", made.root / "mlflow.db")
    made.write({"mlp.yaml": json.dumps(CONFIG), "model/MLmodel": "flavors: {}\n"})
    client = made.client()
    client.create_registered_model(MODEL)
    for _ in range(2):
        client.create_model_version(MODEL, str(made.root / "model"))
    client.set_registered_model_alias(MODEL, "champion", "1")
    client.set_registered_model_alias(MODEL, "challenger", "2")
    return made


@pytest.fixture
def ledger(project: Project) -> Iterator[StateDatabase]:
    state = open_state(f"sqlite:///{project.root}/.mlp/state.db")
    yield state
    state.close()


def aliases(client: MlflowClient) -> dict[str, str]:
    return {k: str(v) for k, v in client.get_registered_model(MODEL).aliases.items()}


def once(project: Project, *more: str) -> Done:
    return project.mlp("deploy", "rollout", "--once", "--json", *more)


def test_each_process_goes_on_where_the_last_one_ended(
    project: Project, ledger: StateDatabase
) -> None:
    begun = once(project)
    assert (begun.code, begun.document["move"]["kind"]) == (0, "share"), begun.err
    assert ledger.entries(MODEL)[-1].evidence["share"] == 0.1
    assert "10 % of the keys; rollout: the rollout begins" in project.mlp("models", "history").out
    waits = once(project)
    assert (waits.document["move"]["kind"], waits.document["share"]) == ("wait", 0.1)
    # Without a label no verdict lets it go on, however long it was there.
    held = once(project, "--step-time", "0")
    assert held.document["move"]["kind"] == "hold"
    assert "labelled" in held.document["move"]["reason"]
    assert [e.action for e in ledger.entries(MODEL)].count(Action.SHARED) == 1


def test_a_challenger_that_the_servers_took_out_is_taken_back(
    project: Project, ledger: StateDatabase
) -> None:
    assert once(project).code == 0
    ledger.append_next(LedgerEntry(MODEL, Action.TAKEN_OUT, "2", reason="it is too slow"))
    done = once(project)
    assert done.code == 4
    assert "too slow" in done.err
    assert aliases(project.client()) == {"champion": "1"}
    last = ledger.entries(MODEL)[-1]
    assert (last.action, last.previous) == (Action.ROLLED_BACK, "2")
    again = once(project)
    assert (again.code, "was taken back" in again.err) == (4, True)


def test_a_promotion_goes_through_its_gates_and_an_abort_through_none(project: Project) -> None:
    refused = project.mlp("deploy", "promote")
    assert refused.code == 4, refused.err
    assert refused.err.startswith("gate files …"), refused.err
    assert aliases(project.client()) == {"champion": "1", "challenger": "2"}, "by hand: nothing"
    aborted = project.mlp("deploy", "abort", "--reason", "seen enough")
    assert aborted.code == 0, aborted.err
    assert aliases(project.client()) == {"champion": "1"}
    assert project.mlp("deploy", "abort").code == 3


def test_a_deployment_needs_a_ledger_that_pods_can_read_and_a_champion(project: Project) -> None:
    target = {"kind": "kubernetes", "image": "registry.example.com/a:1"}
    project.write({"mlp.yaml": json.dumps({**CONFIG, "targets": {"prod": target}})})
    done = project.mlp("deploy")
    assert (done.code, "a file of this machine" in done.err) == (3, True), done.err
    project.client().delete_registered_model_alias(MODEL, "champion")
    done = project.mlp("deploy")
    assert (done.code, "has no champion" in done.err) == (3, True), done.err


def test_options_stand_behind_the_command_that_heeds_them(project: Project) -> None:
    done = project.mlp("deploy", "--target", "prod", "status")
    assert done.code == 2
    assert "mlp deploy status --target" in done.err
