"""Making an archive of code: what goes in, and whether the last one still holds."""

import hashlib
import os
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlp.adapters.bundle.memo import archive, prune, remember, remembered
from mlp.adapters.bundle.writing import ArchiveEntry, write
from mlp.core.errors import ConfigurationError
from mlp.core.launch import bundle_rules as rules

_FORM = "1"  # of the archives; raised when the same files give another one
# Time stamps are not finer than this many nanoseconds: a file may change again within them, unseen.
_TICK = 50_000_000


@dataclass(frozen=True, slots=True)
class Bundle:
    """An archive of code. `left_out` has the reason for each file that did not travel."""

    path: Path
    digest: str
    """SHA-256 of the archive, hexadecimal. Another version of zlib may compress differently."""
    content: str
    """SHA-256 of what is in the archive (names, content, modes): the same on every machine."""
    size: int
    """Bytes of the archive."""
    files: int
    largest: Sequence[tuple[str, int]]
    """The five biggest files, with their bytes."""
    left_out: Mapping[str, str]


def make(top: Path, files: Sequence[str], memo: Path, limit: int) -> Bundle:
    """Pack `files`, named from `top`, into an archive in the directory `memo`.

    Where no file has changed since the last call, its archive is taken. Raises ConfigurationError
    where the files have more than `limit` bytes, or names with control characters.
    """
    began = time.time_ns()
    entries, left_out = _survey(top, files)
    _check(entries, limit)
    memo.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256("\n".join([_FORM, *map(ascii, entries)]).encode()).hexdigest()
    found = remembered(memo, key)
    if found is None:
        digest, content, gone = write(top, entries, memo)
        left_out |= gone
        entries = [entry for entry in entries if entry.name not in gone]
        if not gone and all(entry.changed < began - _TICK for entry in entries):
            remember(memo, {"key": key, "digest": digest, "content": content})
    else:
        digest, content = found
    prune(memo)
    path = archive(memo, digest)
    sizes = sorted((-entry.size, entry.name) for entry in entries)[:5]
    return Bundle(
        path=path,
        digest=digest,
        content=content,
        size=path.stat().st_size,
        files=len(entries),
        largest=tuple((name, -size) for size, name in sizes),
        left_out=left_out,
    )


def _survey(top: Path, files: Sequence[str]) -> tuple[list[ArchiveEntry], dict[str, str]]:
    """What is there and may travel, in the archive's order; and the rest, each with why not."""
    entries, left_out = [], {}
    beyond_link: dict[str, bool] = {"": False}
    base = f"{top}/"
    for name in sorted(set(files), key=os.fsencode):
        reason = rules.left_out(name)
        if not reason and _beyond_link(base, name.rpartition("/")[0], beyond_link):
            reason = "lies behind a symbolic link"
        entry = None if reason else _entry(base, name)
        if isinstance(entry, ArchiveEntry):
            entries.append(entry)
        else:
            left_out[name] = reason or str(entry)
    links = {entry.name: entry.link for entry in entries if entry.link}
    for name in links:
        if rules.leads_outside(name, links):
            left_out[name] = "a link that leads outside of the repository"
    return [entry for entry in entries if entry.name not in left_out], left_out


def _beyond_link(base: str, folder: str, known: dict[str, bool]) -> bool:
    """Whether the directory is reached by a symbolic link: git's index may still have its files."""
    if folder not in known:
        above = folder.rpartition("/")[0]
        known[folder] = _beyond_link(base, above, known) or Path(base + folder).is_symlink()
    return known[folder]


def _entry(base: str, name: str) -> ArchiveEntry | str:
    """What the file is now, or why it cannot travel."""
    path = base + name
    try:
        found = os.lstat(path)
        link = os.readlink(path) if stat.S_ISLNK(found.st_mode) else ""  # noqa: PTH115 - 10,000 files
    except (FileNotFoundError, NotADirectoryError):
        return "is not there"
    if stat.S_ISDIR(found.st_mode):
        return "a repository of its own: `git submodule add` or check it out"
    if not link and not stat.S_ISREG(found.st_mode):
        return "neither a file nor a link"
    size = 0 if link else found.st_size
    state = (found.st_ino, found.st_mode, found.st_mtime_ns, found.st_ctime_ns)
    return ArchiveEntry(name, link, size, *state)


def _check(entries: Sequence[ArchiveEntry], limit: int) -> None:
    """Raise ConfigurationError where the files are not to travel as they are."""
    bad = [e.name for e in entries if rules.control_characters(e.name + e.link)]
    bad += [e.name for e in entries if rules.refusal(e.name) and e.name not in bad]
    if bad:
        raise ConfigurationError(
            "names that hold control characters or are too long do not travel: "
            + _enumeration([rules.shown(name) for name in bad]),
            fix="rename them, or leave them out in .mlpignore",
        )
    total = sum(entry.size for entry in entries)
    if total > limit:
        biggest = sorted(entries, key=lambda entry: -entry.size)[:5]
        named = [f"{rules.shown(entry.name)} ({_mib(entry.size)})" for entry in biggest]
        raise ConfigurationError(
            f"the code has {_mib(total)} in {len(entries):,} files, of which at most {_mib(limit)} "
            f"may travel; the biggest: {', '.join(named)}",
            fix="hand data to DVC (`dvc add FILE`), leave out what a run does not need in "
            ".mlpignore, or raise targets.NAME.max_bundle in mlp.yaml",
        )


def _enumeration(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
