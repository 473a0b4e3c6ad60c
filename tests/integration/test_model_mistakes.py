"""What `mlp models` says and refuses where a user goes wrong, on a real MLflow store."""

import json
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from mlp.adapters.state import Conflict
from mlp.core.errors import ConfigurationError, GateRefused
from mlp.core.models.ledger import Action, LedgerEntry
from mlp.core.models.model_version import VersionTag
from mlp.flows import project as projects
from mlp.flows.models import promoting, registering
from mlp.flows.project import Project
from mlp.runtime.serving import challenger_framing
from tests.integration import model_store
from tests.integration.model_store import COMMIT, Store

# It has a signature and an example, and fails on that.
PICKY_PY = """
import mlflow
from mlflow.pyfunc import PythonModel


class Picky(PythonModel):
    def predict(self, context, model_input, params=None):
        raise ValueError("row too big")


mlflow.models.set_model(Picky())
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_store.save(tmp_path_factory.mktemp("saved") / "good")


@pytest.fixture(scope="module")
def picky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    folder = tmp_path_factory.mktemp("saved")
    (folder / "picky.py").write_text(PICKY_PY)
    table = pd.DataFrame({"a": [1.0], "b": [2.0]})
    mlflow.pyfunc.save_model(
        str(folder / "picky"),
        python_model=str(folder / "picky.py"),
        signature=infer_signature(table, [1]),
        input_example=table,
        pip_requirements=["mlflow"],
    )
    return folder / "picky"


@pytest.fixture(scope="module")
def base(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return model_store.make(shared, tmp_path_factory.mktemp("models") / "project")


@pytest.fixture
def store(base: Store, request: pytest.FixtureRequest) -> Iterator[Store]:
    """The module's project with a model of this test's own, and gates that start no process."""
    mine = base.named(re.sub(r"\W", "-", request.node.name))
    mine.configure()
    mine.ask(champion=["provenance", "metrics"], challenger=[])
    yield mine


def loaded(store: Store) -> Project:
    return projects.load(store.root, settings=store.settings)


# --- rolling back to what never served ----------------------------------------------------------


def test_a_rollback_does_not_go_to_a_version_that_was_never_champion(
    store: Store, good: Path
) -> None:
    """It would be a way around the gates."""
    first, second = store.register(good), store.register(good)
    refused = store.mlp("rollback", "--to", first)
    assert refused.code == 2 and f"mlp models promote {first}" in refused.err
    store.ok("promote", first)
    store.ok("promote", second, "--to", "challenger")
    refused = store.mlp("rollback", "--to", "challenger")
    assert refused.code == 2 and "has never been the champion" in refused.err
    assert store.aliases() == {"champion": first, "challenger": second}
    assert all(entry.action != Action.ROLLED_BACK for entry in store.entries())


def test_a_rollback_goes_to_a_champion_without_a_digest_and_says_so(
    store: Store, good: Path
) -> None:
    """Somebody made it champion in MLflow's pages."""
    mine = store.register(good)
    source = store.client.get_model_version(store.model, mine).source
    plain = str(store.client.create_model_version(store.model, source).version)
    store.champion_by_hand(plain)
    store.ok("history")
    store.ok("promote", mine)
    done = store.mlp("rollback", "--to", plain)
    assert done.code == 0 and "no digest" in done.err
    assert store.aliases() == {"champion": plain}


# --- files that are not those registered ----------------------------------------------------------


def test_accepting_files_does_not_accept_the_gates_that_were_not_asked(
    store: Store, good: Path
) -> None:
    version = store.register(good, stages=False)
    (store.files(version) / "MLmodel").open("a").write("\n")
    document = store.mlp("promote", version, "--json").document
    assert document["refused"] == ["files"]
    refused = store.mlp("promote", version, "--accept", "provenance", "--reason", "x")
    assert refused.code == 4 and "metrics: not asked: files did not pass" in refused.err
    refused = store.mlp("promote", version, "--accept", "files", "--reason", "x", "--json")
    assert refused.code == 4 and refused.document["refused"] == ["provenance"]
    assert "its data is not known" in refused.err and "metrics: passed" in refused.err
    assert store.aliases() == {}
    store.ok("promote", version, "--accept", "files", "--accept", "provenance", "--reason", "x")
    assert store.entries()[-1].evidence["accepted"] == ["files", "provenance"]


# --- tags, which anybody may change -------------------------------------------------------------


