"""Predictions on their way to the log: nothing acknowledged is lost, or counted twice."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlp.adapters.predictions import pack as packing
from mlp.adapters.predictions import segments
from mlp.adapters.predictions.destination import Destination
from mlp.adapters.predictions.log_reading import connect
from mlp.adapters.predictions.pack import Packed, pack
from mlp.adapters.predictions.prediction_journal import Keeping, PredictionJournal
from mlp.adapters.predictions.samples import samples
from mlp.core.errors import MlpError, RemoteError
from mlp.core.serving.prediction_log import Label, Served
from tests.integration.prediction_writer import served

WRITER = [sys.executable, "-m", "tests.integration.prediction_writer"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def ask(log: Path, *journals: Path, sql: str) -> list[Any]:
    with connect(log, journals) as connection:
        return connection.execute(sql).fetchall()


def ids(log: Path, *journals: Path) -> list[str]:
    return [row[0] for row in ask(log, *journals, sql="SELECT request_id FROM predictions")]


def start(folder: Path, count: int, threads: int = 1) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*WRITER, str(folder), str(count), str(threads)], stdout=subprocess.PIPE
    )


# --- deaths -------------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_kill_9(folder: Path, log: Path) -> None:
    told: list[str] = []
    for life in range(6):
        writer = start(folder, 10**9, threads=1 + life % 3)
        assert writer.stdout is not None
        for _ in range(1 + life * 150):
            told.append(writer.stdout.readline().decode().strip())
        writer.kill()
        rest = writer.stdout.read().decode()
        told += rest.split("\n")[:-1] if rest else []
        writer.wait()
        assert set(told) <= set(ids(log, folder))
    packed = pack(folder, log)
    found = ids(log, folder)
    assert not list(segments.found(folder))
    assert packed.rows == len(found) == len(set(found))
    assert set(told) <= set(found)


def test_a_living_writers_segment_is_left_alone(folder: Path, log: Path) -> None:
    journal = PredictionJournal(folder, "demo")
    assert journal.append(served("a"))
    assert pack(folder, log) == Packed()
    assert journal.append(served("b"))
    assert ids(log, folder) == ["a", "b"]
    journal.rotate()
    assert pack(folder, log).rows == 2
    assert sorted(ids(log, folder)) == ["a", "b"]


def killed_while(folder: Path, log: Path, where: str) -> None:
    """Pack in a child that is killed when it is about to do what `where` names."""
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        return
    try:
        owner, _, name = where.rpartition(".")
        target = {"Path": Path, "Destination": Destination}[owner]
        setattr(target, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        pack(folder, log)
    finally:
        os._exit(1)


@pytest.mark.parametrize("where", ["Destination.deliver", "Path.replace", "Path.unlink"])
def test_a_packer_that_is_killed_is_followed_by_one_that_finishes(
    folder: Path, log: Path, where: str
) -> None:
    journal = PredictionJournal(folder, "demo")
    for i in range(50):
        journal.append(served(f"r{i}"))
    journal.label([Label("r1", 1)])
    journal.rotate()
    killed_while(folder, log, where)
    everything = sorted(f"r{i}" for i in range(50))
    assert sorted(ids(log, folder)) == everything
    assert pack(folder, log).rows == 50
    assert sorted(ids(log, folder)) == everything
    assert pack(folder, log) == Packed()
    assert ask(log, folder, sql="SELECT count(*) FROM labels") == [(1,)]
    assert not list(log.rglob("*.part"))


def test_two_packers_pack_each_segment_once(folder: Path, log: Path) -> None:
    for i in range(30):
        journal = PredictionJournal(folder, "demo")
        assert journal.append(served(f"r{i}"))
        journal.rotate()
    script = f"""
