"""Writing an archive: a tar of files and links, without owners and times, in gzip's form."""

import errno
import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mlp.adapters.bundle.memo import archive, new_file
from mlp.core.errors import ConfigurationError
from mlp.core.launch import bundle_rules as rules

_BLOCK = 2**20


class ArchiveEntry(NamedTuple):
    """A file that may travel; `link` is where it points if it is a symbolic link, else ""."""

    name: str
    link: str
    size: int
    inode: int
    mode: int
    modified: int
    changed: int


def write(
    top: Path, entries: Sequence[ArchiveEntry], memo: Path
) -> tuple[str, str, dict[str, str]]:
    """Write the archive; returns its digest, its content's, and what was gone by then."""
    gone: dict[str, str] = {}
    with new_file(memo) as (file, part):
        stream = _Stream(file)
        for entry in entries:
            if not _add(stream, f"{top}/{entry.name}", entry):
                gone[entry.name] = "has vanished meanwhile"
        digest, content = stream.end()
        file.flush()
        part.replace(archive(memo, digest))
    return digest, content, gone


def _add(stream: "_Stream", path: str, entry: ArchiveEntry) -> bool:
    """Append a file; False where it is gone."""
    member = tarfile.TarInfo(_portable(entry.name))  # no owner, no time
    if entry.link:
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, _portable(entry.link), 0o777
        stream.write(_header(member))
        return True
    try:
        # What has become a link or a pipe since is neither followed nor waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return False
        raise
    with open(descriptor, "rb", buffering=0) as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return False
        member.size = found.st_size
        member.mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
        stream.write(_header(member))
        left = member.size
        while left and (data := file.read(min(left, _BLOCK))):
            stream.write(data)
            left -= len(data)
    if left:
        raise ConfigurationError(
            f"{rules.shown(entry.name)} became shorter while it was read",
            fix="run it again when nothing writes to it, or leave it out in .mlpignore",
        )
    stream.write(bytes(-member.size % tarfile.BLOCKSIZE))
    return True


def _header(member: tarfile.TarInfo) -> bytes:
    """GNU's form, in which names are plain bytes."""
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _portable(name: str) -> str:
    """A file's name as an archive has it: UTF-8, whatever this machine's names are encoded in."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


class _Stream:
    """A gzip file of members of one block each, those stored that do not get smaller."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting = bytearray()
        self._content = hashlib.sha256()
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Append it."""
        self._waiting += data
        while len(self._waiting) >= _BLOCK:
            block = bytes(self._waiting[:_BLOCK])
            del self._waiting[:_BLOCK]
            self._put(block)

    def end(self) -> tuple[str, str]:
        """Write the end; returns the digests of the archive and of its content."""
        self.write(bytes(2 * tarfile.BLOCKSIZE))
        self._put(bytes(self._waiting))
        return self._digest.hexdigest(), self._content.hexdigest()

    def _put(self, block: bytes) -> None:
        self._content.update(block)
        # A sample tells in a hundredth of the time whether it is worth it.
        sample = b"".join(block[i : i + 1024] for i in range(0, len(block), _BLOCK // 16))
        level = 1 if len(zlib.compress(sample, 1)) < 0.9 * len(sample) else 0
        packed = zlib.compress(block, level, wbits=31)  # with gzip's header, without a time
        self._digest.update(packed)
        self._file.write(packed)