def test_a_changed_tag_or_run_does_not_decide_the_metrics(store: Store, good: Path) -> None:
    store.configure(gates={"metrics": {"acc": {"min": 0.9}, "loss": {"max": 1.0}}})
    run = store.run(good, metrics={"acc": 0.5})
    version = store.ok("register", run)["version"]
    better = store.run(metrics={"acc": 0.95, "loss": 0.1})
    store.client.set_model_version_tag(store.model, version, VersionTag.RUN_ID, better)
    store.client.log_metric(run, "acc", 0.95)
    refused = store.mlp("promote", version)
    assert refused.code == 4
    assert "acc is 0.5, below 0.9; loss is not recorded" in refused.err


def test_a_changed_tag_does_not_decide_which_runs_are_compared(store: Store, good: Path) -> None:
    store.ask(champion=["champion"])
    store.configure(primary={"metric": "acc"})
    store.ok("promote", store.register(good, metrics={"acc": 0.8}))
    worse = store.register(good, metrics={"acc": 0.7})
    better = store.run(metrics={"acc": 0.9})
    store.client.set_model_version_tag(store.model, worse, VersionTag.RUN_ID, better)
    refused = store.mlp("promote", worse)
    assert refused.code == 4 and "worse by 0.1" in refused.err


def test_a_metric_that_is_no_number_is_refused_by_the_ledgers_word(
    store: Store, good: Path
) -> None:
    """JSON has no NaN: there it is a text."""
    store.configure(gates={"metrics": {"acc": {"min": 0.9}}})
    refused = store.mlp("promote", store.register(good, metrics={"acc": float("nan")}))
    assert refused.code == 4 and "acc is nan" in refused.err


def test_a_changed_tag_makes_no_second_version_and_is_not_shown(store: Store, good: Path) -> None:
    run = store.run(good)
    first = store.ok("register", run)
    tags = {VersionTag.DIGEST: "sha256:0", VersionTag.RUN_ID: "0" * 32, VersionTag.COMMIT: "f" * 40}
    for name, value in {**tags, VersionTag.DIRTY: "true"}.items():
        store.client.set_model_version_tag(store.model, first["version"], name, value)
    again = store.ok("register", run)
    assert (again["version"], again["already"]) == (first["version"], True)
    shown = store.mlp("show", "1").out
    for said in (f"digest     {first['digest']}", f"run        {run}", f"commit     {COMMIT}\n"):
        assert said in shown


# --- another registered model of the same name ----------------------------------------------------


def _refuse_all(store: Store, *more: str) -> None:
    """Every command ends with 3 and writes nothing."""
    before = store.entries()
    for command in ("list", "history", "rollback", "promote 1", "archive 1", "show 1"):
        refused = store.mlp(*command.split(), *more)
        assert refused.code == 3, (command, refused.out, refused.err)
        assert "of another registered model" in refused.err and "`state` beside" in refused.err
    assert store.entries() == before


def test_a_second_registry_needs_a_ledger_of_its_own(
    store: Store, good: Path, shared: Path
) -> None:
    store.ok("promote", store.register(good))
    shutil.copyfile(shared / "mlflow.db", store.root / "prod.db")
    document = yaml.safe_load((store.root / "mlp.yaml").read_text())
    prod = {"tracking": {"uri": "sqlite:///prod.db"}}
    (store.root / "mlp.yaml").write_text(yaml.safe_dump({**document, "envs": {"prod": prod}}))
    _refuse_all(store, "--env", "prod")
    prod["state"] = f"sqlite:///.mlp/{store.model}-prod.db"
    (store.root / "mlp.yaml").write_text(yaml.safe_dump({**document, "envs": {"prod": prod}}))
    assert store.ok("list", "--env", "prod")["versions"] == []
    assert len(store.ok("list")["versions"]) == 1


def test_a_model_that_was_deleted_and_made_again_is_not_taken_for_the_old_one(
    store: Store, good: Path
) -> None:
    run = store.run(good)
    planned = registering.plan(loaded(store), run)
    store.ok("promote", store.ok("register", run)["version"])
    store.client.delete_registered_model(store.model)
    _refuse_all(store)
    store.client.create_registered_model(store.model)
    store.client.create_model_version(store.model, str(good))
    _refuse_all(store)
    before = store.entries()
    with pytest.raises(ConfigurationError, match="of another registered model"):
        registering.apply(loaded(store), planned)
    assert store.entries() == before
    assert len(store.client.search_model_versions(f"name = '{store.model}'")) == 1


def test_what_is_found_says_of_which_registered_model(store: Store, good: Path) -> None:
    for made_again in (False, True):
        if made_again:
            store.client.delete_registered_model(store.model)
        store.client.create_registered_model(store.model)
        store.client.create_model_version(store.model, str(good))
        store.champion_by_hand("1")
        if not made_again:
            assert len(store.ok("history")["found"]) == 1
    _refuse_all(store)


