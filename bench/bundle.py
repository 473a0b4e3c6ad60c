"""How long the code bundle of a big repository takes: 10,000 files of 200 MB, tracked by git.

Measured is what a launch does: list the files, then make the archive; the second time nothing has
changed. Once of random bytes, which cannot be compressed, and once of text like code; for the
latter `tar` with `gzip -1` is told beside it. Prints one JSON document; seconds are medians.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import turns

from mlp.adapters import bundle, git

_LIMIT = 2**30


def repository(top: Path, files: int, size: int, *, text: bool) -> None:
    """A repository of so many files, of so many bytes in all, a hundred in each directory."""
    source = random.Random(0)
    words = [f"{source.getrandbits(24):x}" for _ in range(3000)]
    top.mkdir()
    each = size // files
    for number in range(files):
        path = top / f"package_{number // 100}" / f"module_{number}.py"
        path.parent.mkdir(exist_ok=True)
        if text:
            path.write_text(" ".join(source.choices(words, k=each // 7))[:each], encoding="ascii")
        else:
            path.write_bytes(source.randbytes(each))
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=top, check=True, env=turns.environment())


def timed(action: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def launch(top: Path, memo: Path) -> bundle.Bundle:
    """What every launch does."""
    return bundle.make(top, git.shipped_files(top, ["mlflow.db*", "/mlruns/"]), memo, _LIMIT)


def measure(top: Path, folder: Path, count: int) -> dict[str, Any]:
    """First and second time, and unpacking, in turns."""
    found: dict[str, list[float]] = {"listing": [], "first": [], "second": [], "unpacking": []}
    memo, into = folder / "memo", folder / "into"
    for turn in range(count):
        shutil.rmtree(memo, ignore_errors=True)
        shutil.rmtree(into, ignore_errors=True)
        found["listing"].append(timed(lambda: git.shipped_files(top, ["mlflow.db*", "/mlruns/"])))
        found["first"].append(timed(lambda: launch(top, memo)))
        found["second"].append(timed(lambda: launch(top, memo)))
        made = launch(top, memo)
        archive, digest = made.path, made.digest
        found["unpacking"].append(timed(lambda: bundle.unpack(archive, into, digest)))  # noqa: B023
        print(f"turn {turn + 1}/{count}", file=sys.stderr)
    medians = {name: round(statistics.median(seconds), 3) for name, seconds in found.items()}
    return {"seconds": medians, "files": made.files, "bytes": made.size}


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=200_000_000)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("random", "text"):
            repository(folder / kind, options.files, options.size, text=kind == "text")
            results[kind] = measure(folder / kind, folder, options.turns)
        tar = ["tar", "--create", "--use-compress-program=gzip -1", f"--file={folder}/peer.tar.gz"]
        command = turns.Command([*tar, "--exclude=.git", "."], folder / "text")
        timings = turns.measure({"tar": command}, options.turns)["tar"]
        results["text"]["seconds"]["tar with gzip -1"] = turns.seconds(timings)["wall"]
    what = f"code bundle of {options.files:,} files, {options.size / 1e6:g} MB"
    figures = [
        turns.figure(
            f"{what} of {kind}, {time_name} time",
            results[kind]["seconds"][time_name],
            at_most=at_most,
            unit="s",
        )
        for kind in ("random", "text")
        for time_name, at_most in (("first", 5), ("second", 1))
    ]
    print(json.dumps({"figures": figures, **results}, indent=2))


if __name__ == "__main__":
    main()
