"""Versions that bring Python code along: each answers with its own, never with another one's."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.served import Server, World, until, world

pytestmark = pytest.mark.slow

Answer = tuple[str, int]
ONE, TWO, PLAIN = ("1", 100), ("2", 200), ("3", 3)
WORKERS = 2


@pytest.fixture(scope="module")
def here(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two versions with modules of the same names, one without, and one whose code is broken."""
    made = world(tmp_path_factory.mktemp("code") / "world", shared / "mlflow.db")
    made.register(says="50")
    made.register(says="100")
    made.register()
    made.register(says="1 / 0")
    made.alias("champion", "1")
    return made


@pytest.fixture(scope="module")
def server(here: World) -> Iterator[Server]:
    started = Server(here, workers=WORKERS, drain=3)
    yield started
    assert started.stop() == 0, started.said()


def ask(server: Server) -> Answer:
    """Version and prediction, on a connection of its own: any worker may answer."""
    body = {"dataframe_records": [{"user": "a", "do": ""}]}
    answer = httpx.post(f"{server.url}/invocations", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-model-version"], answer.json()["predictions"][0]


def settled(server: Server, answer: Answer, workers: int = WORKERS) -> bool:
    """Whether there are as many workers as there should be, and all answer so."""
    return len(server.worker_pids()) == workers and {ask(server) for _ in range(10)} == {answer}


@contextmanager
def asked_all_the_time(server: Server) -> Iterator[set[Answer]]:
    """What was answered while the block ran; no request may fail."""
    seen: set[Answer] = set()
    done = threading.Event()

    def go_on() -> None:
        while not done.is_set():
            seen.add(ask(server))

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(go_on)
        try:
            yield seen
        finally:
            done.set()
            asking.result()


def test_each_version_answers_with_its_own_code_whatever_was_loaded_before(
    here: World, server: Server
) -> None:
    assert ask(server) == ONE
    with asked_all_the_time(server) as seen:
        here.alias("champion", "2")
        until(lambda: settled(server, TWO))
        here.alias("challenger", "1")
        here.share("1", 0.5)
        until(lambda: {server.route(str(user)) for user in range(20)} == {"champion", "challenger"})
        here.client.delete_registered_model_alias("demo", "challenger")
        here.alias("champion", "1")  # the challenger becomes champion, which it was before
        until(lambda: settled(server, ONE))
        here.alias("champion", "3")
        until(lambda: settled(server, PLAIN))
    assert seen == {ONE, TWO, PLAIN}
    assert server.metric('mlp_model_loaded{role="champion",version="1"}') == 0.0


def test_a_version_whose_code_does_not_load_leaves_the_one_before_with_the_reason(
    here: World, server: Server
) -> None:
    here.alias("champion", "4")
    told = until(lambda: httpx.get(f"{server.url}/ready").json()["refused"])
    assert "division by zero" in told["4"]
    here.alias("champion", "3")
    until(lambda: settled(server, PLAIN))


def test_a_new_worker_that_is_killed_is_started_again(here: World, server: Server) -> None:
    before = server.worker_pids()
    here.alias("champion", "2")
    os.kill(until(lambda: server.worker_pids() - before).pop(), signal.SIGKILL)
    until(lambda: settled(server, TWO))


def test_one_worker_answers_the_same_before_and_after_a_restart(here: World) -> None:
    here.alias("champion", "1")
    server = Server(here, workers=1, drain=3)
    assert ask(server) == ONE
    here.alias("champion", "2")
    until(lambda: settled(server, TWO, workers=1))
    assert server.stop() == 0, server.said()
    server = Server(here, workers=1, drain=3)
    assert ask(server) == TWO
    assert server.stop() == 0, server.said()
