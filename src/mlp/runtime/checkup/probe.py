"""Asks one thing outside this machine whether it is there, in a process that can be ended.

`python -m mlp.runtime.checkup.probe remote|store`, in the project's directory; the tracking address
comes in the environment, for it may hold a password. What was found is printed as a JSON list. The
libraries underneath wait as long as they like and raise what they like: whoever started this gives
it a time limit and takes the last line of its standard error for the reason.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from mlp.core.checkup.health import Check, CheckVerdict
from mlp.core.errors import MlpError
from mlp.core.runs import environment

# Runs of two machines are put in order by their clocks.
_MAX_SKEW_S = 30.0


def remote() -> list[Check]:
    """The default DVC remote of the project in the working directory."""
    from mlp.adapters import data

    found = data.remote(Path.cwd())
    if found is None:
        return [
            Check(
                "data remote",
                CheckVerdict.NOTE,
                "none: the data is in this machine's cache only",
                fix="dvc remote add --default NAME URL",
            )
        ]
    if found.holds_data:
        return [Check("data remote", CheckVerdict.OK, f"{found.name} answers ({found.url})")]
    return [
        Check(
            "data remote",
            CheckVerdict.NOTE,
            f"{found.name} ({found.url}) holds nothing yet",
            fix="dvc push",
        )
    ]


def store() -> list[Check]:
    """The tracking address."""
    from mlp.adapters import tracking

    answer = tracking.reachable(os.environ[environment.TRACKING_URI])
    found = [Check("mlflow", CheckVerdict.OK, answer.message)]
    ahead = answer.clock_ahead
    if ahead is not None and abs(ahead) > _MAX_SKEW_S:
        word = "ahead of" if ahead > 0 else "behind"
        found.append(
            Check(
                "clock",
                CheckVerdict.PROBLEM,
                f"the tracking server's clock is {abs(ahead):.0f} s {word} this machine's",
                fix="let both be set over the network (NTP): `timedatectl`",
            )
        )
    elif ahead is not None:
        found.append(Check("clock", CheckVerdict.OK, "agrees with the tracking server's"))
    return found


_PROBES: dict[str, tuple[str, Callable[[], list[Check]]]] = {
    "remote": ("data remote", remote),
    "store": ("mlflow", store),
}


def main(which: str) -> None:
    """Print what probe `which` finds."""
    name, probe = _PROBES[which]
    try:
        found = probe()
    except MlpError as e:
        found = [Check(name, CheckVerdict.PROBLEM, e.message, e.fix, e.cause)]
    print(json.dumps([dataclasses.asdict(check) for check in found]))  # noqa: T201 - its result


if __name__ == "__main__":
    main(sys.argv[1])
