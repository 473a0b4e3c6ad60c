"""A server whose supervisor is killed, and the one that is started in its place at once."""

import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from mlp.adapters.predictions import log_reading
from tests.integration.served import Server, World, until, world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def here(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    made = world(tmp_path_factory.mktemp("anew") / "world", shared / "mlflow.db")
    made.register(obeys=True)
    made.alias("champion", "1")
    return made


def test_a_server_takes_the_port_of_one_that_was_killed_and_nothing_is_lost(here: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = Server(here, port=port, workers=2)
    acknowledged: list[str] = []
    slow: list[httpx.Response] = []
    done = threading.Event()

    def ask() -> None:
        body = {"dataframe_records": [{"user": "a", "do": ""}]}
        while not done.is_set():
            try:
                answer = httpx.post(first.url + "/invocations", json=body, timeout=60)
            except httpx.TransportError:
                continue
            assert answer.status_code == 200, answer.text
            acknowledged.append(answer.headers["x-request-id"])

    asking = [
        threading.Thread(target=ask),
        threading.Thread(target=lambda: slow.append(first.predict({"do": "wait"}))),
    ]
    for thread in asking:
        thread.start()
    until(lambda: len(acknowledged) > 20)
    orphans = first.worker_pids()
    first.process.send_signal(signal.SIGKILL)
    started = time.monotonic()
    second = Server(here, port=port, workers=2)
    try:
        assert time.monotonic() - started < 30
        at = len(acknowledged)
        until(lambda: len(acknowledged) > at + 20)
        until(lambda: not [pid for pid in orphans if Path(f"/proc/{pid}").exists()])
    finally:
        done.set()
        for thread in asking:
            thread.join()
        first.stop()
        assert second.stop() == 0, second.said()
    assert slow[0].json() == {"predictions": [1]}  # it was accepted before
    assert second.said().count("the supervisor has gone") == 2
    with log_reading.connect(here.root / "predictions", [here.root / "journal"]) as log:
        found = {row[0] for row in log.execute("SELECT request_id FROM predictions").fetchall()}
    assert {*acknowledged, slow[0].headers["x-request-id"]} <= found
