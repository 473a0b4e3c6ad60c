"""`python -m mlp.runtime.serving SPEC.json`: serve until SIGTERM."""

import sys
from pathlib import Path

from mlp.adapters import http_server
from mlp.core.errors import MlpError
from mlp.runtime.serving.start import read_spec, set_up_logging, state_of
from mlp.runtime.serving.supervisor import Supervisor


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    as_json = arguments[1:] == ["--json"]
    if len(arguments) != 1 + as_json:
        usage = "usage: python -m mlp.runtime.serving SPEC.json [--json]"
        print(usage, file=sys.stderr)  # noqa: T201
        return 2
    set_up_logging("server")
    try:
        http_server.check()
        spec = read_spec(Path(arguments[0]))
        state_of(spec)
        return Supervisor(spec, as_json=as_json).run()
    except MlpError as e:
        print(f"error: {e.one_line()}", file=sys.stderr)  # noqa: T201
        return e.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