from pathlib import Path
from mlp.adapters.predictions.pack import pack
print(pack(Path({str(folder)!r}), {str(log)!r}).rows)
"""
    packers = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(3)
    ]
    rows = [int(packer.communicate()[0]) for packer in packers]
    assert sum(rows) == 30
    assert len(ids(log, folder)) == 30


def test_a_journal_written_by_several_processes_while_it_is_packed(folder: Path, log: Path) -> None:
    writers = [start(folder, 1500) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        done = [pool.submit(writer.communicate) for writer in writers]
        while not all(one.done() for one in done):
            pack(folder, log)
        told = [line for one in done for line in one.result()[0].decode().split()]
    pack(folder, log)
    assert sorted(ids(log, folder)) == sorted(told)


def test_parent_and_child_write_to_segments_of_their_own(folder: Path, log: Path) -> None:
    journal = PredictionJournal(folder, "demo")
    assert journal.append(served("before"))
    child = os.fork()
    if not child:
        os._exit(0 if journal.append(served("child")) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert pack(folder, log).rows == 1  # the child's: it is dead, and the parent lives
    assert journal.append(served("after"))
    assert sorted(ids(log, folder)) == ["after", "before", "child"]


def test_threads_share_a_journal(folder: Path, log: Path) -> None:
    journal = PredictionJournal(folder, "demo", max_bytes=20_000)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda i: journal.append(served(f"r{i}")), range(2000)))
    journal.rotate()
    assert len(list(segments.found(folder))) > 10
    assert pack(folder, log).rows == journal.written == 2000
    assert len(set(ids(log))) == 2000


def test_damage_costs_one_record_and_is_told(folder: Path, log: Path) -> None:
    journal = PredictionJournal(folder, "demo")
    for name in ("a", "b", "c"):
        journal.append(served(name))
    journal.rotate()
    (path,) = segments.found(folder)
    data = bytearray(path.read_bytes())
    data[data.index(b'"request_id":"b"') + 14] ^= 1
    path.write_bytes(data)
    packed = pack(folder, log)
    assert (packed.rows, packed.damaged) == (2, 1)
    assert ids(log) == ["a", "c"]
    assert ask(log, sql="SELECT reason, model FROM gaps") == [("damaged", "demo")]


# --- no room ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, mounted (which takes root, as in a container)."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_loses_nothing_silently(small_disk: Path, log: Path) -> None:
    folder = small_disk / "journal"
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 120_000)
    journal = PredictionJournal(folder, "demo")
    kept: list[str] = []
    body = b"[" + b"1," * 3000 + b"1]"  # larger than a page: a part of it may find room
    before = time.time()
    for i in range(100):
        if journal.append(served(f"r{i}", request=body)):
            kept.append(f"r{i}")
    assert 0 < len(kept) < 100
    assert journal.lost == 100 - len(kept)
    assert journal.trouble is not None
    assert sorted(ids(log, folder)) == sorted(kept)
    filler.unlink()
    assert journal.append(served("later", request=body))
    assert journal.trouble is None
    journal.rotate()
    packed = pack(folder, log)
    assert (packed.rows, packed.lost, packed.damaged) == (len(kept) + 1, 100 - len(kept), 0)
    assert sorted(ids(log)) == sorted([*kept, "later"])
    ((reason, lost, since, until),) = ask(
        log,
        sql="SELECT any_value(reason), sum(lost), min(epoch(since)), max(epoch(time)) FROM gaps",
    )
    assert (reason, lost) == ("no room", journal.lost)
    assert before - 1 <= since <= until <= time.time()


def test_a_disk_that_is_full_from_the_start_is_not_littered(small_disk: Path) -> None:
    folder = small_disk / "journal"
    journal = PredictionJournal(folder, "demo")
    folder.mkdir()
    filler = (small_disk / "filler").open("ab", buffering=0)
    for size in (2**12, 1):
        try:
            while filler.write(b"x" * size):
                pass
        except OSError:
            continue
    filler.close()
    assert not any(journal.append(served(f"r{i}")) for i in range(50))
    assert not list(folder.iterdir())
    (small_disk / "filler").unlink()
    assert journal.append(served("later"))
    journal.rotate()
    assert pack(folder, small_disk / "log").lost == 50


def test_a_file_that_may_not_grow_is_left_for_another(folder: Path, log: Path) -> None:
    """What is at its limit is the file, not the disk: a part of a record finds room in it."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        journal = PredictionJournal(folder, "demo")
        kept = [i for i in range(40) if journal.append(served(f"r{i}"))]
        journal.rotate()
        (folder / "kept").write_text(json.dumps([kept, journal.lost]))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    kept, lost = json.loads((folder / "kept").read_text())
    assert lost
    assert len(kept) + lost == 40
    packed = pack(folder, log)
    assert (packed.rows, packed.lost, packed.damaged) == (len(kept), lost, 0)
    assert sorted(ids(log)) == sorted(f"r{i}" for i in kept)