def test_the_registration_of_another_version_of_that_number_is_not_this_ones(
    store: Store, good: Path
) -> None:
    """Of a ledger that does not say of which registered model it is."""
    old = {"digest": "sha256:old", "run_id": "0" * 32}
    with store.state() as state:
        state.append_next(LedgerEntry(store.model, Action.REGISTERED, "1", evidence=old))
    done = store.ok("register", store.run(good))
    assert done["version"] == "1" and done["entry"]["evidence"]["digest"] == done["digest"]
    store.ok("promote", "1")


# --- a version of another ledger ----------------------------------------------------------------


def test_a_version_of_another_ledger_is_told_as_that_and_can_be_written_down_here(
    store: Store, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.configure(gates={"metrics": {"acc": {"min": 0.9}}})
    run = store.run(good, metrics={"acc": 0.95})
    version = store.ok("register", run)["version"]
    monkeypatch.setenv("MLP_STATE", f"sqlite:///{tmp_path}/another.db")
    document = store.mlp("promote", version, "--dry-run", "--json").document
    gates = {gate["name"]: gate for gate in document["gates"]}
    assert "does not know its registration" in gates["provenance"]["detail"]
    assert f"mlp models register {run}" in gates["provenance"]["fix"]
    assert gates["metrics"]["passed"]  # its run tells
    again = store.ok("register", run)
    assert (again["version"], again["already"]) == (version, True)
    done = store.ok("promote", version)
    assert all(gate["passed"] for gate in done["gates"])


def test_without_its_run_a_version_of_another_ledger_needs_that_ledger(
    store: Store, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.configure(gates={"metrics": {"acc": {"min": 0.9}}})
    run = store.run(good, metrics={"acc": 0.95})
    version = store.ok("register", run)["version"]
    store.client.set_model_version_tag(store.model, version, "mlp.run_id", "0" * 32)
    monkeypatch.setenv("MLP_STATE", f"sqlite:///{tmp_path}/another.db")
    document = store.mlp("promote", version, "--dry-run", "--json").document
    for gate in document["gates"][1:]:
        assert "does not know its registration" in gate["detail"]
        assert "mlp models register" not in gate["fix"] and "`state`" in gate["fix"]


def test_the_run_of_another_project_is_found_by_its_whole_id(store: Store, good: Path) -> None:
    """By mlp's, as it always was by MLflow's."""
    run = store.run(good)
    mine = "a1" * 16
    store.client.set_tag(run, "mlp.run_id", mine)
    document = (store.root / "mlp.yaml").read_text()
    (store.root / "mlp.yaml").write_text(document.replace("project: demo", "project: other"))
    assert store.ok("register", mine)["run_id"] == mine


# --- between a plan and its doing ---------------------------------------------------------------


@pytest.mark.parametrize("promoted", ["2", "3"])
def test_a_challenger_is_refused_where_the_champion_is_not_the_planned_one(
    store: Store, good: Path, promoted: str
) -> None:
    """One that became champion itself, or was to be compared with another."""
    for _ in range(3):
        store.register(good)
    store.ok("promote", "1")
    project = loaded(store)
    planned = promoting.plan(project, promoting.PromotionRequest("2", "challenger"))
    store.ok("promote", promoted)
    before = store.entries()
    with pytest.raises(Conflict, match=f"the champion of .* is version {promoted} since"):
        promoting.apply(project, planned)
    assert store.aliases() == {"champion": promoted} and store.entries() == before


def test_a_version_that_servers_took_out_while_its_gates_ran_is_not_promoted(
    store: Store, good: Path
) -> None:
    for _ in range(2):
        store.register(good)
    store.ok("promote", "1")
    store.ok("promote", "2", "--to", "challenger")
    project = loaded(store)
    planned = promoting.plan(project, promoting.PromotionRequest("2"))
    with store.state() as state:
        state.append_next(LedgerEntry(store.model, Action.TAKEN_OUT, "2", reason="it is too slow"))
    before = store.entries()
    with pytest.raises(GateRefused, match=r"taken out while its gates ran .*: it is too slow"):
        promoting.apply(project, planned)
    assert store.aliases() == {"champion": "1", "challenger": "2"} and store.entries() == before
    again = promoting.plan(project, promoting.PromotionRequest("2"))  # by somebody who knows of it
    assert promoting.apply(project, again).version == "2"


def test_where_the_ledger_fails_after_the_alias_changed_that_is_said(
    store: Store, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLP_STATE", f"sqlite:///{tmp_path}/state.db")
    store.register(good)
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.execute(
            "CREATE TRIGGER away BEFORE INSERT ON mlp_ledger WHEN NEW.action = 'promoted'"
            " BEGIN SELECT json('not JSON'); END"
        )
        failed = store.mlp("promote", "1")
        assert failed.code == 3 and "malformed JSON" in failed.err
        assert "the alias has changed: the champion of" in failed.err
        assert "is version 1 now, and the next command writes it down" in failed.err
        assert store.aliases() == {"champion": "1"}
        database.execute("DROP TRIGGER away")
    (found,) = store.ok("history")["found"]
    assert (found["action"], found["version"]) == ("promoted", "1")
    assert [gate["name"] for gate in found["evidence"]["gates"]] == [
        *("files", "provenance", "metrics")
    ]


# --- what is expected ---------------------------------------------------------------------------


def test_an_expected_version_is_named_as_everywhere(store: Store, good: Path) -> None:
    for _ in range(3):
        store.register(good)
    store.ok("promote", "1", "--expect", "")
    assert store.mlp("promote", "2", "--expect", "").code == 4
    store.ok("promote", "2", "--expect", "v1")
    store.ok("promote", "3", "--expect", "champion")
    store.ok("promote", "1", "--expect", "latest")
    assert store.mlp("promote", "2", "--expect", "v3").code == 4
    for typo in ("chamption", "9", "version 1"):
        refused = store.mlp("promote", "2", "--expect", typo)
        assert refused.code == 2 and "has no version" in refused.err, refused.err
    assert store.aliases() == {"champion": "1"}


# --- what failed is told ------------------------------------------------------------------------


def test_a_model_that_fails_on_its_example_is_told_by_its_exception(
    store: Store, picky: Path
) -> None:
    store.ask(champion=["prediction"])
    done = store.mlp("promote", store.register(picky), "--json")
    gate = done.document["gates"][1]
    assert gate["detail"] == "the model does not answer: ValueError: row too big"
    assert "gate files …\ngate prediction …\n" in done.err  # said as each begins


def test_a_challenger_that_fails_on_its_example_is_told_by_its_exception(picky: Path) -> None:
    ours, theirs = socket.socketpair()
    settings = {"path": str(picky), "probabilities": False, "nice": 0}
    with ours:
        with theirs:
            command = [sys.executable, "-m", "mlp.runtime.serving.challenger_process"]
            command += [str(theirs.fileno()), json.dumps(settings)]
            process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
        told = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    assert process.wait() == 1
    ((header, _),) = challenger_framing.Unpacker().feed(told)
    assert header["broken"] == "it cannot be loaded: 400 ValueError: row too big"


# --- naming runs --------------------------------------------------------------------------------


def test_the_ids_that_an_ambiguous_name_lists_name_runs(store: Store, good: Path) -> None:
    """Those of plain MLflow runs, too."""
    runs = [store.run(good) for _ in range(2)]
    for run in runs:
        store.client.delete_tag(run, "mlp.run_id")
        store.client.set_tag(run, "mlflow.runName", "twice")
    refused = store.mlp("register", "twice")
    assert refused.code == 2 and "give a longer id" in refused.err
    listed = re.findall(r"\b[0-9a-f]{12}\b", refused.err)
    assert sorted(listed) == sorted(run[:12] for run in runs)
    assert store.ok("register", listed[0], "--dry-run")["run_id"].startswith(listed[0])


# --- what to do next ----------------------------------------------------------------------------


def test_registering_says_what_may_become_of_the_version(store: Store, good: Path) -> None:
    run = store.run(good)
    said = store.mlp("register", run).out
    assert "mlp models promote 1" in said and "challenger" not in said
    store.ok("promote", "1")
    assert "next:" not in store.mlp("register", run).out
    said = store.mlp("register", store.run(good)).out
    assert "mlp models promote 2, or with --to challenger" in said


def test_the_champion_as_its_own_challenger_is_refused_with_what_to_do(
    store: Store, good: Path
) -> None:
    store.ok("promote", store.register(good))
    refused = store.mlp("promote", "1", "--to", "challenger")
    assert refused.code == 2 and "fix:   mlp models promote" in refused.err


def test_a_package_where_nothing_can_be_written_names_the_folder(store: Store, good: Path) -> None:
    version = store.register(good)
    refused = store.mlp("package", version, "--to", "/proc/package")
    assert refused.code == 3 and "the folder /proc/package cannot be made" in refused.err
    assert "--to FOLDER" in refused.err


def test_every_gate_is_told_when_it_begins(store: Store, good: Path) -> None:
    """On standard error, so that the JSON stays alone."""
    done = store.mlp("promote", store.register(good), "--json")
    assert done.document["promoted"]
    assert done.err.splitlines() == ["gate files …", "gate provenance …", "gate metrics …"]
