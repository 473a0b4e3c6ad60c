"""Write predictions down before they are answered: one system call each, kept by the kernel.

What `append` acknowledged survives the death of any process, by whatever signal. It does not
survive a power failure within the half minute or so that the kernel takes to write it out.
"""

import contextlib
import errno
import os
import socket
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlp.adapters.predictions import frames, segments
from mlp.core.errors import MissingExtraError
from mlp.core.serving.prediction_log import Label, Served


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is kept of a request; written into each segment, and followed when it is packed.

    `features` and `probabilities`: whether they are kept at all. `hash_keys`: users' keys, and the
    column `route_by` of the features, become digests in Parquet and in all that reads.
    """

    features: bool = True
    probabilities: bool = True
    hash_keys: bool = False
    route_by: str | None = None


class PredictionJournal:
    """The predictions and labels that this process takes note of.

    May be shared by threads; after a fork, parent and child write to segments of their own. A
    segment is sealed when it holds `max_bytes` or is `max_age` seconds old at an append, and by
    `rotate`. `runs` tells the MLflow run that made a version, and may grow later.
    """

    def __init__(
        self,
        directory: Path,
        model: str,
        *,
        runs: Mapping[str, str] | None = None,
        keeping: Keeping | None = None,
        max_bytes: int = 64 * 2**20,
        max_age: float = 300.0,
    ) -> None:
        try:
            import orjson
        except ImportError as e:
            raise MissingExtraError("the log of predictions", "serve", cause=str(e)) from e
        self.directory = directory
        self.model = model
        self.runs: dict[str, str] = dict(runs or {})
        self.keeping = keeping or Keeping()
        self.max_bytes = max_bytes
        self.max_age = max_age
        self.written = 0  # records that the kernel has, of this process
        self.lost = 0  # predictions that it had no room for
        self.trouble: OSError | None = None  # why the last record was lost; None: it was not
        self._dumps = orjson.dumps
        self._numpy = orjson.OPT_SERIALIZE_NUMPY
        self._lock = threading.Lock()
        self._fd = -1
        self._path = directory
        self._mark = b""
        self._size = 0
        self._bare = 0  # the size of the segment before its first record
        self._opened = 0.0
        self._gap: tuple[int, float, float] | None = None
        _journals.add(self)

    def append(self, served: Served) -> bool:
        """Whether the prediction is kept; False: there was no room, and it is counted as lost."""
        keeping = self.keeping
        header: dict[str, Any] = {
            "kind": "prediction",
            "request_id": served.request_id,
            "at": served.at,
            "version": served.version,
            "run_id": self.runs.get(served.version),
            "route": served.route,
            "latency_ms": served.latency_ms,
            "content_type": served.content_type,
            "status": served.status,
        }
        if served.failed:
            header["failed"] = served.failed
        if served.keys is not None:
            header["keys"] = served.keys
        if served.rows is not None:
            header["rows"] = served.rows
        if served.probabilities is not None and keeping.probabilities:
            header["probabilities"] = served.probabilities
        return self._keep(header, served.request if keeping.features else b"", served.response)

    def label(self, labels: Sequence[Label]) -> bool:
        """Whether the labels are kept, all of them or none; False: tell who sent them."""
        now = time.time()
        told = [(label.request_id, label.row, label.label, label.at or now) for label in labels]
        return self._keep({"kind": "labels", "at": now, "labels": told}, b"", b"", counted=False)

    def rotate(self) -> None:
        """Seal the current segment, so that it can be packed; the next record opens another."""
        with self._lock:
            self._seal()

    close = rotate

    def _keep(
        self, header: dict[str, Any], request: bytes, response: bytes, *, counted: bool = True
    ) -> bool:
        text = self._json(header)
        with self._lock:
            try:
                if self._size >= self.max_bytes or (
                    self._fd >= 0 and time.monotonic() - self._opened >= self.max_age
                ):
                    self._seal()
                if self._fd < 0:
                    self._open()
                self._write(text, request, response)
            except OSError as e:
                if counted:
                    self._note_loss()
                self._abandon(e)
                return False
            self.written += 1
            self.trouble = None
            if self._gap is not None:
                self._tell_gap()
            return True

    def _json(self, value: object) -> bytes:
        try:
            return bytes(self._dumps(value, default=list, option=self._numpy))
        except TypeError:  # half a surrogate pair, a number above 64 bits, a type of its own
            import json

            return json.dumps(value, default=str).encode()

    def _open(self) -> None:
        self._path, self._fd = segments.create(self.directory)
        self._mark = frames.marker(self._path.stem)
        self._opened = time.monotonic()
        about = {
            "kind": "segment",
            "at": time.time(),
            "model": self.model,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "keeping": asdict(self.keeping),
        }
        for _ in range(2):  # should one be damaged, the other says what is to be hidden
            self._write(self._json(about), b"", b"")
        self._bare = self._size

    def _write(self, header: bytes, request: bytes, response: bytes) -> None:
        """One record by one system call; raises OSError with the segment as it was before."""
        head = frames.head(self._mark, header, request, response)
        size = len(head) + len(header) + len(request) + len(response)
        done = os.writev(self._fd, (head, header, request, response))
        if done != size:  # there was room for a part of it
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._size += size

    def _note_loss(self) -> None:
        now = time.time()
        count, since, _ = self._gap or (0, now, now)
        self._gap = (count + 1, since, now)
        self.lost += 1

    def _abandon(self, error: OSError) -> None:
        """Go on with another segment: this one may end in a torn record, or be at its limit."""
        self.trouble = error
        if self._fd >= 0 and self._size <= self._bare:
            with contextlib.suppress(OSError):
                self._path.unlink()  # nothing is in it: a full disk is not littered
        self._drop()

    def _tell_gap(self) -> None:
        """Write down how many records had no room; kept for later where there is none still."""
        if self._gap is None:
            return
        lost, since, until = self._gap
        gap = {"kind": "gap", "at": until, "lost": lost, "from": since, "to": until}
        try:
            if self._fd < 0:
                self._open()
            self._write(self._json(gap), b"", b"")
            self._gap = None
        except OSError as e:
            self._abandon(e)

    def _seal(self) -> None:
        self._tell_gap()
        self._drop()

    def _drop(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self._bare = -1, 0, 0

    def _forked(self) -> None:
        """In a child: the parent's segment stays the parent's, and so does its gap."""
        self._lock = threading.Lock()
        self._gap, self.written, self.lost = None, 0, 0
        self._drop()


_journals: "weakref.WeakSet[PredictionJournal]" = weakref.WeakSet()


def _after_fork() -> None:
    for journal in list(_journals):
        journal._forked()


os.register_at_fork(after_in_child=_after_fork)
