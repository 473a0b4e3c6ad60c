"""How results look: text for people, JSON for machines, errors with their fix."""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from mlp.core.errors import MlpError
from mlp.core.finite import for_json
from mlp.core.secrets import Masker


def document(data: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """The one result of a command, on standard output: text, or JSON as RFC 8259 has it."""
    shown = json.dumps(for_json(data), indent=2, default=str) if as_json else text
    click.echo(Masker(os.environ).text(shown))


def steps(commands: Sequence[str]) -> list[str]:
    """The lines that end what a command shows: what to type next, in this order."""
    return ["", "next:", *(f"  {command}" for command in commands)] if commands else []


def note(text: str) -> None:
    """Progress and remarks, on standard error."""
    click.echo(Masker(os.environ).text(text), err=True)


def refused(lines: Sequence[str]) -> list[str]:
    """What MLflow refused of a run's record, for people; nothing where it has it all."""
    if not lines:
        return []
    return ["MLflow refused a part of the record, which is only under .mlp/:"] + [
        f"  {line.partition(chr(10))[0]}" for line in lines
    ]


def error(failure: MlpError) -> None:
    """What failed, what the tool below said, and what to do; on standard error."""
    red = "\033[31m" if colours() else ""
    plain = "\033[0m" if red else ""
    lines = [f"{red}error:{plain} {failure.message}"]
    if failure.cause and failure.cause.strip() != failure.message.strip():
        lines += ["  " + line for line in failure.cause.strip().splitlines()]
    if failure.fix:
        lines.append(f"fix:   {failure.fix}")
    note("\n".join(lines))


def colours() -> bool:
    """Whether standard error is a terminal that shows colours, and the user wants them."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns under headers, each as wide as its widest cell; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max(len(header), *(len(row[i]) for row in cells), 0) for i, header in enumerate(headers)
    ]
    right = [
        bool(rows) and all(isinstance(r[i], int | float) or r[i] in ("", None) for r in rows)
        for i in range(len(headers))
    ]
    lines = [_line(headers, widths, right), *(_line(row, widths, right) for row in cells)]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(str(value).split("\n"))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()


def size(count: int | None) -> str:
    """Bytes for people: 1.5 MB."""
    if count is None:
        return ""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def moment(at: float) -> str:
    """A time for people, as their own clocks have it: 2026-11-25 08:00:00."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def minute(at: float) -> str:
    """The same without the seconds."""
    return moment(at)[:-3]


def duration(seconds: float | None) -> str:
    """Seconds for people: 0.4 s, 2 min 5 s, 3 h 20 min."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
