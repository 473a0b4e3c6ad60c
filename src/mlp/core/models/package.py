"""A version as a folder that runs by itself: the files around the model's own, as text."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

MODEL = "model"
REQUIREMENTS = "requirements.txt"
CONSTRAINTS = "constraints.txt"  # which MLflow's requirements.txt may name
SUMS = "SHA256SUMS"
DESCRIPTION = "model.json"
SERVE = "serve"
CONTAINERFILE = "Containerfile"

_SERVE = """\
#!/bin/sh
# Checks the files and answers MLflow's scoring protocol: /ping, /invocations.
# HOST and PORT say where. Needs what requirements.txt names.
set -eu
cd "$(dirname "$0")"
sha256sum --check --quiet SHA256SUMS
export MLFLOW_DISABLE_TELEMETRY=true HOST="${HOST:-127.0.0.1}" PORT="${PORT:-8080}"
# MLflow's server as this very process: `mlflow models serve` starts another one, and would not
# hand SIGTERM on to it as the first process of a container.
exec "${PYTHON:-python}" -c '
import os
import uvicorn
from mlflow.pyfunc import load_model, scoring_server

app = scoring_server.init(load_model("model"))
uvicorn.run(app, host=os.environ["HOST"], port=int(os.environ["PORT"]))
'
"""
_CONTAINERFILE = """\
FROM {base}
USER root
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_CERT PIP_DEFAULT_TIMEOUT
ENV PATH=/opt/env/bin:$PATH HOME=/tmp
WORKDIR /opt/model
COPY {installed} ./
RUN python3 -m venv /opt/env && pip install --quiet --no-cache-dir -r {requirements}
COPY . ./
LABEL {labels}
ENV HOST=0.0.0.0 PORT=8080
EXPOSE 8080
USER 1000:1000
CMD ["/opt/model/{serve}"]
"""


def texts(
    name: str,
    version: str,
    base: str,
    needs: Mapping[str, str],
    files: Mapping[str, str],
    record: Any,
) -> dict[str, str]:
    """The text of each file beside the model's own; `files` are the digests of those by path.

    `needs` are the texts of what pip is given: REQUIREMENTS, and CONSTRAINTS where there are any.
    """
    labels = " ".join(
        f"{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in (
            ("mlp.model", name),
            ("mlp.version", version),
            ("mlp.digest", record["digest"]),
        )
    )
    return {
        **needs,
        SUMS: "".join(f"{digest}  {MODEL}/{path}\n" for path, digest in sorted(files.items())),
        DESCRIPTION: json.dumps(record, indent=2, sort_keys=True, default=str) + "\n",
        SERVE: _SERVE,
        CONTAINERFILE: _CONTAINERFILE.format(
            base=base,
            installed=" ".join(sorted(needs)),
            requirements=REQUIREMENTS,
            labels=labels,
            serve=SERVE,
        ),
    }


def start(folder: str) -> str:
    """The commands that start a package in `folder`."""
    place = shlex.quote(folder)
    return f"pip install -r {place}/{REQUIREMENTS} && {place}/{SERVE}"
