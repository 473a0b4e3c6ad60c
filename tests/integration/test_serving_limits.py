"""One worker with tight limits: sizes, times, waiting, tokens, a full disk, feedback, the end."""

import gzip
import json
import resource
import signal
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlp.adapters.predictions import log_reading
from tests.integration.served import Server, World, until, world

pytestmark = pytest.mark.slow

TOKEN = "correct horse"
PAGE = "https://app.example"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def here(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Version 1 is the champion, and does what a request says."""
    made = world(tmp_path_factory.mktemp("limits") / "world", shared / "mlflow.db")
    made.register(obeys=True)
    made.alias("champion", "1")
    return made


@pytest.fixture(scope="module")
def server(here: World) -> Iterator[Server]:
    started = Server(
        here,
        environ={"DEMO_TOKEN": TOKEN},
        token_env="DEMO_TOKEN",
        cors=[PAGE],
        max_request="10Ki",
        max_waiting=2,
        timeout=2,
        drain=6,
    )
    started.client.headers.update(BEARER)
    yield started
    started.stop(signal.SIGKILL)


def together(server: Server, count: int, do: str) -> list[httpx.Response]:
    """As many requests at the same time."""
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(server.predict({"do": do}))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_all_but_health_needs_the_token(server: Server) -> None:
    for path in ("/ping", "/health", "/ready"):
        assert httpx.get(server.url + path).status_code == 200
    for path in ("/version", "/metrics", "/docs", "/openapi.json", "/nothing"):
        answer = httpx.get(server.url + path, headers={"authorization": "Bearer wrong"})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert httpx.post(server.url + "/invocations", json={}).status_code == 401
    assert server.predict().status_code == 200
    assert server.predict(authorization=f"bearer {TOKEN}").status_code == 200


def test_a_request_that_is_too_large_is_refused_whether_it_says_so_or_not(server: Server) -> None:
    large = b"x" * 11_000
    assert server.client.post("/invocations", content=large).status_code == 413
    assert server.client.post("/invocations", content=iter([large[:100], large])).status_code == 413
    assert server.client.post("/feedback", content=large).status_code == 413
    assert server.predict().status_code == 200


def test_a_packed_body_is_unpacked_within_the_same_limit(server: Server) -> None:
    body = json.dumps({"dataframe_records": [{"user": "a", "do": ""}]}).encode()

    def sent(content: bytes, encoding: str, path: str = "/invocations") -> httpx.Response:
        headers = {"content-encoding": encoding, "content-type": "application/json"}
        return server.client.post(path, content=content, headers=headers)

    for encoding, pack in (("gzip", gzip.compress), ("Deflate", zlib.compress)):
        assert sent(pack(body), encoding).json() == {"predictions": [1]}
        assert sent(pack(b"x" * 11_000), encoding).status_code == 413
        assert sent(pack(body)[:-9], encoding).status_code == 400
        assert sent(body, encoding).status_code == 400
    assert sent(gzip.compress(b"x" * 11_000), "gzip", "/feedback").status_code == 413
    unknown = sent(body, "br")
    assert unknown.status_code == 415 and "gzip, deflate" in unknown.text


def test_a_page_of_an_allowed_origin_may_ask_and_no_other(server: Server) -> None:
    def asked(origin: str, header: str = "x-route-key") -> httpx.Response:
        asks = {"access-control-request-method": "POST", "access-control-request-headers": header}
        headers = {"origin": origin, **asks}
        return httpx.options(f"{server.url}/invocations", headers=headers)

    assert asked(PAGE).headers["access-control-allow-origin"] == PAGE
    assert asked("https://other.example").status_code == 400
    answer = server.predict(origin=PAGE)
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "X-Model-Version" in answer.headers["access-control-expose-headers"]
    refused = httpx.post(f"{server.url}/invocations", json={}, headers={"origin": PAGE})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
    assert "access-control-allow-origin" not in server.predict(origin="https://o.example").headers
    plain = httpx.options(f"{server.url}/invocations", headers=BEARER)
    assert (plain.status_code, plain.headers["allow"]) == (405, "POST")


def test_a_request_that_does_not_come_to_an_end_is_given_up(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as link:
        link.sendall(
            b"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n"
            + f"authorization: Bearer {TOKEN}\r\n\r\n".encode()
            + b"{"
        )
        assert link.makefile("rb").readline().startswith(b"HTTP/1.1 504 ")


def test_more_requests_than_may_wait_are_told_to_come_back(server: Server) -> None:
    answers = together(server, 8, "wait")
    refused = [a for a in answers if a.status_code == 503]
    assert refused and all(a.headers["retry-after"] == "1" for a in refused)
    assert {a.status_code for a in answers} == {200, 503}
    assert server.predict().status_code == 200


def test_feedback_reaches_the_log_and_other_things_are_refused(server: Server) -> None:
    request_id = server.predict({}, {}).headers["x-request-id"]
    told = [
        {"request_id": request_id, "label": 1},
        {"request_id": request_id, "label": 0, "row": 1},
    ]
    answer = server.client.post("/feedback", json=told)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 2})
    for wrong in ("x", [1], {"request_id": request_id}, {"request_id": 1, "label": 1}):
        assert server.client.post("/feedback", json=wrong).status_code == 400
    for lossy in ("123456789012345678901234567890", "[-9223372036854775809]", "1e400"):
        text = f'{{"request_id": "{request_id}", "label": {lossy}}}'
        assert server.client.post("/feedback", content=text).status_code == 400, lossy
    for exact in (2**64 - 1, -(2**63), 1.5e300, "123456789012345678901234567890"):
        label = {"request_id": f"{request_id}-{exact}", "label": exact}
        assert server.client.post("/feedback", json=label).status_code == 200, exact
    with log_reading.connect(server.log, [server.world.root / "journal"]) as log:
        query = f"SELECT row, label FROM labels WHERE request_id = '{request_id}' ORDER BY row"
        assert [row for row, _ in log.execute(query).fetchall()] == [0, 1]
        others = f"SELECT label FROM labels WHERE starts_with(request_id, '{request_id}-')"
        assert {json.loads(label) for (label,) in log.execute(others).fetchall()} == {
            *(2**64 - 1, -(2**63), 1.5e300, "123456789012345678901234567890"),
        }


def test_with_a_full_disk_predictions_are_answered_and_counted_as_not_logged(
    server: Server,
) -> None:
    (worker,) = server.worker_pids()
    server.predict()
    unlimited = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (10, unlimited[1]))
    try:
        answer = server.predict()
        assert (answer.status_code, answer.headers["x-logged"]) == (200, "false")
        refused = server.client.post("/feedback", json={"request_id": "a", "label": 1})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    finally:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, unlimited)
    assert server.metric("mlp_predictions_unlogged_total") == 1
    assert "x-logged" not in server.predict().headers


def test_the_pages_describe_the_model_and_need_no_other_server(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    post = document["paths"]["/invocations"]["post"]
    assert "user" in str(post["requestBody"]["content"]["application/json"]["schema"])
    page = server.client.get("/docs").text
    assert "POST /invocations" in page and "http://" not in page and "https://" not in page


def test_a_worker_whose_champion_hangs_answers_and_is_replaced(server: Server) -> None:
    (worker,) = server.worker_pids()
    assert server.predict({"do": "hang"}).status_code == 504
    until(lambda: server.worker_pids() and worker not in server.worker_pids())
    until(lambda: ready(server))
    assert server.predict().json() == {"predictions": [1]}


def ready(server: Server) -> bool:
    try:
        return httpx.get(server.url + "/ready").status_code == 200
    except httpx.TransportError:  # the old worker has just gone, or the new one is not there yet
        return False


def test_no_request_is_dropped_at_sigterm(server: Server) -> None:
    """Of clients that a load balancer takes elsewhere once the server is not ready."""
    answered: list[int] = []
    dropped: list[httpx.HTTPError] = []
    left = threading.Event()

    def ask() -> None:
        client = httpx.Client(base_url=server.url, headers=BEARER, timeout=60)
        body = {"dataframe_records": [{"user": "a", "do": ""}]}
        while not left.is_set():
            try:
                answer = client.post("/invocations", json=body)
                answered.append(answer.status_code)
            except httpx.HTTPError as e:
                dropped.append(e)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: len(answered) > 50)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: httpx.get(server.url + "/ready").status_code == 503)
    at = len(answered)
    until(lambda: len(answered) > at + 20)  # it answers while load balancers learn of it
    left.set()
    for thread in threads:
        thread.join()
    server.process.wait()
    assert not dropped, dropped
    assert set(answered) == {200}
    assert server.process.returncode == 0
    assert "Traceback" not in server.said()
