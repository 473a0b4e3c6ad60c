"""The door to the log of a stage."""

from pathlib import Path

_TAIL_BYTES = 16384


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines that say something; of a progress bar what it showed last; [] without one."""
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    lines = [line.rpartition("\r")[2].rstrip() for line in text.splitlines()]
    return [line for line in lines if line][-count:]
