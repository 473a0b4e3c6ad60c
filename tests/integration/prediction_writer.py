"""A process that writes predictions down, and prints the id of each as soon as it is kept.

Arguments: the folder of the journal, how many predictions, how many threads.
"""

import os
import sys
import threading
import time
from pathlib import Path

from mlp.adapters.predictions.prediction_journal import PredictionJournal
from mlp.core.serving.prediction_log import Served

BODY = b'{"dataframe_records": [{"x": 1.5, "user": "anna"}]}'


def served(request_id: str, **more: object) -> Served:
    given = {
        "at": time.time(),
        "version": "1",
        "route": "champion",
        "latency_ms": 1.25,
        "content_type": "application/json",
        "request": BODY,
        "response": b'{"predictions": [1]}',
        **more,
    }
    return Served(request_id=request_id, **given)  # type: ignore[arg-type]


def main(folder: str, count: int, threads: int) -> None:
    journal = PredictionJournal(Path(folder), "demo", max_bytes=100_000)

    def write(thread: int) -> None:
        for i in range(count):
            name = f"{os.getpid()}-{thread}-{i}"
            if journal.append(served(name)):
                os.write(1, f"{name}\n".encode())

    started = [threading.Thread(target=write, args=(n,)) for n in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
