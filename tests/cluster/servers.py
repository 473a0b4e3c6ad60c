"""What stands outside of the cluster in a real installation: PostgreSQL, MLflow, S3."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# Where the pods reach servers that the tests start on this machine.
HOST = os.environ.get("MLP_TEST_HOST", "127.0.0.1")
_PATIENCE_S = 300.0


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def postgres(password: str | None = None) -> Iterator[str]:
    """A PostgreSQL server with an empty database; yields its address. It refuses to run as root.

    With a password the pods reach it too, at the address that is yielded then.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not installed:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    programs = installed[-1]
    port = free_port()
    # Not in pytest's directory, which is for its owner alone.
    folder = Path(tempfile.mkdtemp(prefix="mlp-postgres-"))
    data = folder / "data"
    data.mkdir()
    prefix = []
    if os.geteuid() == 0:
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        for path in (folder, data):
            shutil.chown(path, "postgres", "postgres")
    run = [*prefix, str(programs / "initdb"), "--auth=trust", "--username=mlflow", str(data)]
    if password is not None:
        secret = folder / "password"
        secret.write_text(password)
        secret.chmod(0o644)
        run += ["--auth-host=scram-sha-256", f"--pwfile={secret}"]
    subprocess.run(run, check=True, capture_output=True, cwd="/")
    if password is not None:
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
    hosts = "127.0.0.1" if password is None else f"127.0.0.1,{HOST}"
    server = subprocess.Popen(
        [
            *(*prefix, str(programs / "postgres"), "-D", str(data), "-h", hosts),
            *("-p", str(port), "-k", str(data), "-c", "fsync=off"),
        ],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=(folder / "log").open("wb"),
    )
    try:
        _await_ready(programs / "pg_isready", port, server)
        who = "mlflow@127.0.0.1" if password is None else f"mlflow:{password}@{HOST}"
        yield f"postgresql+psycopg2://{who}:{port}/postgres"
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: nothing in it is kept
        server.wait()
        shutil.rmtree(folder)


@dataclass
class MlflowServer:
    """An MLflow server that can be away for a while."""

    store: str
    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def uri(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        environ = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                    *("--backend-store-uri", self.store, "--host", HOST, "--port", str(self.port)),
                    *("--artifacts-destination", str(self.folder / "artifacts")),
                    *("--allowed-hosts", "*"),
                ],
                env=environ,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                assert time.monotonic() < until, (self.folder / "log").read_text()
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


def make_bucket() -> str:
    """A bucket of its own on the S3 server that the AWS variables name."""
    import s3fs

    name = f"mlp-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem().mkdir(name)
    return name


def remove_bucket(name: str) -> None:
    """Remove a bucket and all in it."""
    import s3fs

    s3fs.S3FileSystem().rm(name, recursive=True)


def _await_ready(program: Path, port: int, server: "subprocess.Popen[bytes]") -> None:
    """Wait until PostgreSQL takes connections: it listens some time before."""
    until = time.monotonic() + _PATIENCE_S
    asked = [str(program), "--quiet", "--host=127.0.0.1", f"--port={port}"]
    while subprocess.run(asked, check=False).returncode != 0:
        assert server.poll() is None and time.monotonic() < until
        time.sleep(0.1)
