"""Requests to a deployment from this machine, a bounded number, each with what came of it."""

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

_PAUSE_S = 0.02
_TIMEOUT_S = 60.0
BODY = json.dumps({"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}).encode()
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Asked:
    """A request: when its answer came (monotonic), the version that answered, "" if it failed."""

    at: float
    version: str
    problem: str = ""
    request_id: str = ""


@dataclass
class Load:
    """Clients that ask one request after the other, half of them on a connection that stays."""

    host: str
    port: int
    question: "Question"
    asked: list[Asked] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def failed(self) -> list[str]:
        return [each.problem for each in self.asked if each.problem]

    @property
    def versions(self) -> Counter[str]:
        return Counter(each.version for each in self.asked)

    def last(self, version: str) -> float:
        """When the last answer of a version came."""
        return max(each.at for each in self.asked if each.version == version)

    def run(self, keep: bool, number: int) -> None:
        connection: http.client.HTTPConnection | None = None
        count = 0
        while not self._stop.is_set():
            if connection is None:
                connection = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)
            count += 1
            try:
                asked = self.question(connection, f"user-{number}-{count}")
            except (OSError, http.client.HTTPException) as e:
                asked = Asked(time.monotonic(), "", f"{type(e).__name__}: {e}")
            self.asked.append(asked)
            if asked.problem or not keep:
                connection.close()
                connection = None
            self._stop.wait(_PAUSE_S)
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        self._stop.set()


# What is asked on a connection on behalf of a user; raises what http.client raises.
Question = Callable[[http.client.HTTPConnection, str], Asked]


def ask(connection: http.client.HTTPConnection, key: str) -> Asked:
    """A model whose versions answer their own numbers."""
    answer, body = post(connection, "/invocations", BODY, {"X-Route-Key": key})
    version = answer.headers.get("X-Model-Version", "")
    problem = "" if answer.status == 200 else f"{answer.status}: {body[:200]!r}"
    if not problem and json.loads(body)["predictions"] != [float(version)]:
        problem = f"version {version} answered {body[:200]!r}"
    return Asked(time.monotonic(), version if not problem else "", problem)


def post(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[http.client.HTTPResponse, bytes]:
    """The answer to a request, and its body."""
    connection.request("POST", path, body, {**HEADERS, **headers})
    answer = connection.getresponse()
    return answer, answer.read()


@contextlib.contextmanager
def load(host: str, port: int, question: Question = ask, clients: int = 4) -> Iterator[Load]:
    """Requests without a break during the block; every answer is there when it ends."""
    made = Load(host, port, question)
    threads = [
        threading.Thread(target=made.run, args=(i % 2 == 0, i), name=f"client {i}")
        for i in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.stop()
        for thread in threads:
            thread.join()
