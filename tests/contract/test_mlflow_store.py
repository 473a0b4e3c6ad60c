"""What every MLflow store answers: a server, SQL databases, others through MLflow's client."""

import math
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.store.db.utils import _get_latest_schema_revision

from mlp.adapters.tracking import mlflow_store
from mlp.adapters.tracking.client_store import ClientStore
from mlp.adapters.tracking.mlflow_store import MlflowStore
from mlp.adapters.tracking.rest_store import RestStore
from mlp.adapters.tracking.run_query import RunQuery
from mlp.adapters.tracking.sql_store import KNOWN, SqlStore
from mlp.core.errors import ConfigurationError
from tests.cluster.servers import MlflowServer, free_port, postgres

MODEL = "flights délays"
PARENT = "mlflow.parentRunId"


class Written:
    """What MLflow's client has written into a store before it is read."""

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        self.uri = uri
        place = str(artifacts) if artifacts else None  # a server has its own
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.experiment = self.client.create_experiment("flights 'of' 2013", place)
        self.other = self.client.create_experiment("another")
        self.first = self._run(self.experiment, "one", 1_000, {"mlp.run_id": "aa11", "kind": "p"})
        self.second = self._run(self.experiment, "two", 2_000, {"mlp.run_id": "aa22", "kind": "p"})
        self.stages = [
            self._run(self.experiment, name, at, {PARENT: self.second, "kind": "s"})
            for name, at in (("train", 2_200), ("fetch", 2_100))
        ]
        self.elsewhere = self._run(self.other, "one", 3_000, {"mlp.run_id": "bb33"})
        self.deleted = self._run(self.experiment, "three", 4_000, {"kind": "p"})
        self.client.log_batch(
            self.second,
            metrics=[
                *(Metric("loss", 1 / step, 0, step) for step in (1, 2, 3)),
                *(Metric("nan", math.nan, 0, 0), Metric("far", math.inf, 0, 0)),
                Metric("below", -math.inf, 0, 0),
            ],
            params=[Param("lr", "0.1"), Param("note", "“ünïcode”")],
        )
        self.client.set_terminated(self.second, "FINISHED", end_time=9_500)
        self.client.log_text(self.second, "{}\n", "mlp/provenance.json")
        self.client.delete_run(self.deleted)
        self.client.create_registered_model(MODEL)
        for number in (1, 2, 3):
            self.client.create_model_version(
                MODEL, f"s3://models/{number}", self.second, tags={"mlp.digest": f"d{number}"}
            )
        self.client.delete_model_version(MODEL, "3")
        self.client.set_registered_model_alias(MODEL, "champion", "2")

    def _run(self, experiment: str, name: str, at: int, tags: dict[str, str]) -> str:
        made = self.client.create_run(experiment, start_time=at, run_name=name, tags=tags)
        return str(made.info.run_id)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("sqlite")
    return Written(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    with postgres() as uri:
        yield Written(uri, tmp_path_factory.mktemp("postgresql"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    folder = tmp_path_factory.mktemp("server")
    started = MlflowServer(f"sqlite:///{folder}/mlflow.db", folder, free_port())
    started.start()
    try:
        yield Written(started.uri)
    finally:
        started.stop()


KINDS = {"sqlite": SqlStore, "postgresql": SqlStore, "server": RestStore, "client": ClientStore}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def written(request: pytest.FixtureRequest, kind: str) -> Written:
    found = request.getfixturevalue("sqlite" if kind == "client" else kind)
    assert isinstance(found, Written)
    return found


@pytest.fixture
def store(kind: str, written: Written, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowStore]:
    if kind == "client":  # what is special about a store, MLflow's client knows
        monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "a-plugin-of-somebody")
    with mlflow_store.opened(written.uri) as opened:
        assert type(opened) is KINDS[kind]
        yield opened


def test_a_run_comes_back_as_it_was_recorded(store: MlflowStore, written: Written) -> None:
    run = store.run(written.second)
    assert run is not None
    assert (run.run_id, run.mlflow_id, run.name) == ("aa22", written.second, "two")
    assert (run.status, run.started, run.ended) == ("FINISHED", 2.0, 9.5)
    assert run.params == {"lr": "0.1", "note": "“ünïcode”"}
    assert run.tags["kind"] == "p"
    metrics = dict(run.metrics)
    assert math.isnan(metrics.pop("nan"))
    assert metrics == {"loss": pytest.approx(1 / 3), "far": math.inf, "below": -math.inf}
    going_on = store.run(written.first)
    assert going_on is not None
    assert (going_on.status, going_on.ended, going_on.metrics) == ("RUNNING", None, {})


def test_runs_come_newest_first_without_deleted_ones(store: MlflowStore, written: Written) -> None:
    query = RunQuery(tags={"kind": "p"})
    found = store.runs([written.experiment], query, 10)
    assert [run.mlflow_id for run in found] == [written.second, written.first]
    assert [run.mlflow_id for run in store.runs([written.experiment], query, 1)] == [written.second]
    assert store.runs([], query, 10) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (RunQuery(name="one"), ["elsewhere", "first"]),
        (RunQuery(name="o'ne"), None),
        (RunQuery(tags={"mlp.run_id": "bb33"}), ["elsewhere"]),
        (RunQuery(tag_begins=("mlp.run_id", "aa")), ["second", "first"]),
        (RunQuery(tag_begins=("mlp.run_id", "aa"), tags={"mlp.run_id": "aa11"}), ["first"]),
        (RunQuery(tags={"mlp.run_id": "aa"}), []),
    ],
)
def test_runs_are_found_by_name_tag_and_beginning(
    store: MlflowStore, written: Written, query: RunQuery, expected: list[str] | None
) -> None:
    found = store.runs([written.experiment, written.other], query, 10)
    if expected is not None:  # quotes are left out on the way to some
        assert [run.mlflow_id for run in found] == [getattr(written, name) for name in expected]


