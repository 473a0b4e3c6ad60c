"""The door to prometheus_client: what a model server counts, right with several workers.

Each worker writes to files of its slot, which a worker that replaces a dead one takes over: nothing
that was counted is lost, and the files do not become more.
"""

import os
from pathlib import Path
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


def forget(folder: Path, slot: int) -> None:
    """Remove what a worker that has ended had in hand; what it counted stays."""
    for gauges in folder.glob(f"gauge_*_{slot}.db"):
        gauges.unlink()


class Metrics:
    """The metrics of one worker; `exposition` has those of all workers of `folder`.

    `slot` tells apart the workers that run at the same time. Made once in a process.
    """

    def __init__(self, folder: Path, slot: int) -> None:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        from prometheus_client import Counter, Gauge, Histogram, values

        values.ValueClass = values.MultiProcessValue(lambda: slot)
        forget(folder, slot)
        self._folder = folder
        self._requests = Counter(
            "mlp_requests", "Requests for predictions.", ["route", "version", "status"]
        )
        self._seconds = Histogram(
            "mlp_request_seconds",
            "Seconds from a request's arrival to its answer.",
            ["route"],
            buckets=_SECONDS,
        )
        self._fallbacks = Counter(
            "mlp_fallbacks", "Requests that the champion answered for the challenger.", ["reason"]
        )
        self._shadows = Counter(
            "mlp_shadow_requests", "Predictions beside the answer, by outcome.", ["outcome"]
        )
        self._killed = Counter("mlp_challenger_killed", "Challengers killed.", ["reason"])
        self.unlogged = Counter(
            "mlp_predictions_unlogged", "Predictions answered that the log had no room for."
        )
        self.in_flight = Gauge("mlp_in_flight", "Requests under way.", multiprocess_mode="livesum")
        self._loaded = Gauge(
            "mlp_model_loaded",
            "1 where a version is loaded, in at least one worker.",
            ["role", "version"],
            multiprocess_mode="livemax",
        )
        self._seen = Gauge(
            "mlp_follower_seen_timestamp_seconds",
            "When the registry or the state was last read, by the worker that is furthest behind.",
            ["source"],
            multiprocess_mode="livemin",
        )
        self._children: dict[tuple[str, str, int], Any] = {}
        self._timers: dict[str, Any] = {}

    def answered(self, route: str, version: str, status: int, seconds: float) -> None:
        """Count an answer to a request for predictions."""
        child = self._children.get((route, version, status))
        if child is None:
            child = self._requests.labels(route, version, str(status))
            self._children[route, version, status] = child
        child.inc()
        timer = self._timers.get(route)
        if timer is None:
            timer = self._timers[route] = self._seconds.labels(route)
        timer.observe(seconds)

    def fell_back(self, reason: str) -> None:
        """Count a request that the champion answered in the challenger's place."""
        self._fallbacks.labels(reason).inc()

    def shadowed(self, outcome: str) -> None:
        """Count a prediction beside the answer: answered, failed or skipped."""
        self._shadows.labels(outcome).inc()

    def killed(self, reason: str) -> None:
        """Count a challenger's process that had to end."""
        self._killed.labels(reason).inc()

    def loaded(self, role: str, version: str, is_loaded: bool) -> None:
        """Say whether this worker has a version loaded, as champion or challenger."""
        self._loaded.labels(role, version).set(int(is_loaded))

    def seen(self, source: str, at: float) -> None:
        """Say when the registry or the state was read; `at` in seconds since the epoch."""
        self._seen.labels(source).set(at)

    def exposition(self) -> bytes:
        """The metrics of all workers as Prometheus reads them, in `CONTENT_TYPE`."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._folder))
        return bytes(generate_latest(registry))
