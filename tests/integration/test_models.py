"""The registry and the promotion ledger, on a real MLflow store."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlp.core.models.ledger import Action, LedgerEntry
from mlp.core.models.model_version import VersionTag
from mlp.core.models.standing import INTENT, OUTCOME
from mlp.core.runs.recorded_run import Tag
from tests.integration import model_store
from tests.integration.model_store import COMMIT, DATA, Store
from tests.integration.served import until


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models as MLflow saves them, made once."""
    folder = tmp_path_factory.mktemp("saved")
    return {
        "good": model_store.save(folder / "good"),
        "bad": model_store.save(folder / "bad", flip=True),
        "other": model_store.save(folder / "other", columns=("a", "c")),
        "bare": model_store.save(folder / "bare", signature=None, input_example=None),
    }


@pytest.fixture(scope="module")
def base(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return model_store.make(shared, tmp_path_factory.mktemp("models") / "project")


@pytest.fixture
def store(base: Store, request: pytest.FixtureRequest) -> Iterator[Store]:
    """The module's project with a model of this test's own."""
    mine = base.named(re.sub(r"\W", "-", request.node.name))
    mine.configure()
    yield mine


Three = tuple[Store, str, str, str]


@pytest.fixture
def three(store: Store, saved: dict[str, Path]) -> Three:
    """Three versions, of which the first and then the second became champion."""
    versions = [store.register(saved["good"]) for _ in range(3)]
    # What the gates say is not what these tests are about, and each starts a process.
    store.ask(champion=["provenance"])
    for version in versions[:2]:
        store.ok("promote", version)
    store.ask()
    return (store, *versions)  # type: ignore[return-value]


def quick(store: Store) -> None:
    """Ask only the gates that need no other process."""
    store.ask(champion=["provenance", "signature", "metrics"], challenger=["signature"])


def actions(store: Store) -> list[str]:
    return [str(entry.action) for entry in store.entries() if entry.action != Action.INTENDED]


# --- registering ------------------------------------------------------------------------------


def test_a_registered_version_has_its_digest_and_what_it_was_made_from(
    store: Store, saved: dict[str, Path]
) -> None:
    run = store.run(saved["good"], metrics={"acc": 0.9})
    first = store.ok("register", run[:10])
    assert first["version"] == "1" and first["digest"].startswith("sha256:")
    version = store.client.get_model_version(store.model, "1")
    assert version.tags[VersionTag.DIGEST] == first["digest"]
    assert version.tags[VersionTag.RUN_ID] == run
    assert version.tags[VersionTag.COMMIT] == COMMIT
    assert json.loads(version.tags[VersionTag.DATA]) == {"data.csv": DATA}
    assert version.tags[VersionTag.LIFECYCLE] == "None"
    shown = store.ok("show", "1")
    assert shown["record"]["metrics"] == {"acc": 0.9}
    assert set(shown["record"]["files"]) >= {"MLmodel", "requirements.txt"}
    assert store.ok("list")["versions"][0]["lifecycle"] == "None"


def test_registering_a_run_again_makes_no_second_version(
    store: Store, saved: dict[str, Path]
) -> None:
    run = store.run(saved["good"])
    assert [store.ok("register", run)["already"] for _ in range(2)] == [False, True]
    assert len(store.ok("list")["versions"]) == 1
    assert actions(store) == ["registered"]


def test_of_several_models_one_has_to_be_named(store: Store, saved: dict[str, Path]) -> None:
    run = store.run(saved["good"], saved["bad"])
    refused = store.mlp("register", run)
    assert refused.code == 2 and "model-0" in refused.err and "--artifact" in refused.err
    assert store.ok("register", run, "--artifact", "model-1")["version"] == "1"


def test_a_model_without_signature_and_example_is_refused(
    store: Store, saved: dict[str, Path]
) -> None:
    refused = store.mlp("register", store.run(saved["bare"]))
    assert refused.code == 3 and "no signature and no input example" in refused.err
    assert "mlp.log_model(model, example)" in refused.err


def test_the_model_of_an_unchanged_stage_is_that_of_the_run_that_made_it(
    store: Store, saved: dict[str, Path]
) -> None:
    """`mlp train`, register, and promote is refused; `mlp run` evaluates, and then it passes."""
    quick(store)
    store.configure(gates={"metrics": {"acc": {"min": 0.9}, "loss": {"max": 0.2}}})
    trained = store.run(saved["good"], metrics={"loss": 0.1})
    assert store.ok("register", trained)["version"] == "1"
    refused = store.mlp("promote", "1")
    assert refused.code == 4 and "`mlp run` evaluates the model" in refused.err
    later = {Tag.COMMIT: "f" * 40, Tag.DIRTY: "true"}
    evaluated = store.run(cached_from=trained, metrics={"acc": 0.95}, tags=later)
    told = store.ok("register", evaluated)
    assert (told["version"], told["already"], told["adds"]) == ("1", True, ["acc"])
    record = store.ok("show", "1")["record"]
    assert (record["run_id"], record["made_by"]) == (evaluated, trained)
    assert (record["commit"], record["dirty"]) == (COMMIT, False), "of the code that made it"
    assert record["metrics"] == {"acc": 0.95, "loss": 0.1}
    assert f"made by    {trained}" in store.mlp("show", "1").out
    store.ok("promote", "1")
    again = store.ok("register", store.run(cached_from=trained, metrics={"acc": 0.95}))
    assert (again["entry"]["number"], again["adds"]) == (told["entry"]["number"], [])


def test_the_model_of_a_run_that_failed_is_not_promoted_unless_it_is_accepted(
    store: Store, saved: dict[str, Path]
) -> None:
    quick(store)
    failed = store.run(saved["good"], status="FAILED")
    told = store.mlp("register", failed)
    assert told.code == 0 and "ended as FAILED" in told.err
    assert "next: mlp run " in told.out
    assert "its run ended as FAILED" in _refused(store, "1", "provenance")
    finished = store.run(cached_from=failed)
    assert store.ok("register", finished)["already"]
    store.ok("promote", "1")


def test_a_run_without_a_model_says_how_to_log_one(store: Store) -> None:
    refused = store.mlp("register", store.run())
    assert refused.code == 2 and "has logged no model" in refused.err
    assert "mlp run --force" in refused.err


def test_a_dry_run_registers_nothing(store: Store, saved: dict[str, Path]) -> None:
    planned = store.ok("register", store.run(saved["good"]), "--dry-run")
    assert planned["version"] is None and planned["files"]
    assert store.ok("list")["versions"] == []
    assert store.entries() == []


# --- promoting --------------------------------------------------------------------------------


def test_promotion_moves_the_alias_and_the_ledger_tells_who_and_why(three: Three) -> None:
    store, one, two, _ = three
    assert store.aliases() == {"champion": two}
    entry = store.entries()[-1]
    assert (entry.action, entry.previous, entry.version) == (Action.PROMOTED, one, two)
    assert entry.actor and entry.evidence["gates"][0]["passed"]
    lifecycles = {v["version"]: v["lifecycle"] for v in store.ok("list")["versions"]}
    assert lifecycles == {one: "None", two: "Production", "3": "None"}
    tag = store.client.get_model_version(store.model, two).tags[VersionTag.LIFECYCLE]
    assert tag == "Production"
    assert "promoted" in store.mlp("history").out


def test_who_becomes_champion_is_no_challenger_any_more(three: Three) -> None:
    store, _, two, three_ = three
    quick(store)
    store.ok("promote", three_, "--to", "challenger")
    assert store.aliases() == {"champion": two, "challenger": three_}
    assert store.ok("show", "challenger")["version"]["lifecycle"] == "Staging"
    store.ok("promote", "challenger", "--reason", "it won")
    assert store.aliases() == {"champion": three_}
    assert store.entries()[-1].reason == "it won"
    assert store.ok("history")["found"] == []


def test_promoting_the_champion_again_changes_nothing(three: Three) -> None:
    store, _, two, _ = three
    before = len(store.entries())
    assert store.ok("promote", two)["done"]
    assert len(store.entries()) == before


def test_an_expectation_that_does_not_hold_tells_who_was_faster(three: Three) -> None:
    store, one, two, last = three
    refused = store.mlp("promote", last, "--expect", one)
    assert refused.code == 4
    assert f"is version {two} since" in refused.err and "nothing was changed" in refused.err
    assert store.aliases() == {"champion": two}


def test_a_dry_run_promotes_nothing(three: Three) -> None:
    store, _, two, last = three
    quick(store)
    assert store.ok("promote", last, "--dry-run")["promoted"] is False
    assert store.aliases() == {"champion": two}


# --- the gates --------------------------------------------------------------------------------


def test_a_good_version_passes_every_gate_in_processes_of_its_own(
    store: Store, saved: dict[str, Path]
) -> None:
    """And one that is worse on the same table does not."""
    (store.root / "test.csv").write_text(
        "a,b,y\n" + "".join(f"{a},{b},{int(a + b > 0)}\n" for a in (-2, 1) for b in (-3, 0, 3))
    )
    table = {"evaluation": {"data": "test.csv", "target": "y"}}
    store.configure(primary={"metric": "f1"}, gates=table)
    first, worse = store.register(saved["good"]), store.register(saved["bad"])
    done = store.ok("promote", first)
    verdicts = {gate["name"]: gate["passed"] for gate in done["gates"]}
    assert set(verdicts) == {
        *("files", "provenance", "signature", "prediction", "metrics", "champion")
    }
    assert all(verdicts.values())
    refused = store.mlp("promote", worse, "--json")
    assert refused.code == 4 and refused.document["refused"] == ["champion"]
    assert "on test.csv (6 rows)" in refused.err and "--accept champion" in refused.err
    assert store.aliases() == {"champion": first}


def _refused(store: Store, version: str, gate: str) -> str:
    done = store.mlp("promote", version, "--json")
    assert done.code == 4 and gate in done.document["refused"], done.err
    return next(g["detail"] for g in done.document["gates"] if g["name"] == gate)


def test_files_that_were_changed_are_refused_and_not_loaded(
    store: Store, saved: dict[str, Path]
) -> None:
    version = store.register(saved["good"])
    (store.files(version) / "MLmodel").open("a").write("# changed\n")
    (store.files(version) / "more.txt").write_text("more")
    detail = _refused(store, version, "files")
    assert "changed: MLmodel" in detail and "added: more.txt" in detail
    planned = store.mlp("promote", version, "--dry-run", "--json")
    assert planned.err == "gate files …\n"
    _, *others = planned.document["gates"]
    assert len(others) == 5 and all("not asked" in gate["detail"] for gate in others)
    assert [gate["passed"] for gate in others] == [False] * 5


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"tags": {"mlflow.source.git.commit": ""}}, "commit is not known"),
        ({"tags": {"mlp.dirty": "true"}}, "changes that were not recorded"),
        ({"stages": False}, "data is not known"),
    ],
)
def test_unknown_code_or_data_is_refused(
    store: Store,
    saved: dict[str, Path],
    made: dict[str, Any],
    says: str,
) -> None:
    quick(store)
    assert says in _refused(store, store.register(saved["good"], **made), "provenance")


