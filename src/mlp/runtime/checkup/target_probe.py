"""Looks around in a pod: `python -m mlp.runtime.checkup.target_probe`, started by `mlp doctor`.

The question comes in the environment; the answer is one line of the log. Whether a thing works is
found out by using it as a stage does.
"""

import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version

from mlp.core.checkup import probe_job
from mlp.core.checkup.probe_job import ProbeAnswer, ProbeQuestion
from mlp.core.errors import MlpError
from mlp.core.secrets import Masker

_HTTP_S = 10.0


def main() -> None:
    """Print the answer to the question in MLP_PROBE."""
    question = ProbeQuestion.from_json(os.environ[probe_job.VARIABLE])
    masker = Masker(os.environ)
    tracking = None if question.tracking_uri is None else _tracking(question.tracking_uri)
    remote = None if question.remote is None else _remote(question)
    answer = ProbeAnswer(
        time=time.time(),
        user=os.getuid(),
        python=sys.version.partition(" ")[0],
        mlp=_version(),
        tracking=tracking and masker.text(tracking),
        remote=remote and masker.text(remote),
    )
    print(answer.to_line(), flush=True)  # noqa: T201 - its result


def _version() -> str:
    try:
        return version("mlp-loop")
    except PackageNotFoundError:
        return "unknown"


def _tracking(uri: str) -> str:
    """What is wrong with the tracking server as it is seen from here."""
    root = uri.rstrip("/")
    status, said = _get(f"{root}/version")
    if said and status != 401:  # it answers: it wants to know who asks
        return said
    # MLflow tells its version to everybody, and then may refuse by the name it is called by.
    _, said = _get(f"{root}/api/2.0/mlflow/experiments/get-by-name?experiment_name=mlp")
    return said if "host header" in said.lower() else ""


def _get(address: str) -> tuple[int | None, str]:
    """The status of the answer, None where there is none, and what is wrong."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        with urlopen(address, timeout=_HTTP_S) as answer:
            return answer.status, ""
    except HTTPError as e:
        text = " ".join(e.read(200).decode(errors="replace").split())
        return e.code, f"it answers with {e.code}: {text}"
    except URLError as e:
        return None, str(e.reason)
    except (OSError, HTTPException, ValueError) as e:
        return None, str(e) or type(e).__name__


def _remote(question: ProbeQuestion) -> str:
    """What is wrong with the DVC remote: a file is written there, read, and removed."""
    from mlp.adapters import data

    try:
        storage = data.storage_of(question.remote or {})
        storage.write(f"{question.folder}/probe", b"mlp")
        read = storage.read(f"{question.folder}/probe")
        storage.remove(question.folder)
    except MlpError as e:
        return e.message if e.cause in e.message else f"{e.message}: {e.cause}"
    return "" if read == b"mlp" else "what is written there is not what is read"


if __name__ == "__main__":
    main()