def test_a_run_is_found_by_the_beginning_of_its_id(store: MlflowStore, written: Written) -> None:
    query = RunQuery(id_begins=written.first[:12])
    found = store.runs([written.experiment, written.other], query, 10)
    assert [run.mlflow_id for run in found] == [written.first]


def test_nested_runs_come_oldest_first(store: MlflowStore, written: Written) -> None:
    assert [run.name for run in store.nested(written.second)] == ["fetch", "train"]
    assert store.nested(written.first) == []


def test_what_is_not_there_is_none(store: MlflowStore, written: Written) -> None:
    assert store.run("0" * 32) is None
    assert store.run("no id at all") is None
    assert store.experiment("unheard of") is None
    assert store.artifact(written.second, "mlp/absent.json") is None
    assert store.artifact(written.first, "mlp/provenance.json") is None
    assert store.model("unheard of") is None
    assert store.versions("unheard of") == []
    assert store.version("unheard of", "1") is None
    assert store.version(MODEL, "99") is None
    assert store.files(MODEL, "99") is None


def test_experiments_go_by_name_and_are_all_listed(store: MlflowStore, written: Written) -> None:
    assert store.experiment("flights 'of' 2013") == written.experiment
    assert {written.experiment, written.other} <= set(store.experiments())


def test_an_artifact_comes_as_it_is(store: MlflowStore, written: Written) -> None:
    assert store.artifact(written.second, "mlp/provenance.json") == b"{}\n"


def test_versions_come_newest_first_with_tags_and_aliases(
    store: MlflowStore, written: Written
) -> None:
    model = store.model(MODEL)
    assert model is not None
    made = written.client.get_registered_model(MODEL).creation_timestamp
    assert (model.made, model.aliases["champion"]) == (made, "2")
    two, one = store.versions(MODEL)
    assert (two.version, one.version) == ("2", "1")
    assert (one.model, one.source, one.run_id) == (MODEL, "s3://models/1", written.second)
    assert one.tags["mlp.digest"] == "d1"
    assert "champion" in two.aliases
    assert store.version(MODEL, "2") == two
    assert store.version(MODEL, "3") is None, "it was deleted"
    assert store.files(MODEL, "1") == "s3://models/1"


def test_aliases_and_tags_that_are_set_are_seen_by_mlflow(
    kind: str, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(act: str, *arguments: object) -> None:
        with monkeypatch.context() as patched:
            if kind == "client":
                patched.setenv("MLFLOW_TRACKING_AUTH", "a-plugin-of-somebody")
            with mlflow_store.opened(written.uri) as store:
                getattr(store, act)(MODEL, *arguments)

    def aliases() -> dict[str, str]:
        return {k: str(v) for k, v in written.client.get_registered_model(MODEL).aliases.items()}

    change("set_alias", "challenger", "1")
    assert aliases()["challenger"] == "1"
    change("set_alias", "challenger", "2")
    assert aliases()["challenger"] == "2"
    change("delete_alias", "challenger")
    change("delete_alias", "challenger")
    assert "challenger" not in aliases()
    change("set_tags", "1", {"mlp.lifecycle": "Archived", "new": "é"})
    change("set_tags", "1", {"mlp.lifecycle": "None"})
    tags = written.client.get_model_version(MODEL, "1").tags
    assert (tags["mlp.lifecycle"], tags["new"], tags["mlp.digest"]) == ("None", "é", "d1")


def test_a_file_that_is_not_there_has_nothing_and_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "mlflow.db"
    with mlflow_store.opened(f"sqlite:///{file}") as store:
        assert store.experiment("any") is None
        assert store.runs(["0"], RunQuery(), 10) == []
        assert store.versions(MODEL) == []
    assert not file.parent.exists()


def test_a_schema_that_we_do_not_know_is_left_to_mlflow(sqlite: Written, tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    shutil.copy(sqlite.uri.removeprefix("sqlite:///"), file)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with (
        pytest.raises(ConfigurationError, match="another MLflow version"),
        mlflow_store.opened(f"sqlite:///{file}") as store,
    ):
        store.experiments()


def test_the_schema_of_the_installed_mlflow_is_known() -> None:
    assert _get_latest_schema_revision() == KNOWN[-1], (
        "MLflow's tables have changed: look whether those that sql_store.py reads are as they were"
    )