def test_no_process_is_started_where_another_gate_refuses_already(
    store: Store, saved: dict[str, Path]
) -> None:
    store.configure(gates={"metrics": {"acc": {"min": 0.9}}})
    version = store.register(saved["good"], metrics={"acc": 0.5})
    refused = store.mlp("promote", version, "--json")
    assert refused.code == 4 and refused.document["refused"] == ["metrics"]
    assert "gate prediction" not in refused.err
    assert "prediction: not asked: metrics did not pass" in refused.err


def test_a_gate_can_be_accepted_with_a_reason_that_is_kept(
    store: Store, saved: dict[str, Path]
) -> None:
    quick(store)
    version = store.register(saved["good"], stages=False)
    _refused(store, version, "provenance")
    assert store.mlp("promote", version, "--accept", "provenance").code == 2
    store.ok("promote", version, "--accept", "provenance", "--reason", "a trial")
    entry = store.entries()[-1]
    assert (entry.evidence["accepted"], entry.reason) == (["provenance"], "a trial")
    assert "accepted: provenance" in store.mlp("history").out


def test_another_signature_than_the_champions_is_refused(
    store: Store, saved: dict[str, Path]
) -> None:
    quick(store)
    store.ok("promote", store.register(saved["good"]))
    detail = _refused(store, store.register(saved["other"]), "signature")
    assert "it needs the input c" in detail


