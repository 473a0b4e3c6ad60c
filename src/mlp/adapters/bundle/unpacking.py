"""Unpacking an archive that may be hostile: all of it or nothing, and nothing outside."""

import gzip
import hashlib
import os
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mlp.core.errors import ConfigurationError, RemoteError
from mlp.core.launch import bundle_rules as rules

_BLOCK = 2**20


def unpack(archive: Path, into: Path, digest: str) -> None:
    """Make the directory `into` of what `make` packed: all of it, or nothing.

    Raises RemoteError where the archive is not the one with that SHA-256 (it came damaged), and
    ConfigurationError where `into` is there already with something in it, or where a member
    could get out of it: nothing is written then.
    """
    if into.is_symlink() or (into.exists() and (not into.is_dir() or any(into.iterdir()))):
        raise ConfigurationError(f"{into} is there already", fix=f"remove {into}")
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise RemoteError(
                f"the code bundle came damaged: its SHA-256 is {found}, and should be {digest}",
                fix="submit it again: what is damaged is replaced",
            )
        file.seek(0)
        into.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=into.parent, prefix=".mlp-bundle-"))
        try:
            with _readable(file) as tar:
                members = _all_members(tar)
                _refuse_hostile(members)
                for member in members:
                    _extract(tar, member, f"{beside}/{_local(member.name)}")
            beside.chmod(0o755)
            beside.rename(into)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _readable(file: BinaryIO) -> Iterator[tarfile.TarFile]:
    """The archive's members; ConfigurationError where they make no sense."""
    try:
        with tarfile.open(
            fileobj=file, mode="r:gz", encoding="utf-8", errors="surrogateescape"
        ) as tar:
            yield tar
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as e:
        raise ConfigurationError("this is not a code bundle", cause=str(e)) from e


def _all_members(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The members, up to the archive's end: tarfile takes what is cut off for complete."""
    members = tar.getmembers()
    assert tar.fileobj is not None  # it is open
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing")
    while tar.fileobj.read(_BLOCK):  # checks what gzip knows of it
        pass
    return members


def _refuse_hostile(members: Sequence[tarfile.TarInfo]) -> None:
    """Raise ConfigurationError where a member, by itself or with the others, could do harm.

    Stricter than tarfile's own "data" filter, which lets a later member replace an earlier one,
    looks at the disk rather than at the archive, rewrites links in newer versions of Python, and
    has had holes in older ones.
    """
    kinds: dict[str, bool] = {}  # name: whether it is a directory
    links = {m.name: m.linkname for m in members if m.issym()}
    for member in members:
        name = member.name
        reason = rules.refusal(name) or _unfit(member)
        if not reason and name in kinds:
            reason = "there is another one of this name"
        if not reason and member.issym() and rules.leads_outside(name, links):
            reason = f"it is a link to {rules.shown(member.linkname)}, outside"
        if reason:
            raise _refused(name, reason)
        kinds[name] = member.isdir()
    for name in kinds:
        above = name
        while above := above.rpartition("/")[0]:
            if not kinds.get(above, True):
                raise _refused(name, f"{rules.shown(above)} is not a directory")


def _refused(name: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the code bundle is refused, nothing is unpacked: {rules.shown(name)}: {reason}"
    )


def _unfit(member: tarfile.TarInfo) -> str:
    """Why what the member is may not be unpacked, "" if it may."""
    if member.issym():
        bad = not member.linkname or rules.control_characters(member.linkname)
        return "it is a link to nowhere" if bad else ""
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
    return "" if plain or member.isdir() else "it is neither file, directory nor symbolic link"


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    """Write a member that was looked at; its directories are real ones."""
    if member.isdir():
        Path(path).mkdir(parents=True, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - 10,000 files
    if member.issym():
        os.symlink(_local(member.linkname), path)  # noqa: PTH211
        return
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    with content, open(path, "xb") as file:
        shutil.copyfileobj(content, file, _BLOCK)
        # Neither the umask nor the archive has a say: no setuid, nothing that others may write.
        os.fchmod(file.fileno(), 0o755 if member.mode & stat.S_IXUSR else 0o644)


def _local(name: str) -> str:
    """A member's name as this machine has it; the opposite of what it was made by."""
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))
