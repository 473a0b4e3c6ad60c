"""Runs a command with its output going to standard error and a log file, secrets masked in both.

Standard output is for the result of `mlp run`; what stages print is its progress.

A terminal stays a terminal for the command (progress bars work): it gets a pseudo-terminal then.
"""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence

from mlp.core.secrets import Masker

_PARENT_CHECK_S = 0.5


def run_teed(
    command: Sequence[str],
    variables: Mapping[str, str],
    log: str,
    masker: Masker,
    asked_to_end: Callable[[int], None] = lambda _: None,
) -> int:
    """Run `command` to its end; returns its exit code, 128 + N where signal N killed it.

    SIGTERM is passed on to the command and all it started; Ctrl-C they hear from the terminal
    themselves. `asked_to_end` is told the signal. When the process that called us dies (`kill -9`
    of `mlp run`), they are ended too: nobody would be there to record their outputs.
    """
    os.makedirs(os.path.dirname(log), exist_ok=True)
    # One channel for both, since both go to one place: their lines come in the order of writing.
    outer, inner = _channel(2)
    child = subprocess.Popen(command, env=dict(variables), stdout=inner, stderr=inner)
    os.close(inner)

    def pass_on(number: int, _: object) -> None:
        asked_to_end(number)
        _end_tree(child.pid, signal.SIGTERM)

    signal.signal(signal.SIGINT, lambda number, _: asked_to_end(number))
    signal.signal(signal.SIGTERM, pass_on)
    with open(log, "ab", buffering=0) as file:
        _copy(outer, (2, file.fileno()), child, masker)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _channel(fd: int) -> tuple[int, int]:
    """(outer, inner) ends for one output of the command."""
    if not os.isatty(fd):
        return os.pipe()
    outer, inner = os.openpty()
    attributes = termios.tcgetattr(inner)
    attributes[1] &= ~termios.OPOST  # the real terminal turns \n into \r\n, once
    termios.tcsetattr(inner, termios.TCSANOW, attributes)
    size = fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)
    fcntl.ioctl(inner, termios.TIOCSWINSZ, size)
    return outer, inner


def _copy(
    output: int, sinks: Sequence[int], child: "subprocess.Popen[bytes]", masker: Masker
) -> None:
    """Copy the output to all `sinks` until it is closed."""
    parent = os.getppid()
    stream = masker.stream()
    data = None
    while data != b"":
        readable, _, _ = select.select([output], [], [], _PARENT_CHECK_S)
        if os.getppid() != parent:
            _end_tree(child.pid, signal.SIGKILL)
        if not readable and child.poll() is not None:
            break  # ended, but something it left behind in the background holds the output open
        if not readable:
            continue
        data = _read(output)
        text = stream.feed(data) if data else stream.flush()
        for sink in sinks:
            with contextlib.suppress(OSError):  # a closed terminal or a full disk
                _write_all(sink, text)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # how a pseudo-terminal says that its other end is closed
        return b""


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _end_tree(pid: int, number: signal.Signals) -> None:
    for process in [*_descendants(pid), pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def _descendants(pid: int) -> Iterator[int]:
    """The programs below `pid`, the deepest first (Linux; elsewhere none).

    Copies of a program that it forked itself, as data loaders are, are its own to end: without
    them it could not save a checkpoint first.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        children = " ".join(_text(f"/proc/{pid}/task/{thread}/children") for thread in threads)
    except OSError:
        return
    ours = _text(f"/proc/{pid}/cmdline")
    for child in children.split():
        yield from _descendants(int(child))
        with contextlib.suppress(OSError):
            if _text(f"/proc/{child}/cmdline") != ours:
                yield int(child)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
