"""One request for predictions from its body to its answer: routed, predicted, logged.

What happens in the predictor's thread and what in the event loop is said at each function; a job is
touched by one of them at a time.
"""

import logging
import time
from collections.abc import Sequence

from mlp.adapters.predictions.prediction_journal import PredictionJournal
from mlp.adapters.prometheus import Metrics
from mlp.adapters.scoring import Refusal, ScoringAnswer, merge
from mlp.core.serving.prediction_log import Served
from mlp.runtime.serving.challenger import LOADING, UNAVAILABLE, Challenger, Reply
from mlp.runtime.serving.prediction_job import (
    BOTH,
    CHALLENGER,
    CHAMPION,
    JSON,
    NONE,
    SHADOW,
    PredictionJob,
    Response,
    chosen,
    settle,
)
from mlp.runtime.serving.predictor import Predictor
from mlp.runtime.serving.registry_following import RegistryFollowing

log = logging.getLogger("mlp.serving")

_FAILED = (500, b'{"error_code": "INTERNAL_ERROR", "message": "the model failed"}')
_COMPLAIN_S = 60.0
# Of an answer that came when the time of its request was over: nobody got it.
_LATE = (504, "late")
# The champion answers in the challenger's stead, and it is not the challenger's fault.
_NOT_DIVISIBLE = "not divisible"
_BLAMELESS = frozenset({LOADING, _NOT_DIVISIBLE})


