"""What every state database keeps, SQLite and PostgreSQL alike."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from mlp.adapters.state import Conflict, StateDatabase, open_state
from mlp.core.errors import ConfigurationError, RemoteError
from mlp.core.models.ledger import Action, LedgerEntry
from mlp.core.secrets import mask_urls
from tests.cluster.servers import free_port, postgres


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as uri:
        yield uri


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("server"))
    return f"sqlite:///{tmp_path}/deep/state.db"


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)  # one ledger for each test in the shared server


@pytest.fixture
def state(uri: str) -> Iterator[StateDatabase]:
    opened = open_state(uri)
    yield opened
    opened.close()


def entry(model: str, version: str = "1", **more: object) -> LedgerEntry:
    return LedgerEntry(model, Action.PROMOTED, version, **more)  # type: ignore[arg-type]


def test_entries_come_back_as_they_were_in_order(state: StateDatabase, model: str) -> None:
    first = state.append(
        entry(model, alias="champion", actor="ann", reason='it\'s "good" 💡', evidence={"f1": 0.5}),
        after=0,
    )
    second = state.append_next(entry(model, "2", previous="1"))
    assert (first.number, second.number) == (1, 2)
    assert first.at > 0
    assert state.entries(model) == [first, second]
    assert state.entries(model, after=1) == [second]
    assert (state.last(model), state.last("another")) == (2, 0)
    assert model in state.models()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {table} SET reason = 'another' WHERE model = :model",
        "UPDATE {table} SET number = number + 1 WHERE model = :model",
        "DELETE FROM {table} WHERE model = :model",
        "TRUNCATE {table}",
    ],
)
def test_the_database_itself_refuses_to_change_or_delete(
    state: StateDatabase, uri: str, model: str, change: str
) -> None:
    if change.startswith("TRUNCATE") and uri.startswith("sqlite"):
        change = "DELETE FROM {table}"  # how SQLite spells it
    kept = state.append_next(entry(model))
    engine = create_engine(uri.replace("postgresql://", "postgresql+psycopg2://"))
    statement = text(change.format(table="mlp_ledger"))
    given = {"model": model} if ":model" in change else {}
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(statement, given)
    engine.dispose()
    assert state.entries(model) == [kept]


def test_of_those_who_append_after_the_same_entry_one_wins(
    state: StateDatabase, model: str
) -> None:
    won: list[int] = []
    lost: list[Conflict] = []
    together = threading.Barrier(8)

    def promote(number: int) -> None:
        together.wait()
        try:
            state.append(entry(model, str(number)), after=0)
            won.append(number)
        except Conflict as e:
            lost.append(e)

    threads = [threading.Thread(target=promote, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert [e.version for e in state.entries(model)] == [str(won[0])]
    assert "mlp models history" in lost[0].fix


def test_an_entry_that_is_to_be_there_once_is_there_once(uri: str, model: str) -> None:
    """As of many workers that take the same challenger out."""
    out = LedgerEntry(model, Action.TAKEN_OUT, "2")

    def said(entries: list[LedgerEntry]) -> bool:
        return any(each.action == Action.TAKEN_OUT for each in entries)

    kept: list[LedgerEntry | None] = []

    def take_out() -> None:
        mine = open_state(uri)
        kept.append(mine.append_once(out, said))
        mine.close()

    threads = [threading.Thread(target=take_out) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([each for each in kept if each is not None]) == 1
    opened = open_state(uri)
    assert len(opened.entries(model)) == 1
    opened.close()


def test_one_holds_a_models_lock_and_the_others_are_told(uri: str, model: str) -> None:
    one, other = open_state(uri), open_state(uri)
    with one.locked(model):
        with pytest.raises(Conflict, match="another change of model"), other.locked(model, 0.1):
            pytest.fail("two hold it")
        with other.locked(f"{model}-2", 1):
            pass  # another model's lock is free
    with other.locked(model, 1):
        pass
    one.close()
    other.close()


def test_a_server_that_is_away_is_told_without_its_password() -> None:
    away = open_state(f"postgresql://ann:s3cretword@127.0.0.1:{free_port()}/mlp")
    with pytest.raises(RemoteError) as told:
        away.entries("demo")
    assert "s3cretword" not in f"{told.value.message}{told.value.cause}{told.value.fix}"


@pytest.mark.parametrize("part", ["database", "username"])
def test_a_database_or_role_that_does_not_exist_is_a_mistake_in_the_address(
    server: str, part: str
) -> None:
    wrong = make_url(server).set(**{part: "nothere"}).render_as_string(hide_password=False)
    with pytest.raises(ConfigurationError, match='"nothere" does not exist') as told:
        open_state(wrong).entries("demo")
    assert "`state` in mlp.yaml" in told.value.fix


def test_a_wrong_password_is_a_mistake_in_the_address() -> None:
    with postgres("the-right-one") as uri:
        wrong = make_url(uri).set(password="s3cretword").render_as_string(hide_password=False)
        with pytest.raises(ConfigurationError, match="password authentication failed") as told:
            open_state(wrong).entries("demo")
    assert "s3cretword" not in f"{told.value.message}{told.value.cause}{told.value.fix}"


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="mysql") as told:
        open_state("mysql://host/db").entries("demo")
    assert mask_urls(told.value.fix) == told.value.fix  # it is to be read as it was written


def test_a_sqlite_file_and_its_locks_lie_where_sqlalchemy_opens_it(tmp_path: Path) -> None:
    state = open_state(f"sqlite:///{tmp_path}/a%20b/state.db")
    with state.locked("m"):
        state.append_next(entry("m"))
    state.close()
    assert [folder.name for folder in tmp_path.iterdir()] == ["a b"]
    assert {"state.db"} < {file.name for file in (tmp_path / "a b").iterdir()}