def test_metrics_out_of_bounds_or_not_recorded_are_refused(
    store: Store, saved: dict[str, Path]
) -> None:
    quick(store)
    store.configure(gates={"metrics": {"acc": {"min": 0.9}, "loss": {"max": 1.0}}})
    detail = _refused(store, store.register(saved["good"], metrics={"acc": 0.5}), "metrics")
    assert "acc is 0.5, below 0.9" in detail and "loss is not recorded" in detail
    store.ok("promote", store.register(saved["good"], metrics={"acc": 0.95, "loss": 0.5}))


def test_without_a_table_runs_are_compared_only_on_the_same_data(
    store: Store, saved: dict[str, Path]
) -> None:
    store.ask(champion=["champion"])
    store.configure(primary={"metric": "acc"}, gates={"max_drop": 0.01})
    store.ok("promote", store.register(saved["good"], metrics={"acc": 0.8}))
    elsewhere = store.register(saved["good"], metrics={"acc": 0.9}, data="f" * 32)
    assert "did not evaluate the same data" in _refused(store, elsewhere, "champion")
    unknown = store.register(saved["good"])
    assert "has not recorded acc" in _refused(store, unknown, "champion")
    worse = store.register(saved["good"], metrics={"acc": 0.7})
    assert "worse by 0.1" in _refused(store, worse, "champion")
    store.ok("promote", store.register(saved["good"], metrics={"acc": 0.795}))


