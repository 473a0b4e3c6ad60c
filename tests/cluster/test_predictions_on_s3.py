"""The log of predictions in a real object store: the one that the AWS_* variables name."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mlp.adapters.predictions import segments
from mlp.adapters.predictions.destination import Destination
from mlp.adapters.predictions.log_reading import connect
from mlp.adapters.predictions.pack import Packed, pack
from mlp.adapters.predictions.prediction_journal import PredictionJournal
from mlp.adapters.predictions.samples import samples
from mlp.core.serving.prediction_log import Label
from tests.integration.prediction_writer import served

pytestmark = pytest.mark.cluster


@pytest.fixture
def log() -> Iterator[str]:
    """A folder in a bucket of its own, removed afterwards."""
    bucket = f"mlp-{uuid.uuid4().hex[:8]}"
    store = fsspec.filesystem("s3")
    store.mkdir(bucket)
    yield f"s3://{bucket}/flights/predictions"
    store.rm(bucket, recursive=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def ask(log: str, *journals: Path, sql: str) -> list[Any]:
    with connect(log, journals) as connection:
        return connection.execute(sql).fetchall()


def filled(folder: Path, name: str, count: int = 50) -> None:
    journal = PredictionJournal(folder, "demo")
    for i in range(count):
        assert journal.append(served(f"{name}{i}"))
    assert journal.label([Label(f"{name}0", 1)])
    journal.rotate()


def test_predictions_and_labels_go_to_s3_and_are_read_there(folder: Path, log: str) -> None:
    assert ask(log, folder, sql="SELECT count(*) FROM predictions") == [(0,)]
    filled(folder, "a")
    assert pack(folder, log) == Packed(segments=1, rows=50, labels=1)
    filled(folder, "b")
    count = "SELECT count(*), count(DISTINCT request_id) FROM predictions"
    assert ask(log, folder, sql=count) == [(100, 100)]
    assert ask(log, sql=count) == [(50, 50)]
    pack(folder, log)
    assert ask(log, folder, sql=count) == [(100, 100)]
    assert ask(log, sql="SELECT request_id FROM labelled ORDER BY ALL") == [("a0",), ("b0",)]
    with connect(log) as connection:
        assert len(samples(connection, "demo", ["1"], since=1.0)["row"]) == 100


@pytest.mark.parametrize("owner", [Destination, Path])
def test_a_packer_killed_around_the_put_leaves_each_row_once(
    folder: Path, log: str, owner: type
) -> None:
    filled(folder, "a")
    child = os.fork()
    if not child:
        name = {Destination: "deliver", Path: "unlink"}[owner]
        setattr(owner, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        pack(folder, log)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    count = "SELECT count(*) FROM predictions"
    assert ask(log, folder, sql=count) == [(50,)]
    assert pack(folder, log).rows == 50
    assert not list(segments.found(folder))
    assert ask(log, folder, sql=count) == [(50,)]


def test_what_the_store_refuses_waits(
    folder: Path, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(folder, "a")
    with monkeypatch.context() as patched:
        patched.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        fsspec.filesystem("s3").clear_instance_cache()
        packed = pack(folder, log)
        assert (packed.segments, packed.waiting) == (0, 1)
        assert "check the address, the credentials" in packed.trouble
    fsspec.filesystem("s3").clear_instance_cache()
    assert pack(folder, log).rows == 50
