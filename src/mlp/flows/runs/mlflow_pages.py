"""MLflow's pages on the project's runs."""

import errno
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from mlp.adapters import tracking
from mlp.core.errors import ConfigurationError, MlpError
from mlp.core.secrets import Masker
from mlp.flows.project import Project
from mlp.flows.runs import recording

DEFAULT_PORT = 5000
_PORTS_TRIED = 50
_STARTS_IN_S = 120.0
_ENDS_IN_S = 10.0
_POLL_S = 0.1
_LAST_LINES = 15


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages that are being served: `address` shows the project's experiment.

    `delivering` is the number of runs that are being delivered to MLflow meanwhile.
    """

    address: str
    delivering: int
    server: "subprocess.Popen[bytes]"
    uri: str
    log: IO[bytes]

    def wait(self) -> None:
        """Until the server ends. Raises an MlpError then, for it is not meant to."""
        self.server.wait()
        raise _ended(self.uri, self.log)


def served_already(project: Project) -> str | None:
    """The address of the project's tracking server, None where runs are kept in a database."""
    uri = project.tracking_uri
    return uri if uri.startswith(("http://", "https://")) else None


@contextmanager
def served(project: Project, host: str, port: int | None) -> Iterator[Pages]:
    """Serve the project's store for the block, from when it answers.

    `port` None means the first free one from DEFAULT_PORT on. Raises ConfigurationError where the
    port is taken or the server does not come up.
    """
    chosen = free_port(host) if port is None else port
    if port is not None and not _is_free(host, port):
        raise ConfigurationError(
            f"port {port} of {host} is taken or not yours to use",
            fix="leave --port out: the first free one is used",
        )
    with tempfile.TemporaryFile() as log:
        server = tracking.start_pages(project.tracking_uri, host, chosen, project.root, log)
        try:
            address = _answered(project, server, log, host, chosen)
            # Only now: two processes that make a new database at once are in each other's way.
            runs = recording.undelivered(project.layout)
            if runs:
                recording.deliver(runs, project.tracking_uri)
            yield Pages(address, len(runs), server, project.tracking_uri, log)
        finally:
            _end(server)


def _answered(
    project: Project, server: "subprocess.Popen[bytes]", log: IO[bytes], host: str, port: int
) -> str:
    # "Any of my addresses" is none that a browser can go to.
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    until = time.monotonic() + _STARTS_IN_S
    while True:
        page = tracking.experiment_page(f"http://{name}:{port}", project.config.experiment)
        if server.poll() is not None:
            raise _ended(project.tracking_uri, log)
        if page is not None:
            return page
        if time.monotonic() > until:
            raise ConfigurationError(
                f"MLflow's pages do not answer after {_STARTS_IN_S:.0f} s", cause=_tail(log)
            )
        time.sleep(_POLL_S)


def free_port(host: str) -> int:
    """The first free port from DEFAULT_PORT on. Raises ConfigurationError where there is none."""
    for port in range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED):
        if _is_free(host, port):
            return port
    raise ConfigurationError(
        f"ports {DEFAULT_PORT} to {DEFAULT_PORT + _PORTS_TRIED - 1} of {host} are all taken",
        fix="mlp ui --port PORT",
    )


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # The option that servers set: a port whose last owner has just ended is free.
        socket.create_server((host, port), family=family).close()
    except OSError as e:
        if e.errno in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
            return False
        raise ConfigurationError(
            f"{host!r} is not an address of this machine", fix="mlp ui --host 127.0.0.1"
        ) from e
    return True


def _ended(uri: str, log: IO[bytes]) -> MlpError:
    """Why the server ended: what is wrong with the store, or else what it said last."""
    try:
        tracking.reachable(uri)
    except MlpError as e:
        return e
    return ConfigurationError(
        "MLflow's server ended", fix="`mlp doctor` checks the store", cause=_tail(log)
    )


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return Masker(os.environ).text("\n".join(lines[-_LAST_LINES:]))


def _end(server: "subprocess.Popen[bytes]") -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, how)
        except ProcessLookupError:
            return
        try:
            server.wait(_ENDS_IN_S)
        except subprocess.TimeoutExpired:
            continue
