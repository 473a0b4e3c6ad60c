"""What the processes of a server start with: the spec, the state's address, logging."""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlp.core.errors import ConfigurationError
from mlp.core.runs.environment import QUIET, STATE
from mlp.core.serving.serve_section import ServeSpec

HOST, PORT = "MLP_SERVE_HOST", "MLP_SERVE_PORT"


def read_spec(path: Path, environ: Mapping[str, str] = os.environ) -> ServeSpec:
    """The spec in a file, with host and port as the variables say where they are set.

    Raises ConfigurationError where it is none.
    """
    try:
        spec = ServeSpec.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ConfigurationError(f"{path} is not the spec of a server", cause=str(e)) from e
    given: dict[str, Any] = {}
    if environ.get(HOST):
        given["host"] = environ[HOST]
    if environ.get(PORT):
        given["port"] = int(environ[PORT])
    if not given:
        return spec
    return spec.model_copy(update={"serve": spec.serve.model_copy(update=given)})


def state_of(spec: ServeSpec, environ: Mapping[str, str] = os.environ) -> str:
    """The address of the state database. Raises ConfigurationError where nothing says it."""
    address = spec.state or environ.get(STATE)
    if not address:
        raise ConfigurationError(
            "the server does not know where the ledger is",
            fix=f"set the variable {STATE} to the address of the state database",
        )
    return address


def set_up_logging(who: str) -> None:
    """Log to standard error, each line with the process that wrote it; no tool phones home."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format=f"%(asctime)s %(levelname)s {who}: %(message)s",
    )
    logging.getLogger("mlp.serving").setLevel(logging.INFO)
    # A registry that is away is told once, by us, and not at each look. A filter stays where MLflow
    # sets the levels of its loggers anew.
    logging.getLogger("mlflow.store.db.utils").addFilter(lambda record: record.exc_info is None)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