def test_a_model_that_cannot_answer_in_a_process_of_its_own_is_refused(
    store: Store, saved: dict[str, Path], tmp_path: Path
) -> None:
    store.ask(champion=["prediction"])
    broken = shutil.copytree(saved["good"], tmp_path / "broken")
    (broken / "input_example.json").write_text('{"columns": ["x"], "data": [[1]]}')
    detail = _refused(store, store.register(broken), "prediction")
    assert "the model does not answer" in detail


def test_a_model_whose_requirements_cannot_be_had_is_refused(
    store: Store, saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This Python does not satisfy them, so that an environment is made, which fails here."""
    store.ask(champion=["prediction"])
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    wanting = shutil.copytree(saved["good"], tmp_path / "wanting")
    (wanting / "requirements.txt").write_text("no-such-package-of-mlp==1.0\n")
    detail = _refused(store, store.register(wanting), "prediction")
    assert "an environment with the model's requirements cannot be made" in detail


def test_a_gate_that_is_not_there_is_answered_with_those_that_are(store: Store) -> None:
    done = store.mlp("promote", "1", "--accept", "metric", "--reason", "x")
    assert done.code == 2 and "metrics" in done.err


# --- rolling back -----------------------------------------------------------------------------


def test_rollback_goes_to_the_last_good_version_and_not_merely_the_one_before(three: Three) -> None:
    store, one, two, last = three
    quick(store)
    store.ok("promote", last)
    assert store.ok("rollback", "--reason", "errors")["version"] == two
    assert store.aliases() == {"champion": two}
    # The third was rolled back from and the second serves: only the first is good.
    again = store.ok("rollback")
    assert again["version"] == one and last in again["passed_over"]
    refused = store.mlp("rollback")
    assert refused.code == 4 and "was rolled back from" in refused.err
    store.ok("rollback", "--to", last)
    assert store.aliases() == {"champion": last}


@pytest.mark.parametrize("fate", ["taken out", "archived", "deleted", "changed"])
def test_rollback_passes_over_versions_that_are_not_good(three: Three, fate: str) -> None:
    store, one, two, last = three
    quick(store)
    store.ok("promote", last)
    if fate == "taken out":
        with store.state() as state:
            state.append_next(LedgerEntry(store.model, Action.TAKEN_OUT, two, actor="a server"))
    elif fate == "archived":
        store.ok("archive", two, "--reason", "old")
    elif fate == "deleted":
        store.client.delete_model_version(store.model, two)
    else:
        (store.files(two) / "MLmodel").open("a").write("\n")
    done = store.ok("rollback")
    assert done["version"] == one and list(done["passed_over"]) == [two]


def test_rollback_to_a_version_whose_files_changed_is_refused(three: Three) -> None:
    store, one, two, _ = three
    (store.files(one) / "MLmodel").open("a").write("\n")
    refused = store.mlp("rollback", "--to", one)
    assert refused.code == 4 and "not those that were registered" in refused.err
    assert store.aliases() == {"champion": two}


def test_a_dry_run_rolls_nothing_back(three: Three) -> None:
    store, one, two, _ = three
    assert store.ok("rollback", "--dry-run")["version"] == one
    assert store.aliases() == {"champion": two}


# --- archiving --------------------------------------------------------------------------------


def test_the_champion_cannot_be_archived_and_a_challenger_loses_its_alias(three: Three) -> None:
    store, _, two, last = three
    quick(store)
    assert store.mlp("archive", two).code == 2
    store.ok("promote", last, "--to", "challenger")
    store.ok("archive", last, "--reason", "no use")
    assert store.aliases() == {"champion": two}
    assert store.ok("list")["versions"][0]["lifecycle"] == "Archived"
    assert store.ok("history")["found"] == []
    assert store.ok("archive", last)["done"]


# --- what happened without the ledger -----------------------------------------------------------


def test_an_alias_that_was_changed_by_hand_is_found_and_told(three: Three) -> None:
    store, one, two, last = three
    store.champion_by_hand(last)
    store.champion_by_hand(one, "challenger")
    told = store.mlp("list")
    assert told.code == 0 and f"champion version {two} -> version {last}" in told.err
    found = [entry for entry in store.entries() if entry.action == Action.FOUND]
    assert [(e.alias, e.previous, e.version) for e in found] == [
        ("champion", two, last),
        ("challenger", None, one),
    ]
    tags = {
        v: store.client.get_model_version(store.model, v).tags[VersionTag.LIFECYCLE]
        for v in (one, two, last)
    }
    assert tags == {one: "Staging", two: "None", last: "Production"}
    assert store.ok("history")["found"] == []  # once


def test_an_alias_that_was_deleted_by_hand_is_found(three: Three) -> None:
    store, _, two, _ = three
    store.client.delete_registered_model_alias(store.model, "champion")
    (found,) = store.ok("history")["found"]
    assert (found["alias"], found["previous"], found["version"]) == ("champion", two, None)


def _intend(store: Store, version: str, previous: str) -> LedgerEntry:
    with store.state() as state:
        kept: LedgerEntry = state.append_next(
            LedgerEntry(
                *(store.model, Action.INTENDED, version, "champion", previous),
                actor="somebody",
                evidence={OUTCOME: "promoted"},
            )
        )
    return kept


@pytest.mark.parametrize("moved", [False, True])
def test_an_intent_without_outcome_is_settled_by_what_the_alias_is(
    three: Three, moved: bool
) -> None:
    store, _, two, last = three
    intent = _intend(store, last, two)
    if moved:
        store.champion_by_hand(last)
    (found,) = store.ok("history")["found"]
    assert found["action"] == ("promoted" if moved else "abandoned")
    assert found["evidence"][INTENT] == intent.number
    assert found["actor"] == "somebody"
    assert store.ok("history")["found"] == []


# --- packages ---------------------------------------------------------------------------------


def test_a_package_says_what_it_is_and_is_not_made_over_something(
    store: Store, saved: dict[str, Path], tmp_path: Path
) -> None:
    version = store.register(saved["good"])
    planned = store.ok("package", version, "--to", str(tmp_path / "p"), "--dry-run")
    assert not (tmp_path / "p").exists() and "FROM" in planned["texts"]["Containerfile"]
    store.ok("package", version, "--to", str(tmp_path / "p"))
    described = json.loads((tmp_path / "p" / "model.json").read_text())
    assert described["digest"] == planned["digest"]
    assert described["made_from"]["commit"] == COMMIT
    assert store.mlp("package", version, "--to", str(tmp_path / "p")).code == 2


def test_a_package_answers_by_itself_until_a_file_of_it_changes(
    store: Store, saved: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    store.ok("package", store.register(saved["good"]), "--to", str(folder))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "PORT": str(port)}
    serving = subprocess.Popen(
        [folder / "serve"], env=variables, cwd="/", start_new_session=True, stderr=subprocess.PIPE
    )
    try:
        body = (folder / "model" / "serving_input_example.json").read_bytes()
        until(lambda: answers(f"http://127.0.0.1:{port}/ping") or serving.poll() is not None)
        headers = {"Content-Type": "application/json"}
        answer = httpx.post(f"http://127.0.0.1:{port}/invocations", content=body, headers=headers)
        assert (answer.status_code, list(answer.json())) == (200, ["predictions"])
    finally:
        os.killpg(serving.pid, signal.SIGTERM)
        serving.communicate()
    (folder / "model" / "MLmodel").open("a").write("\n")
    refused = subprocess.run([folder / "serve"], env=variables, capture_output=True, text=True)
    assert refused.returncode != 0 and "model/MLmodel: FAILED" in refused.stdout


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url).status_code == 200
    return False


def test_a_package_is_refused_where_the_files_have_changed(
    store: Store, saved: dict[str, Path], tmp_path: Path
) -> None:
    version = store.register(saved["good"])
    (store.files(version) / "MLmodel").open("a").write("\n")
    assert store.mlp("package", version, "--to", str(tmp_path / "p")).code == 4
    assert not (tmp_path / "p").exists()


# --- mistakes ---------------------------------------------------------------------------------


def test_a_project_without_a_model_says_what_to_write(store: Store) -> None:
    (store.root / "mlp.yaml").write_text("project: demo\n")
    from mlp.cli import main

    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(store.root)
        assert main.call(["models", "list"]) == 3


@pytest.mark.parametrize("reference", ["7", "nobody", "latest"])
def test_a_version_that_is_not_there_is_a_usage_error(store: Store, reference: str) -> None:
    done = store.mlp("promote", reference)
    assert done.code == 2 and "mlp models list" in done.err
