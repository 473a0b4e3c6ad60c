"""One request for predictions from its body to its answer: routed, predicted, logged.

What happens in the predictor's thread and what in the event loop is said at each function; a job is
touched by one of them at a time.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mlp.adapters.metrics import Metrics
from mlp.adapters.predictions.journal import Journal
from mlp.adapters.scoring import Answer, Refusal, ScoringRequest, merge
from mlp.core.predictions import Served
from mlp.core.traffic import Traffic, position
from mlp.runtime.serving.challenger import LOADING, UNAVAILABLE, Challenger, Reply
from mlp.runtime.serving.following import Following, Loaded
from mlp.runtime.serving.predictor import Predictor

log = logging.getLogger("mlp.serving")

CHAMPION, CHALLENGER, BOTH, SHADOW = "champion", "challenger", "both", "shadow"
NONE = "none"  # the route of what no version was asked

_JSON = b"application/json"
_FAILED = (500, b'{"error_code": "INTERNAL_ERROR", "message": "the model failed"}')
_COMPLAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Response:
    """What a request is answered with."""

    status: int
    body: bytes
    content_type: bytes = _JSON
    version: str = ""
    route: str = NONE
    logged: bool = True
    retry: bool = False
    close: bool = False


class Job:
    """A request under way. `key` is the header's, `rows` those that the challenger is to answer."""

    __slots__ = (
        *("request_id", "body", "content_type", "key", "started", "at", "future"),
        *("champion", "request", "keys", "rows", "part", "part_ms", "joined"),
        *("reply", "reason", "detail", "version"),
    )

    def __init__(
        self,
        request_id: str,
        body: bytes,
        content_type: str | None,
        key: str | None,
        future: "asyncio.Future[Response]",
    ) -> None:
        self.request_id = request_id
        self.body = body
        self.content_type = content_type
        self.key = key
        self.started = time.monotonic()
        self.at = time.time()
        self.future = future
        self.champion: Loaded
        self.request: ScoringRequest
        self.keys: list[str] | None = None
        self.rows: list[int] | None = None
        self.part: Answer | None = None  # the champion's, where rows are divided
        self.part_ms = 0.0
        self.joined = False  # whether the champion is through with its part
        self.reply: Reply | None = None
        self.reason = ""  # why the challenger's answer was not used, and in words
        self.detail = ""
        self.version = ""  # the challenger's