def test_segments_wait_for_a_destination_that_is_full(folder: Path, small_disk: Path) -> None:
    journal = PredictionJournal(folder, "demo")
    for i in range(300):
        journal.append(served(f"r{i}", request=os.urandom(2000).hex().encode()))
    journal.rotate()
    packed = pack(folder, small_disk)
    assert (packed.segments, packed.waiting) == (0, 1)
    assert packed.waiting_bytes > 1_000_000
    assert "No space left" in packed.trouble
    assert not [path for path in small_disk.rglob("*") if path.is_file()]
    assert pack(folder, folder.parent / "log").rows == 300


def test_segments_wait_for_a_store_that_is_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    journal = PredictionJournal(folder, "demo")
    journal.append(served("a"))
    journal.rotate()
    packed = pack(folder, "s3://bucket/log")
    assert (packed.segments, packed.waiting) == (0, 1)
    assert "cannot write the predictions at s3://bucket/log" in packed.trouble
    with pytest.raises(RemoteError), connect("s3://bucket/log", [folder]):
        pass


def test_a_log_that_is_far_away_is_copied_once(folder: Path, log: Path, tmp_path: Path) -> None:
    far, kept = f"file://{log}", tmp_path / "kept"

    def known() -> list[str]:
        with connect(far, [folder], kept=kept) as connection:
            found = connection.execute("SELECT request_id FROM predictions ORDER BY ALL").fetchall()
        return [row[0] for row in found]

    assert known() == []
    journal = PredictionJournal(folder, "demo")
    packed = []
    for asked in (["a"], ["a", "b"]):
        journal.append(served(asked[-1]))
        journal.rotate()
        pack(folder, log)
        packed.append(set(log.glob("predictions/*/*.parquet")))
        assert known() == asked
    [first] = packed[0]
    first.write_bytes(b"nobody reads that again")
    assert known() == ["a", "b"]
    first.unlink()
    assert known() == ["b"], "what was taken out of the log is not in it"


@pytest.mark.parametrize("far", [False, True])
def test_files_of_days_before_those_asked_for_are_not_opened(
    folder: Path, log: Path, far: bool
) -> None:
    journal = PredictionJournal(folder, "demo")
    journal.append(served("a"))
    journal.rotate()
    pack(folder, log)
    broken = log / "predictions" / "date=2001-01-01" / "broken.parquet"
    broken.parent.mkdir()
    broken.write_bytes(b"no Parquet")
    where = f"file://{log}" if far else log
    with connect(where, since=time.time()) as connection:
        assert connection.execute("SELECT request_id FROM predictions").fetchall() == [("a",)]
    with pytest.raises(MlpError, match="cannot be read") as told, connect(where):
        pass
    assert "broken.parquet" in str(told.value.cause)


# --- what is in the log ---------------------------------------------------------------------------


def test_a_batch_becomes_rows_with_their_keys_and_probabilities(folder: Path, log: Path) -> None:
    journal = PredictionJournal(folder, "demo", runs={"2": "abc"})
    body = json.dumps(
        {"dataframe_split": {"columns": ["x", "user"], "data": [[0, "u0"], [1, "u1"], [2, "u2"]]}}
    ).encode()
    common: dict[str, Any] = {"request": body, "at": 1_800_000_000.25}
    journal.append(served("r", **common, response=b'{"predictions": [7]}', rows=[1], keys=["u1"]))
    journal.append(
        served(
            "r",
            **common,
            version="2",
            route="challenger",
            response=b'{"predictions": ["no", "yes"]}',
            rows=[0, 2],
            keys=["u0", "u1", "u2"],
            probabilities=[[0.75, 0.25], [0.125, 0.875]],
        )
    )
    sql = (
        "SELECT row, version, run_id, route, user_key, prediction, prediction_number,"
        " probabilities, features FROM predictions ORDER BY row"
    )
    expected = [
        (0, "2", "abc", "challenger", "u0", '"no"', None, [0.75, 0.25], '{"x":0,"user":"u0"}'),
        (1, "1", None, "champion", "u1", "7", 7.0, None, '{"x":1,"user":"u1"}'),
        (2, "2", "abc", "challenger", "u2", '"yes"', None, [0.125, 0.875], '{"x":2,"user":"u2"}'),
    ]
    assert ask(log, folder, sql=sql) == expected
    journal.rotate()
    pack(folder, log)
    assert ask(log, folder, sql=sql) == expected
    assert [p.parent.name for p in log.rglob("*.parquet")] == ["date=2027-01-15"]


