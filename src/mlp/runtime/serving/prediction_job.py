"""A request for predictions under way, and what it is answered with."""

import asyncio
import time
from dataclasses import dataclass

from mlp.adapters.scoring import ScoringAnswer, ScoringRequest
from mlp.core.ab.traffic import Traffic, position
from mlp.runtime.serving.challenger import Reply
from mlp.runtime.serving.registry_following import Loaded

CHAMPION, CHALLENGER, BOTH, SHADOW = "champion", "challenger", "both", "shadow"
NONE = "none"  # the route of what no version was asked

JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class Response:
    """What a request is answered with."""

    status: int
    body: bytes
    content_type: bytes = JSON
    version: str = ""
    route: str = NONE
    logged: bool = True
    retry: bool = False
    close: bool = False


class PredictionJob:
    """A request under way. `key` is the header's, `rows` those that the challenger is to answer;
    after `until`, on the monotonic clock, nobody waits for it."""

    __slots__ = (
        *("request_id", "body", "content_type", "key", "until", "started", "at", "future"),
        *("champion", "request", "keys", "rows", "part", "part_ms", "joined"),
        *("reply", "reason", "detail", "version"),
    )

    def __init__(
        self,
        request_id: str,
        body: bytes,
        content_type: str | None,
        key: str | None,
        until: float,
        future: "asyncio.Future[Response]",
    ) -> None:
        self.request_id = request_id
        self.body = body
        self.content_type = content_type
        self.key = key
        self.until = until
        self.started = time.monotonic()
        self.at = time.time()
        self.future = future
        self.champion: Loaded
        self.request: ScoringRequest
        self.keys: list[str] | None = None
        self.rows: list[int] | None = None
        self.part: ScoringAnswer | None = None  # the champion's, where rows are divided
        self.part_ms = 0.0
        self.joined = False  # whether the champion is through with its part
        self.reply: Reply | None = None
        self.reason = ""  # why the challenger's answer was not used, and in words
        self.detail = ""
        self.version = ""  # the challenger's

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() > self.until

    @property
    def others(self) -> list[int]:
        """The rows that are not the challenger's."""
        theirs = set(self.rows or ())
        return [row for row in range(self.request.rows) if row not in theirs]


def settle(future: "asyncio.Future[Response]", response: Response) -> None:
    """Answer a request, unless that is done: its time may have been over."""
    if not future.done():
        future.set_result(response)


def chosen(model: str, now: Traffic, job: PredictionJob) -> list[int]:
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
