"""The door to torchrun: one command in several processes, as `python -m mlp.adapters.gang`.

Ends with the exit code of the process that failed first, and says which one that was; torchrun's
own report of it is a page that hides what the process itself printed last. Where the nodes cannot
meet, or the place where they meet is gone, the file named by MLP_GANG_LOST says so.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mlp.core.errors import MissingExtraError
from mlp.core.runs import environment


def main(arguments: Sequence[str]) -> int:
    """torchrun with `arguments`; returns 0, or the exit code of the process that failed first."""
    try:
        from torch.distributed import DistError
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.elastic.rendezvous.api import RendezvousError
        from torch.distributed.run import parse_args, run
    except ModuleNotFoundError as e:
        missing = MissingExtraError("training with several processes", "train", str(e))
        fix = missing.fix
        if environment.GANG_LOST in os.environ:  # in a pod, whose packages are its image's
            fix = "add mlp-loop[train] to the image's requirements, then: mlp build"
        print(f"error: {missing.message}\nfix:   {fix}", file=sys.stderr)  # noqa: T201
        return missing.exit_code
    try:
        run(parse_args(list(arguments)))
    except ChildFailedError as e:
        rank, failure = e.get_first_failure()
        code = failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
        print(f"rank {rank} failed first, with exit code {code}", file=sys.stderr)  # noqa: T201
        return int(code)
    except SignalException as e:
        return 128 + int(e.sigval)
    except (RendezvousError, DistError) as e:
        return _lost(f"{type(e).__name__}: {e}")
    return 0


def _lost(reason: str) -> int:
    if environment.GANG_LOST in os.environ:
        Path(os.environ[environment.GANG_LOST]).write_text(reason, encoding="utf-8")
    print(f"the nodes did not meet: {reason}", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