def test_a_failed_challenger_is_one_row_for_each_row_asked(folder: Path, log: Path) -> None:
    journal = PredictionJournal(folder, "demo")
    body = b'{"instances": [[1], [2]]}'
    journal.append(served("r", request=body, response=b"", failed="too slow", route="challenger"))
    sql = "SELECT row, failed, reason, prediction, features FROM predictions ORDER BY row"
    assert ask(log, folder, sql=sql) == [
        (0, True, "too slow", None, "[1]"),
        (1, True, "too slow", None, "[2]"),
    ]


@pytest.mark.parametrize("response", [b'{"predictions": [1, 2, 3]}', b'{"choices": []}', b"oops"])
def test_what_cannot_be_told_apart_is_one_row(folder: Path, log: Path, response: bytes) -> None:
    journal = PredictionJournal(folder, "demo")
    body = b'{"messages": [{"role": "user", "content": "hi"}]}'
    journal.append(served("r", request=body, response=response))
    ((row, features),) = ask(log, folder, sql="SELECT row, features FROM predictions")
    assert (row, features.encode()) == (0, body)


def test_features_and_probabilities_may_be_left_out(folder: Path, log: Path) -> None:
    journal = PredictionJournal(
        folder, "demo", keeping=Keeping(features=False, probabilities=False)
    )
    journal.append(served("r", response=b'{"predictions": [1, 0]}', probabilities=[[0.5, 0.5]] * 2))
    assert b"anna" not in next(segments.found(folder)).read_bytes()
    sql = "SELECT row, prediction, probabilities, features FROM predictions ORDER BY row"
    assert ask(log, folder, sql=sql) == [(0, "1", None, None), (1, "0", None, None)]


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_hashed_keys_are_the_same_everywhere_and_the_keys_nowhere(
    tmp_path: Path, log: Path, secret: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if secret:
        monkeypatch.setenv("MLP_KEY_SECRET", secret)
    for name in ("one", "two"):
        journal = PredictionJournal(
            tmp_path / name, "demo", keeping=Keeping(hash_keys=True, route_by="user")
        )
        journal.append(served(name, keys=["anna"]))
        journal.append(served(f"{name}-raw", keys=["anna"], request=b'{"anna"'))
        journal.rotate()
        pack(tmp_path / name, log)
    found = ask(
        log, sql="SELECT user_key, features FROM predictions WHERE request_id IN ('one','two')"
    )
    digests = {key for key, _ in found} | {json.loads(features)["user"] for _, features in found}
    assert len(digests) == 1
    ((digest,),) = {(d,) for d in digests}
    assert len(digest) == 32
    everything = str(ask(log, sql="SELECT * FROM predictions"))
    assert "anna" not in everything
    if secret:
        monkeypatch.setenv("MLP_KEY_SECRET", "salt")
        journal = PredictionJournal(tmp_path / "three", "demo", keeping=Keeping(hash_keys=True))
        journal.append(served("three", keys=["anna"]))
        ((other,),) = ask(
            log,
            tmp_path / "three",
            sql="SELECT user_key FROM predictions WHERE request_id = 'three'",
        )
        assert other != digest


def test_labels_join_whenever_they_come_and_the_last_one_told_counts(
    folder: Path, log: Path
) -> None:
    journal = PredictionJournal(folder, "demo")
    assert journal.label([Label("b", 1, at=5.0)])  # before its prediction
    journal.append(served("a", response=b'{"predictions": [1, 0]}', request=b'{"inputs": [1, 2]}'))
    journal.append(served("b"))
    journal.append(served("a", route="shadow", version="2"))
    journal.rotate()
    pack(folder, log)
    assert journal.label([Label("a", "x", row=1, at=10.0), Label("a", 0, row=0, at=20.0)])
    assert journal.label([Label("a", 1, row=0, at=15.0)])  # told late, and older
    sql = "SELECT request_id, row, route, label, label_number FROM labelled ORDER BY ALL"
    expected = [
        ("a", 0, "champion", "0", 0.0),
        ("a", 0, "shadow", "0", 0.0),
        ("a", 1, "champion", '"x"', None),
        ("b", 0, "champion", "1", 1.0),
    ]
    assert ask(log, folder, sql=sql) == expected
    journal.rotate()
    pack(folder, log)
    assert ask(log, sql=sql) == expected


def test_samples_are_columns_of_the_versions_asked_for(folder: Path, log: Path) -> None:
    journal = PredictionJournal(folder, "demo")
    now = time.time()
    for i, version in enumerate("1213"):
        journal.append(
            served(
                f"r{i}",
                at=now + i,
                version=version,
                keys=[f"u{i}"] if i else None,
                probabilities=[[0.25, 0.75]],
                response=b'{"predictions": ["yes"]}',
            )
        )
    journal.label([Label("r0", "no"), Label("r1", 1)])
    with connect(log, [folder]) as connection:
        found = samples(connection, "demo", ["1", "2"], since=now - 1)
        assert {name: list(column) for name, column in found.items() if name != "probabilities"} | {
            "label_number": found["label_number"].tolist()[1]
        } == {
            "request_id": ["r0", "r1", "r2"],
            "row": [0, 0, 0],
            "version": ["1", "2", "1"],
            "route": ["champion"] * 3,
            "user_key": [None, "u1", "u2"],
            "time": pytest.approx([now, now + 1, now + 2], abs=1e-5),
            "latency_ms": [1.25] * 3,
            "failed": [False] * 3,
            "prediction": ["yes"] * 3,
            "prediction_number": pytest.approx([float("nan")] * 3, nan_ok=True),
            "label": ["no", "1", None],
            "label_number": 1.0,
            "probability": [0.75] * 3,
        }
        later = samples(connection, "demo", ["1", "2"], since=now + 0.5, until=now + 1.5)
        assert list(later["request_id"]) == ["r1"]
        assert not len(samples(connection, "another", ["1"])["row"])
        assert not len(samples(connection, "demo", ["1"], routes=["shadow"])["row"])


def test_the_prediction_may_be_a_column_of_several_in_an_answer(folder: Path, log: Path) -> None:
    journal = PredictionJournal(folder, "demo")
    answer = json.dumps({"predictions": [{"it's late": 1, "p": 0.75}, {"it's late": 0, "p": None}]})
    request = b'{"instances": [[1], [2]]}'
    journal.append(served("r", version="1", request=request, response=answer.encode()))
    with connect(log, [folder]) as connection:
        found = samples(connection, "demo", ["1"], prediction="it's late", probability="p")
    assert list(found["prediction"]) == ["1", "0"]
    assert list(found["prediction_number"]) == [1, 0]
    assert list(found["probability"]) == pytest.approx([0.75, float("nan")], nan_ok=True)


def test_unusual_texts_are_kept_readable(folder: Path, log: Path) -> None:
    journal = PredictionJournal(folder, "demo")
    half = "\ud800"
    body, answer = b'{"inputs": ["\\ud800", NaN]}', b'{"predictions": [NaN, "\\udfff"]}'
    assert journal.append(served(half, keys=[half, "x"], request=body, response=answer))
    assert journal.label([Label(half, 2**70), Label("x", half)])
    journal.rotate()
    packed = pack(folder, log)
    assert (packed.rows, packed.labels, packed.damaged) == (2, 2, 0)


def test_a_path_with_signs_in_it_is_that_path(tmp_path: Path) -> None:
    odd = tmp_path / "a [1] *'s?"
    journal = PredictionJournal(odd / "journal", "demo")
    journal.append(served("a"))
    assert ids(odd / "log", odd / "journal") == ["a"]
    journal.rotate()
    pack(odd / "journal", odd / "log")
    assert ids(odd / "log", odd / "journal") == ["a"]


def test_appending_goes_on_while_others_read(folder: Path, log: Path) -> None:
    journal = PredictionJournal(folder, "demo", max_bytes=50_000)
    stop = threading.Event()
    kept: list[Served] = []

    def write() -> None:
        while not stop.is_set() and len(kept) < 5000:
            one = served(f"r{len(kept)}")
            if journal.append(one):
                kept.append(one)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            known = len(kept)
            found = ids(log, folder)
            assert len(found) == len(set(found)) >= known
            packing.pack(folder, log)
    finally:
        stop.set()
        writer.join()
    assert len(ids(log, folder)) == len(kept)
