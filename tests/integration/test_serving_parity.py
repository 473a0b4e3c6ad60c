"""`mlflow models serve` and `mlp serve` side by side: the same status and the same body."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from . import scoring_models as models
from . import scoring_servers as servers

pytestmark = pytest.mark.slow

NAMES = ("logistic", "torch", "words")
Pair = tuple[httpx.Client, httpx.Client]


@pytest.fixture(scope="module")
def pairs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pair]]:
    """For each model a client of MLflow's server and one of ours, all started at once."""
    with ExitStack() as stack, ThreadPoolExecutor(2 * len(NAMES)) as pool:
        starting = {}
        for name in NAMES:
            folder = tmp_path_factory.mktemp(name)
            models.makers()[name](folder / "model")
            uri = servers.registered(shared / "mlflow.db", folder, name, folder / "model")
            both = servers.mlflows(folder, folder / "model"), servers.ours(folder, name, uri)
            starting[name] = [(server, pool.submit(server.__enter__)) for server in both]
        for server, _ in (one for both in starting.values() for one in both):
            stack.push(server.__exit__)
        # MLflow's server closes the connection where it fails, which a client may learn too late.
        once = httpx.Limits(max_keepalive_connections=0)

        def client(started: Future[str]) -> httpx.Client:
            made = httpx.Client(base_url=started.result(), timeout=60, limits=once)
            return stack.enter_context(made)

        yield {name: (client(a[1]), client(b[1])) for name, (a, b) in starting.items()}


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_the_same(name: str, pairs: dict[str, Pair]) -> None:
    theirs, mine = pairs[name]
    values = dict(list(models.values(name).items())[::7])
    for what, (body, kind) in {**models.good(name), **models.bad(), **values}.items():
        if kind is not None and kind != kind.strip():  # which no client sends
            continue
        headers = {} if kind is None else {"content-type": kind}
        wanted = theirs.post("/invocations", content=body, headers=headers)
        found = mine.post("/invocations", content=body, headers=headers)
        if wanted.status_code == 500:  # it fails before the model is asked
            assert 400 <= found.status_code < 500, what
            continue
        assert found.status_code == wanted.status_code, what
        assert models.alike(found.content, wanted.content), what
        assert found.headers["content-type"] == wanted.headers["content-type"], what


def test_the_other_paths_are_the_same(pairs: dict[str, Pair]) -> None:
    theirs, mine = pairs["logistic"]
    for method, path in (
        *(("GET", p) for p in ("/ping", "/health", "/version", "/invocations", "/nowhere", "/")),
        *(("POST", p) for p in ("/ping", "/version", "/nowhere")),
        ("HEAD", "/ping"), ("PUT", "/invocations"), ("DELETE", "/health"),
    ):  # fmt: skip
        wanted, found = (client.request(method, path) for client in (theirs, mine))
        assert found.status_code == wanted.status_code, (method, path)
        assert found.content == wanted.content, (method, path)
