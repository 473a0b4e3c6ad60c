"""One server with two workers: routing, trouble of the challenger, hot reload, metrics, the end."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlp.adapters.predictions import log_reading
from mlp.core.ab.traffic import position
from tests.integration.served import MODEL, Server, World, until, world

pytestmark = pytest.mark.slow

KEYS = [f"user-{i}" for i in range(60)]


@pytest.fixture(scope="module")
def here(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Version 1 is the champion; 2 does what a request says; 3 and 4 are as 1."""
    made = world(tmp_path_factory.mktemp("serving") / "world", shared / "mlflow.db")
    for obeys in (False, True, False, False):
        made.register(obeys=obeys)
    made.alias("champion", "1")
    return made


@pytest.fixture(scope="module")
def server(here: World) -> Iterator[Server]:
    started = Server(
        here, workers=2, drain=6, route_by="user", challenger_memory="600Mi", max_latency_ms=500
    )
    yield started
    assert started.stop() == 0, started.said()
    assert not [line for line in started.said().splitlines() if "Traceback" in line]


def challenge(server: Server, share: float, version: str = "2", shadow: bool = False) -> None:
    """Let the version be the challenger with that share, in every worker."""
    server.world.alias("challenger", version)
    server.world.share(version, share, shadow)
    wanted = {"challenger": version, "share": share, "shadow": shadow}
    server.await_all(lambda about: about["traffic"].items() >= wanted.items())
    if share:
        server.await_all(lambda about: about["challenger_ready"])


def expected(key: str, share: float, version: str = "2") -> str:
    return "challenger" if position(f"{MODEL}/{version}", key) < share else "champion"


def test_every_worker_routes_a_user_alike_and_a_share_moves_only_whom_it_must(
    server: Server,
) -> None:
    challenge(server, 0.3)
    before = {key: server.route(key) for key in KEYS}
    assert before == {key: expected(key, 0.3) for key in KEYS}
    challenge(server, 0.6)
    after = {key: server.route(key) for key in KEYS}
    moved = {key for key in KEYS if before[key] != after[key]}
    assert moved and all(before[key] == "champion" for key in moved)
    column = {key: server.predict({"user": key}).headers["x-route"] for key in KEYS}
    assert column == after


def test_a_key_is_the_same_in_the_header_and_in_the_column(server: Server) -> None:
    challenge(server, 0.5)
    keys = [f"Jürgen-{i}-日本" for i in range(12)]
    by_column = [server.predict({"user": key}).headers["x-route"] for key in keys]
    # httpx takes bytes only for what is not ASCII
    by_header = [server.predict(x_route_key=key.encode()).headers["x-route"] for key in keys]  # type: ignore[arg-type]
    assert by_header == by_column == [expected(key, 0.5) for key in keys]
    latin = server.predict(x_route_key="ü".encode("latin-1"))  # type: ignore[arg-type]
    assert latin.headers["x-route"] == expected("ü", 0.5)


def test_rows_are_routed_each_by_its_key_and_come_back_in_order(server: Server) -> None:
    challenge(server, 0.5)
    answer = server.predict(*({"user": key} for key in KEYS))
    says = {"challenger": 2, "champion": 1}
    assert answer.json() == {"predictions": [says[expected(key, 0.5)] for key in KEYS]}
    assert answer.headers["x-route"] == "both"
    assert answer.headers["x-model-version"] == "1,2"


def test_a_request_that_no_version_can_answer_is_not_the_challengers_fault(
    server: Server,
) -> None:
    challenge(server, 1.0)
    before = len(server.world.taken_out())
    for _ in range(20):
        answer = server.client.post("/invocations", json={"dataframe_records": [{"other": 1}]})
        assert answer.status_code == 400
    assert server.route("a") == "challenger"
    assert len(server.world.taken_out()) == before


def test_the_champion_answers_for_a_challenger_that_fails_and_it_is_taken_out_once(
    server: Server,
) -> None:
    challenge(server, 1.0)

    def provoked() -> bool:
        champion_answers(server, "raise")
        return bool(server.world.taken_out())

    until(provoked)
    server.await_all(lambda about: about["traffic"]["share"] == 0)
    (entry,) = server.world.taken_out()
    assert entry.version == "2" and entry.actor == "mlp serve"
    assert "RuntimeError: as told" in entry.evidence["troubles"][0]
    until(lambda: not server.challenger_pids())
    assert server.route("anybody") == "champion"


def test_a_challenger_that_crashes_and_leaks_is_ended_and_taken_out_at_the_second_time(
    server: Server,
) -> None:
    challenge(server, 1.0)
    before = len(server.world.taken_out())
    champion_answers(server, "segfault")
    while len(server.world.taken_out()) == before:
        champion_answers(server, "leak")
    server.await_all(lambda about: about["traffic"]["share"] == 0)
    (entry,) = server.world.taken_out()[before:]
    assert len(entry.evidence["ended"]) == 2
    assert "challenger_memory" in entry.evidence["ended"][-1]
    assert server.route("anybody") == "champion"


def champion_answers(server: Server, trouble: str) -> None:
    answer = server.predict({"do": trouble})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-route"] == "champion"
    assert answer.json() == {"predictions": [1]}


def test_a_challenger_that_hangs_is_killed_and_its_request_answered(server: Server) -> None:
    challenge(server, 1.0)
    before = server.challenger_pids()
    slow = server.metric('mlp_fallbacks_total{reason="slow"}')
    champion_answers(server, "hang")
    assert server.metric('mlp_fallbacks_total{reason="slow"}') == slow + 1
    until(lambda: before - server.challenger_pids())
    assert server.metric('mlp_challenger_killed_total{reason="hang"}') == 1


