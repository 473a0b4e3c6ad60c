"""How the nodes of a gang end together.

torchrun lets them begin together, and begin again. But a node whose ranks are done may not leave
while node 0 still stores the outputs: were node 0 lost then, there would be nobody to begin again
with. Each node keeps a connection to node 0 for as long as it lives, and says and hears over it
how it ended. One line is a message.
"""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

DONE, FAILED = b"done\n", b"failed\n"
_RETRY_S, _MAX_RETRY_S = 0.2, 2.0


@dataclass
class FinishLine:
    """Node 0's end. `on_failure` is called once, when a node has failed for good."""

    port: int
    on_failure: Callable[[], None]
    _members: list[socket.socket] = field(default_factory=list)
    _failed: bool = False

    def __post_init__(self) -> None:
        self._server = socket.create_server(("", self.port), backlog=4096)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def failed(self) -> bool:
        """Whether a node has failed for good."""
        return self._failed

    def announce(self, verdict: bytes) -> None:
        """Tell every node how it ended, DONE or FAILED."""
        for member in self._members:
            try:
                member.sendall(verdict)
            except OSError:  # gone: it is told when it connects again, or by the Job's end
                continue

    def _accept(self) -> None:
        while True:
            member, _ = self._server.accept()
            self._members.append(member)
            threading.Thread(target=self._listen, args=(member,), daemon=True).start()

    def _listen(self, member: socket.socket) -> None:
        try:
            word = member.makefile("rb").readline()
        except OSError:
            return  # it will be replaced, and torchrun begins again
        if word == FAILED and not self._failed:
            self._failed = True
            self.on_failure()


class Member:
    """Another node's end. `on_failure` is called once, when the gang has failed for good.

    Raises TimeoutError where node 0 does not answer within `timeout` seconds.
    """

    def __init__(
        self, host: str, port: int, timeout: float, on_failure: Callable[[], None]
    ) -> None:
        self._on_failure = on_failure
        self._socket = _connect(host, port, timeout)
        self._verdict: bytes | None = None
        self._heard = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def failed(self) -> bool:
        """Whether the gang has failed for good."""
        return self._verdict == FAILED

    def report_failure(self) -> None:
        """Say that this node has failed for good."""
        try:
            self._socket.sendall(FAILED)
        except OSError:
            return  # node 0 is gone itself

    def wait(self) -> bool:
        """Wait until node 0 has stored the outputs; returns whether it did. False: it is lost."""
        self._heard.wait()
        return self._verdict == DONE

    def _listen(self) -> None:
        try:
            self._verdict = self._socket.makefile("rb").readline()
        except OSError:
            self._verdict = b""
        self._heard.set()
        if self._verdict == FAILED:
            self._on_failure()


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    until = time.monotonic() + timeout
    wait = _RETRY_S
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=5)
        except OSError as e:  # no address yet, or nobody listens yet
            if time.monotonic() > until:
                raise TimeoutError(f"{host} has not answered for {timeout:.0f} s: {e}") from e
            time.sleep(wait)
            wait = min(wait * 2, _MAX_RETRY_S)  # each asks the DNS: a thousand nodes often enough
            continue
        connection.settimeout(None)
        _keep_alive(connection)
        return connection


def _keep_alive(connection: socket.socket) -> None:
    """Notice within half a minute that the other machine is gone without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
