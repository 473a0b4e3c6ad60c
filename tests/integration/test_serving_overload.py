"""More than a champion can answer in time, and a challenger that is not there, and the log."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mlp.adapters.predictions import log_reading
from mlp.core.ab.traffic import position
from tests.integration.served import MODEL, Server, World, until, world

pytestmark = pytest.mark.slow

AT_ONCE = 20


@pytest.fixture(scope="module")
def here(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Version 1 is the champion, and does what a request says; version 2 cannot be loaded."""
    made = world(tmp_path_factory.mktemp("overload") / "world", shared / "mlflow.db")
    made.register(obeys=True)
    made.register()
    made.alias("champion", "1")
    (made.files("2") / "python_env.yaml").write_text("not what was registered\n")
    return made


@pytest.fixture(scope="module")
def server(here: World) -> Iterator[Server]:
    started = Server(here, timeout=2)
    yield started
    started.stop(signal.SIGKILL)


def logged(server: Server, query: str) -> list[tuple[object, ...]]:
    with log_reading.connect(server.log, [server.world.root / "journal"]) as log:
        return log.execute(query).fetchall()


def burst(server: Server) -> Counter[int]:
    """The statuses of requests that come at once and take half a second each."""
    gate = threading.Barrier(AT_ONCE)

    def ask(number: int) -> int:
        body = {"dataframe_records": [{"user": "a", "do": "wait"}]}
        headers = {"x-request-id": f"burst-{number}"}
        with httpx.Client(base_url=server.url, timeout=60) as client:
            gate.wait()
            return client.post("/invocations", json=body, headers=headers).status_code

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return Counter(threads.map(ask, range(AT_ONCE)))


def test_after_more_than_it_can_answer_a_champion_answers_again_and_the_log_tells_who_got_none(
    server: Server,
) -> None:
    statuses = burst(server)
    assert statuses.keys() == {200, 504}, "each takes half a second, and two are given"
    assert server.predict().status_code == 200, "nobody waits for the rest any more"
    query = "SELECT status FROM predictions WHERE request_id LIKE 'burst-%'"
    found = Counter(status for (status,) in logged(server, query))
    assert found[200] == statuses[200]
    assert found.keys() <= {200, 504} and found[504] <= 2, "the rest was never asked"


def test_what_could_not_be_answered_in_time_is_refused_at_once(server: Server) -> None:
    for _ in range(10):  # now it is known how slow the champion is
        assert server.predict({"do": "wait"}).status_code == 200
    statuses = burst(server)
    assert statuses[503] >= AT_ONCE / 2 and statuses[200] >= 2


def test_users_of_a_challenger_that_is_not_there_are_logged_as_the_challengers(
    server: Server,
) -> None:
    server.world.alias("challenger", "2")
    server.world.share("2", 0.5)
    server.await_all(lambda about: about["traffic"]["share"] == 0.5)
    users = [f"user-{number}" for number in range(20)]
    theirs = {user for user in users if position(f"{MODEL}/2", user) < 0.5}
    for user in users:
        answer = server.predict(x_route_key=user, x_request_id=f"alone-{user}")
        assert (answer.json(), answer.headers["x-route"]) == ({"predictions": [1]}, "champion")
    expected = {(user, "1", "challenger" if user in theirs else "champion") for user in users}
    query = "SELECT user_key, version, route FROM predictions WHERE request_id LIKE 'alone-%'"
    assert set(logged(server, query)) == expected
    assert until(lambda: "cannot start the challenger, version 2" in server.said())


def test_rows_of_both_are_told_apart_while_the_challenger_is_not_there(here: World) -> None:
    users = [f"user-{number}" for number in range(20)]
    server = Server(here, route_by="user")
    try:
        server.await_all(lambda about: about["traffic"]["share"] == 0.5)
        rows = [{"user": user} for user in users]
        assert server.predict(*rows, x_request_id="rows").json() == {"predictions": [1] * 20}
        query = "SELECT row, user_key, route FROM predictions WHERE request_id = 'rows'"
        found = logged(server, query)
    finally:
        server.stop(signal.SIGKILL)
    assert {(row, user) for row, user, _ in found} == set(enumerate(users))
    for _, user, route in found:
        there = position(f"{MODEL}/2", str(user)) < 0.5
        assert route == ("challenger" if there else "champion")
