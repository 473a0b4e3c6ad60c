"""A project's requirements, made into what an image can install without the project's files."""

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mlp.core.errors import ConfigurationError

_OURS = "mlp-loop"
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?")
_INCLUDE = re.compile(r"(?:-r\s*|--requirement[=\s]\s*)(.+)")
_CONSTRAINT = re.compile(r"(?:-c\s*|--constraint[=\s]\s*)(.+)")
_LOCAL = re.compile(r"(?:-e\b|--editable\b|\.{0,2}/|\.{1,2}(?:$|\[)|file:)|[^@]*@\s*file:")


@dataclass(frozen=True, slots=True)
class Requirements:
    """What is installed and the versions that are allowed: two files in pip's format."""

    install: str
    constraints: str


def flatten(
    path: str, read: Callable[[str], str], wheel: str, also: Sequence[str] = ()
) -> Requirements:
    """The requirements at `path` and all they include, with mlp itself taken from `wheel`.

    `read` gives the text at a path, `wheel` is the address of mlp's wheel in the image; mlp's
    extras stay as the project names them. The packages in `also` are added where the project names
    none of them. Raises ConfigurationError for what only exists here.
    """
    if path.endswith((".toml", ".lock")):
        raise ConfigurationError(
            f"{path} is not in the format of requirements.txt, which the image is made from",
            fix="uv export --no-emit-project --format requirements-txt -o requirements.txt",
        )
    install: list[str] = []
    constraints: list[str] = []
    ours = False
    for kind, line in _lines(path, read, False, ()):
        name = _NAME.match(line)
        if name is None or _normal(name[1]) != _OURS:
            _refuse_local(line, path)
            (constraints if kind else install).append(line)
        elif not kind:
            ours = True
            _, semicolon, marker = line.partition(";")
            only_if = f" ; {marker.split(' --hash')[0].strip()}" if semicolon else ""
            install.append(f"{_OURS}{name[2] or ''} @ {wheel}{only_if}")
    install += [] if ours else [f"{_OURS} @ {wheel}"]
    named = set[str]().union(*map(_brought, install))
    install += [package for package in also if package not in named]
    return Requirements(_text(install), _text(constraints))


def _brought(line: str) -> set[str]:
    """The package that a line names, and those of its extras: dvc[s3] brings dvc-s3."""
    name = _NAME.match(line)
    if name is None:
        return set()
    extras = (name[2] or "").strip("[]").split(",")
    return {_normal(name[1]), *(_normal(f"{name[1]}-{extra.strip()}") for extra in extras if extra)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _lines(
    path: str, read: Callable[[str], str], constraint: bool, above: tuple[str, ...]
) -> Iterator[tuple[bool, str]]:
    """Each line of `path` and of what it includes, and whether it is a constraint only."""
    if path in above:
        return  # a file that includes itself, as pip allows
    whole = re.sub(r"\\\r?\n", " ", read(path))
    for raw in whole.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        if not line:
            continue
        for pattern, more in ((_INCLUDE, constraint), (_CONSTRAINT, True)):
            if included := pattern.fullmatch(line):
                beside = posixpath.join(posixpath.dirname(path), included[1].strip().strip("'\""))
                yield from _lines(posixpath.normpath(beside), read, more, (*above, path))
                break
        else:
            yield constraint, line


def _refuse_local(line: str, path: str) -> None:
    if _LOCAL.match(line):
        raise ConfigurationError(
            f"{path} installs from this machine's disk, which the image does not have: {line}",
            fix="leave it out: the project's code goes to the cluster with each launch;"
            " name another package by its version or its address",
        )