def test_in_shadow_the_champion_answers_whatever_the_challenger_does(server: Server) -> None:
    challenge(server, 1.0, shadow=True)
    counted = server.metric('mlp_shadow_requests_total{outcome="answered"}')
    assert server.predict().headers["x-route"] == "champion"
    name = 'mlp_shadow_requests_total{outcome="answered"}'
    until(lambda: server.metric(name) == counted + 1)
    challenge(server, 0.0)


def test_a_new_champion_comes_without_a_gap_and_the_old_one_comes_back(server: Server) -> None:
    challenge(server, 0.0)
    answered: list[int] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not done.is_set():
                body = {"dataframe_records": [{"user": "a", "do": ""}]}
                answered.append(client.post("/invocations", json=body).json()["predictions"][0])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for version in ("3", "1"):
            server.world.alias("champion", version)
            server.await_all(lambda about, v=version: about["champion"] == v)
            seen = len(answered)
            until(lambda n=seen: len(answered) > n + 1)
            assert server.predict().json() == {"predictions": [int(version)]}
    finally:
        done.set()
        asking.join()
    assert set(answered) == {1, 3}


def test_a_version_whose_files_are_not_those_registered_is_refused(server: Server) -> None:
    (server.world.files("4") / "python_env.yaml").write_text("python: none\n")
    server.world.alias("champion", "4")
    server.await_all(lambda about: "not those registered" in about["refused"].get("4", ""))
    server.await_all(lambda about: about["ready"] and about["champion"] == "1")
    assert server.predict().json() == {"predictions": [1]}
    server.world.alias("champion", "1")
    server.await_all(lambda about: about["traffic"]["champion"] == "1" and not about["refused"])


def test_it_goes_on_while_the_registry_is_away(server: Server) -> None:
    path = server.world.root / "mlflow.db"
    with path.open("r+b") as file:
        head = file.read(100)
        file.seek(0)
        file.write(b"x" * 100)
    try:
        server.await_all(lambda about: "registry" in about["away"] and about["ready"])
        assert server.predict().status_code == 200
    finally:
        with path.open("r+b") as file:
            file.write(head)
    server.await_all(lambda about: not about["away"])
    said = server.said()
    (gone, *more) = [line for line in said.splitlines() if "worker 0: registry is away" in line]
    assert not more and "file is not a database" in gone
    assert "[SQL:" not in said and "SQLAlchemy" not in said
    assert "traffic: champion 1; challenger 2 answers 50 % of the users" in said
    assert "Traffic(" not in said


def test_counts_of_all_workers_add_up(server: Server) -> None:
    name = 'mlp_requests_total{route="champion",status="200",version="1"}'
    before = server.metric(name)
    for key in KEYS:
        server.route(key)
    until(lambda: server.metric(name) == before + len(KEYS))
    assert server.metric('mlp_model_loaded{role="champion",version="1"}') == 1
    assert server.metric("mlp_in_flight") == 0


def test_request_ids_are_taken_or_made(server: Server) -> None:
    assert server.predict(x_request_id="order-17").headers["x-request-id"] == "order-17"
    made = server.predict(x_request_id="<script>").headers["x-request-id"]
    assert len(made) == 32 and made != server.predict().headers["x-request-id"]


def test_a_killed_worker_loses_only_what_it_was_answering_and_is_replaced(
    server: Server,
) -> None:
    workers = server.worker_pids()
    acknowledged: list[str] = []
    lost: list[Exception] = []
    done = threading.Event()

    def ask(number: int) -> None:
        client = httpx.Client(base_url=server.url, timeout=60)
        body = {"dataframe_records": [{"user": "a", "do": ""}]}
        while not done.is_set():
            try:
                answer = client.post("/invocations", json=body)
            except httpx.TransportError as e:
                lost.append(e)
                continue
            assert answer.status_code == 200, answer.text
            acknowledged.append(answer.headers["x-request-id"])

    asking = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in asking:
        thread.start()
    try:
        until(lambda: len(acknowledged) > 50)
        os.kill(min(workers), signal.SIGKILL)
        at = len(acknowledged)
        until(lambda: len(acknowledged) > at + 50)
        until(lambda: len(server.worker_pids()) == 2 and min(workers) not in server.worker_pids())
    finally:
        done.set()
        for thread in asking:
            thread.join()
    assert len(lost) <= len(asking), lost
    server.await_all(lambda about: about["ready"])
    assert server.metric("mlp_in_flight") == 0
    assert set(acknowledged) <= logged(server)


def logged(server: Server) -> set[str]:
    with log_reading.connect(server.log, [server.world.root / "journal"]) as log:
        return {row[0] for row in log.execute("SELECT request_id FROM predictions").fetchall()}


@pytest.mark.parametrize("trouble", ["linger", "fork"])
def test_a_challenger_that_does_not_let_go_holds_nobody_up_and_is_replaced(
    server: Server, trouble: str
) -> None:
    server.world.alias("champion", "1")
    server.await_all(lambda about: about["champion"] == "1")
    challenge(server, 1.0)
    before, out = server.challenger_pids(), len(server.world.taken_out())
    champion_answers(server, trouble)
    assert server.predict().json() == {"predictions": [1]} or server.route("a") == "challenger"
    until(lambda: before - server.challenger_pids())
    until(lambda: server.challenger_pids() - before or len(server.world.taken_out()) > out)