class Answering:
    """Answers jobs of a worker."""

    def __init__(
        self,
        *,
        model: str,
        route_by: str | None,
        following: RegistryFollowing,
        predictor: Predictor,
        journal: PredictionJournal | None,
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

    def begin(self, job: PredictionJob) -> None:
        """In the event loop: the answer comes into `job.future`."""
        self._predictor.put(self._start, job)

    @property
    def pace(self) -> float:
        """How many seconds a request has kept the champion of late."""
        return self._predictor.pace

    # --- in the predictor's thread --------------------------------------------------------------

    def _start(self, job: PredictionJob) -> None:
        if job.late:
            return  # it has its answer: that its time is over
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

    def _route(self, job: PredictionJob) -> None:
        challenger, now = self.challenger, self._following.traffic
        rows = chosen(self._model, now, job)
        if now.challenger is None or not rows:
            self._answer(job)
            return
        job.rows, job.version = rows, now.challenger
        there = challenger is not None and challenger.version == now.challenger
        if now.shadow:
            self._answer(job)
            if challenger is not None and there:
                self._predictor.reply(self._shadow, challenger, job)
        elif challenger is None or not there:
            job.reason = LOADING
            self._answer(job)
        else:
            self._predictor.reply(self._ask, challenger, job)
            if len(rows) < job.request.rows:
                self._answer_part(job)

    def _keys(self, job: PredictionJob) -> list[str] | None:
        """The user's key of each row, of the header or the column; None where there is none."""
        if job.key is not None:
            return [job.key] * job.request.rows
        return None if self._route_by is None else job.request.keys(self._route_by)

    def _answer(self, job: PredictionJob) -> None:
        """The champion answers the whole request."""
        champion = job.champion
        if job.late:
            self._log_silence(job)
            return
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
        if job.late:
            self._log_champion(job, elapsed, ScoringAnswer(b""), *_LATE)
            return
        logged = self._log_champion(job, elapsed, answer)
        found = Response(200, answer.body, JSON, champion.version, CHAMPION, logged)
        self._reply(job, found)

    def _log_failure(self, job: PredictionJob, started: float, status: int) -> None:
        """The champion's own failure counts in a comparison as the challenger's does."""
        elapsed = (time.monotonic() - started) * 1000
        self._log_champion(job, elapsed, ScoringAnswer(b""), status, "error")

    def _log_champion(
        self,
        job: PredictionJob,
        elapsed: float,
        answer: ScoringAnswer,
        status: int = 200,
        failed: str = "",
    ) -> bool:
        """Write down what the champion answered; returns whether that is done, or not asked for.

        Rows that were the challenger's, had it been there, are kept under its route: a comparison
        is by who was to answer, and a user would be on both sides of it otherwise.
        """
        version = job.champion.version
        if job.reason not in _BLAMELESS or job.rows is None:
            return self._log(job, version, CHAMPION, elapsed, answer, None, status, failed)
        kept = self._log(job, version, CHALLENGER, elapsed, answer, job.rows, status, failed)
        others = job.others
        if not others:
            return kept
        return self._log(job, version, CHAMPION, elapsed, answer, others, status, failed) and kept

    def _log_silence(self, job: PredictionJob) -> None:
        """The challenger failed, and there was no time left to ask the champion in its stead."""
        if job.reason and job.reason not in _BLAMELESS:
            elapsed = (time.monotonic() - job.started) * 1000
            why = _words(job.reason, job.detail)
            self._log(
                job, job.version, CHALLENGER, elapsed, ScoringAnswer(b""), job.rows, _LATE[0], why
            )

    def _answer_part(self, job: PredictionJob) -> None:
        """The champion answers the rows that are not the challenger's, while that is at work."""
        started = time.monotonic()
        try:
            job.part = job.champion.scorer.answer(job.request.take(job.others))
        except Exception:  # noqa: BLE001 - it is asked for the whole request next, and explains
            job.part = None
        job.part_ms = (time.monotonic() - started) * 1000
        self._predictor.reply(self._joined, job)

    def _merge(self, job: PredictionJob) -> None:
        """Both versions have answered their rows."""
        reply = job.reply
        if reply is None or job.part is None or job.rows is None:
            self._answer(job)
            return
        others, theirs = job.others, ScoringAnswer(reply.body, reply.probabilities)
        whole = merge([(others, job.part), (job.rows, theirs)])
        if whole is None:  # not a prediction for each row: nothing tells which belongs where
            job.reason = _NOT_DIVISIBLE
            self._answer(job)
            return
        version = job.champion.version
        if job.late:
            self._log(job, version, CHAMPION, job.part_ms, ScoringAnswer(b""), others, *_LATE)
            self._log(job, job.version, CHALLENGER, reply.ms, ScoringAnswer(b""), job.rows, *_LATE)
            return
        first = self._log(job, version, CHAMPION, job.part_ms, job.part, others)
        second = self._log(job, job.version, CHALLENGER, reply.ms, theirs, job.rows)
        versions = f"{version},{job.version}"
        self._reply(job, Response(200, whole.body, JSON, versions, BOTH, first and second))

    def _note_failure(self, job: PredictionJob) -> None:
        """The champion could answer what the challenger could not: the challenger's fault."""
        self._metrics.fell_back(job.reason)
        if job.reason in _BLAMELESS:
            return
        elapsed = (time.monotonic() - job.started) * 1000
        failed = ScoringAnswer(b"")
        why = _words(job.reason, job.detail)
        self._log(job, job.version, CHALLENGER, elapsed, failed, job.rows, 500, why)
        if job.reason != UNAVAILABLE:  # one trouble is enough for one silence
            self._predictor.reply(self._blame, job)

    def _reply(self, job: PredictionJob, response: Response) -> None:
        self._predictor.reply(settle, job.future, response)

    # --- in the event loop ----------------------------------------------------------------------

    def _ask(self, challenger: Challenger, job: PredictionJob) -> None:
        count = len(job.rows or ())
        rows = None if count == job.request.rows else job.rows
        challenger.ask(job.body, job.content_type or "", rows, count, job, self)

    def came(self, job: PredictionJob, reply: Reply) -> None:
        """The challenger has answered, failed, or let the time pass; called once for each ask."""
        job.reply = reply
        if reply.failed:
            job.reason, job.detail = reply.failed, reply.detail
            self._predictor.put(self._answer, job)
        elif job.late:
            self._log(job, job.version, CHALLENGER, reply.ms, ScoringAnswer(b""), job.rows, *_LATE)
        elif job.rows is not None and len(job.rows) < job.request.rows:
            if job.joined:
                self._predictor.put(self._merge, job)
        else:
            answer = ScoringAnswer(reply.body, reply.probabilities)
            logged = self._log(job, job.version, CHALLENGER, reply.ms, answer)
            found = Response(200, reply.body, JSON, job.version, CHALLENGER, logged)
            settle(job.future, found)

    def _joined(self, job: PredictionJob) -> None:
        job.joined = True
        if job.reply is not None and not job.reply.failed:
            self._predictor.put(self._merge, job)

    def _blame(self, job: PredictionJob) -> None:
        challenger = self.challenger
        if challenger is not None and challenger.version == job.version:
            challenger.blame(_words(job.reason, job.detail), job.request_id)

    def _shadow(self, challenger: Challenger, job: PredictionJob) -> None:
        rows = job.rows
        if rows is not None and len(rows) == job.request.rows:
            rows = None
        challenger.shadow(job.body, job.content_type or "", rows, job, self)

    def shadowed(self, job: PredictionJob, reply: Reply) -> None:
        """The challenger has predicted beside the answer, or failed to."""
        if reply.failed:
            self._metrics.shadowed("failed")
            failed = ScoringAnswer(b"")
            why = _words(reply.failed, reply.detail)
            self._log(job, job.version, SHADOW, reply.ms, failed, job.rows, 500, why)
            return
        self._metrics.shadowed("answered")
        answer = ScoringAnswer(reply.body, reply.probabilities)
        self._log(job, job.version, SHADOW, reply.ms, answer, job.rows)

    # --- in either ------------------------------------------------------------------------------

    def _log(
        self,
        job: PredictionJob,
        version: str,
        route: str,
        elapsed: float,
        answer: ScoringAnswer,
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

    def _complain(self, journal: PredictionJournal) -> None:
        self._metrics.unlogged.inc()
        self._unlogged += 1
        now = time.monotonic()
        if now >= self._complain_at:
            self._complain_at = now + _COMPLAIN_S
            log.error("%d predictions answered and not logged: %s", self._unlogged, journal.trouble)
            self._unlogged = 0


def _words(reason: str, detail: str) -> str:
    return f"{reason}: {detail}" if detail else reason


def _refused(refusal: Refusal, version: str = "") -> Response:
    route = CHAMPION if version else NONE
    kind = refusal.content_type.encode()
    return Response(refusal.status, refusal.body, kind, version, route)
