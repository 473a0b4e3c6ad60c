"""Turns complete journals into Parquet, once: `python -m mlp.runtime.serving.packing SPEC.json`."""

import logging
import os
import sys
from pathlib import Path

from mlp.adapters.predictions.pack import pack
from mlp.core.errors import MlpError
from mlp.runtime.serving.start import read_spec, set_up_logging

log = logging.getLogger("mlp.serving")


def main(path: Path) -> int:
    """Returns the exit code."""
    set_up_logging("packing")
    os.nice(10)
    spec = read_spec(path)
    if spec.serve.log is None:
        return 0
    try:
        done = pack(Path(spec.journal), spec.serve.log)
    except MlpError as e:
        log.error("predictions stay in %s: %s", spec.journal, e.one_line())
        return e.exit_code
    if done.trouble:
        log.error("predictions stay in %s: %s", spec.journal, done.trouble)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
