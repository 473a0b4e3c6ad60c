"""The tests' S3 server behind an address of its own, which answers 500 when it is told to."""

import contextlib
import http.client
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.cluster.servers import HOST

_FAILURE = b"<Error><Code>InternalError</Code><Message>as told</Message></Error>"


class FlakyS3:
    """What stands between S3 and its clients, and when it fails."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[tuple[str, float]] = []
        self._away_after = ""
        self._until = 0.0
        self.failed = 0

    def fail(self, seconds: float, part: str) -> None:
        """From the next upload to a path with `part` in it, fail for so many seconds."""
        with self._lock:
            self._rules.append((part, seconds))

    def go_away_after(self, part: str) -> None:
        """Fail for good, until `come_back`, once an upload to a path with `part` is done."""
        self._away_after = part

    def come_back(self) -> None:
        self._away_after, self._until = "", 0.0

    def refuses(self, method: str, path: str) -> bool:
        """Whether this request fails."""
        with self._lock:
            for rule in self._rules:
                if method == "PUT" and rule[0] in path:
                    self._rules.remove(rule)
                    self._until = time.monotonic() + rule[1]
                    break
            refused = time.monotonic() < self._until
            self.failed += refused
            return refused

    def done(self, method: str, path: str) -> None:
        """A request was passed on and answered."""
        if method == "PUT" and self._away_after and self._away_after in path:
            self._until = float("inf")


@contextlib.contextmanager
def flaky_s3() -> Iterator[tuple[FlakyS3, str]]:
    """The faults, and the address at which this machine and the pods reach it."""
    faults = FlakyS3()
    behind = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if faults.refuses(self.command, self.path):
                self.send(500, [("Content-Type", "application/xml")], _FAILURE)
                return
            there = http.client.HTTPConnection(behind, timeout=60)
            # With the caller's own headers, of which the signature is made.
            there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                there.putheader(name, value)
            there.endheaders(body or None)
            answer = there.getresponse()
            headers = [h for h in answer.getheaders() if h[0].lower() != "transfer-encoding"]
            self.send(answer.status, headers, answer.read())
            faults.done(self.command, self.path)

        def send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            length = [v for name, v in headers if name.lower() == "content-length"]
            for name, value in headers:
                self.send_header(name, value)
            if not length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield faults, f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