class Answering:
    """Answers jobs of a worker."""

    def __init__(
        self,
        *,
        model: str,
        route_by: str | None,
        following: Following,
        predictor: Predictor,
        journal: Journal | None,
        metrics: Metrics,
    ) -> None:
        self._model = model
        self._route_by = route_by
        self._following = following
        self._predictor = predictor
        self._journal = journal
        self._metrics = metrics
        self._complain_at = 0.0
        self._unlogged = 0
        self.challenger: Challenger | None = None

    def begin(self, job: Job) -> None:
        """In the event loop: the answer comes into `job.future`."""
        self._predictor.put(self._start, job)

    # --- in the predictor's thread --------------------------------------------------------------

    def _start(self, job: Job) -> None:
        champion = self._following.champion
        if champion is None:
            self._reply(job, Response(503, b'{"message": "no model is loaded yet"}', retry=True))
            return
        job.champion = champion
        try:
            job.request = champion.scorer.read(job.body, job.content_type)
            job.keys = self._keys(job)
            self._route(job)
        except Refusal as e:
            self._reply(job, _refused(e))
        except Exception:  # whatever a request provokes, the worker goes on
            log.exception("a request could not be read")
            self._reply(job, Response(*_FAILED))

    def _route(self, job: Job) -> None:
        challenger, now = self.challenger, self._following.traffic
        if challenger is None or now.challenger != challenger.version:
            self._answer(job)
            return
        rows = chosen(self._model, now, job)
        if not rows:
            self._answer(job)
            return
        job.rows, job.version = rows, challenger.version
        if now.shadow:
            self._answer(job)
            self._predictor.reply(self._shadow, challenger, job)
            return
        self._predictor.reply(self._ask, challenger, job)
        if len(rows) < job.request.rows:
            self._answer_part(job)

    def _keys(self, job: Job) -> list[str] | None:
        """The user's key of each row, of the header or the column; None where there is none."""
        if job.key is not None:
            return [job.key] * job.request.rows
        return None if self._route_by is None else job.request.keys(self._route_by)

    def _answer(self, job: Job) -> None:
        """The champion answers the whole request."""
        champion = job.champion
        started = time.monotonic()
        try:
            answer = champion.scorer.answer(job.request)
        except Refusal as e:
            if e.by_model:
                self._log_failure(job, started, e.status)
            self._reply(job, _refused(e, champion.version))
            return
        except Exception:  # a model's own code may raise anything
            log.exception("version %s failed", champion.version)
            self._log_failure(job, started, _FAILED[0])
            self._reply(job, Response(*_FAILED, version=champion.version, route=CHAMPION))
            return
        elapsed = (time.monotonic() - started) * 1000
        if job.reason:
            self._note_failure(job)
        logged = self._log(job, champion.version, CHAMPION, elapsed, answer)
        found = Response(200, answer.body, _JSON, champion.version, CHAMPION, logged)
        self._reply(job, found)

    def _log_failure(self, job: Job, started: float, status: int) -> None:
        """The champion's own failure counts in a comparison as the challenger's does."""
        elapsed = (time.monotonic() - started) * 1000
        version = job.champion.version
        self._log(job, version, CHAMPION, elapsed, Answer(b""), None, status, "error")

    def _answer_part(self, job: Job) -> None:
        """The champion answers the rows that are not the challenger's, while that is at work."""
        started = time.monotonic()
        try:
            job.part = job.champion.scorer.answer(job.request.take(_others(job)))
        except Exception:  # noqa: BLE001 - it is asked for the whole request next, and explains
            job.part = None
        job.part_ms = (time.monotonic() - started) * 1000
        self._predictor.reply(self._joined, job)

    def _merge(self, job: Job) -> None:
        """Both versions have answered their rows."""
        reply = job.reply
        if reply is None or job.part is None or job.rows is None:
            self._answer(job)
            return
        others, theirs = _others(job), Answer(reply.body, reply.probabilities)
        whole = merge([(others, job.part), (job.rows, theirs)])
        if whole is None:  # not a prediction for each row: nothing tells which belongs where
            self._metrics.fell_back("not divisible")
            self._answer(job)
            return
        version = job.champion.version
        first = self._log(job, version, CHAMPION, job.part_ms, job.part, others)
        second = self._log(job, job.version, CHALLENGER, reply.ms, theirs, job.rows)
        versions = f"{version},{job.version}"
        self._reply(job, Response(200, whole.body, _JSON, versions, BOTH, first and second))

    def _note_failure(self, job: Job) -> None:
        """The champion could answer what the challenger could not: the challenger's fault."""
        self._metrics.fell_back(job.reason)
        if job.reason == LOADING:
            return
        elapsed = (time.monotonic() - job.started) * 1000
        failed = Answer(b"")
        why = _words(job.reason, job.detail)
        self._log(job, job.version, CHALLENGER, elapsed, failed, job.rows, 500, why)
        if job.reason != UNAVAILABLE:  # one trouble is enough for one silence
            self._predictor.reply(self._blame, job)

    def _reply(self, job: Job, response: Response) -> None:
        self._predictor.reply(settle, job.future, response)

    # --- in the event loop ----------------------------------------------------------------------

    def _ask(self, challenger: Challenger, job: Job) -> None:
        count = len(job.rows or ())
        rows = None if count == job.request.rows else job.rows
        challenger.ask(job.body, job.content_type or "", rows, count, job, self)

    def came(self, job: Job, reply: Reply) -> None:
        """The challenger has answered, failed, or let the time pass; called once for each ask."""
        job.reply = reply
        if reply.failed:
            job.reason, job.detail = reply.failed, reply.detail
            self._predictor.put(self._answer, job)
        elif job.rows is not None and len(job.rows) < job.request.rows:
            if job.joined:
                self._predictor.put(self._merge, job)
        else:
            answer = Answer(reply.body, reply.probabilities)
            logged = self._log(job, job.version, CHALLENGER, reply.ms, answer)
            found = Response(200, reply.body, _JSON, job.version, CHALLENGER, logged)
            settle(job.future, found)

    def _joined(self, job: Job) -> None:
        job.joined = True
        if job.reply is not None and not job.reply.failed:
            self._predictor.put(self._merge, job)

    def _blame(self, job: Job) -> None:
        challenger = self.challenger
        if challenger is not None and challenger.version == job.version:
            challenger.blame(_words(job.reason, job.detail), job.request_id)

    def _shadow(self, challenger: Challenger, job: Job) -> None:
        rows = job.rows
        if rows is not None and len(rows) == job.request.rows:
            rows = None
        challenger.shadow(job.body, job.content_type or "", rows, job, self)

    def shadowed(self, job: Job, reply: Reply) -> None:
        """The challenger has predicted beside the answer, or failed to."""
        if reply.failed:
            self._metrics.shadowed("failed")
            failed = Answer(b"")
            why = _words(reply.failed, reply.detail)
            self._log(job, job.version, SHADOW, reply.ms, failed, job.rows, 500, why)
            return
        self._metrics.shadowed("answered")
        answer = Answer(reply.body, reply.probabilities)
        self._log(job, job.version, SHADOW, reply.ms, answer, job.rows)

    # --- in either ------------------------------------------------------------------------------

    def _log(
        self,
        job: Job,
        version: str,
        route: str,
        elapsed: float,
        answer: Answer,
        rows: Sequence[int] | None = None,
        status: int = 200,
        failed: str = "",
    ) -> bool:
        """Write the prediction down; returns whether that is done, or not asked for."""
        if self._journal is None:
            return True
        whole = rows is None or len(rows) == job.request.rows
        keys = job.keys
        if keys is not None and rows is not None and not whole:
            keys = [keys[row] for row in rows]
        kept = self._journal.append(
            Served(
                job.request_id,
                job.at,
                version,
                route,
                elapsed,
                job.content_type or "",
                job.body,
                answer.body,
                status,
                failed,
                keys,
                None if whole else rows,
                answer.probabilities,
            )
        )
        if not kept:
            self._complain(self._journal)
        return kept

    def _complain(self, journal: Journal) -> None:
        self._metrics.unlogged.inc()
        self._unlogged += 1
        now = time.monotonic()
        if now >= self._complain_at:
            self._complain_at = now + _COMPLAIN_S
            log.error("%d predictions answered and not logged: %s", self._unlogged, journal.trouble)
            self._unlogged = 0


def settle(future: "asyncio.Future[Response]", response: Response) -> None:
    """Answer a request, unless that is done: its time may have been over."""
    if not future.done():
        future.set_result(response)


def chosen(model: str, now: Traffic, job: Job) -> list[int]:
    """The rows of a request that are the challenger's.

    Each experiment, that is each challenger, divides the users anew. Without a key the request is
    divided as a whole, by its id.
    """
    if now.share <= 0:
        return []
    total = job.request.rows
    salt = f"{model}/{now.challenger}"
    keys = job.keys
    if keys is None or job.key is not None:
        key = job.request_id if job.key is None else job.key
        return list(range(total)) if position(salt, key) < now.share else []
    return [row for row, key in enumerate(keys) if position(salt, key) < now.share]


def _words(reason: str, detail: str) -> str:
    return f"{reason}: {detail}" if detail else reason


def _others(job: Job) -> list[int]:
    theirs = set(job.rows or ())
    return [row for row in range(job.request.rows) if row not in theirs]


def _refused(refusal: Refusal, version: str = "") -> Response:
    route = CHAMPION if version else NONE
    kind = refusal.content_type.encode()
    return Response(refusal.status, refusal.body, kind, version, route)
