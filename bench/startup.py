"""How long a user waits for help: `mlp --help` and every `mlp VERB --help`, against `dvc --help`.

Prints one JSON document; seconds are medians, ratios the median of the ratios within one turn.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import peers
import turns
from turns import Command

from mlp.cli.main import mlp


def verbs(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of `mlp`, the groups too, as what is typed after `mlp`."""
    if path:
        yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from verbs(below, (*path, name))


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=11)
    options = parser.parse_args()
    here = Path.cwd()
    mlp_program = str(Path(sys.executable).parent / "mlp")
    commands = {
        "dvc --help": Command([peers.program("dvc", "dvc"), "--help"], here),
        "mlp --help": Command([mlp_program, "--help"], here),
    }
    for path in verbs(mlp):
        commands[f"mlp {' '.join(path)} --help"] = Command([mlp_program, *path, "--help"], here)
    timings = turns.measure(commands, options.turns)
    ratios = {name: turns.ratio(t, timings["dvc --help"]) for name, t in timings.items()}
    slowest = max(
        (n for n in ratios if n not in ("dvc --help", "mlp --help")), key=ratios.__getitem__
    )
    figures = [
        turns.figure("`mlp --help` against `dvc --help`", ratios["mlp --help"], at_most=0.5),
        turns.figure(
            "the slowest `mlp VERB --help` against `dvc --help`",
            ratios[slowest],
            at_most=1.0,
            note=f"`{slowest}`, of {len(commands) - 2}",
        ),
    ]
    seconds = {name: turns.seconds(t) for name, t in timings.items()}
    print(json.dumps({"figures": figures, "seconds": seconds, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
