"""The environment image of a target as data: its Containerfile, its tag, its name in a registry."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlp.core.errors import ConfigurationError

# Where the image keeps what it was made from, for whoever asks what is in it.
PLACE = "/opt/mlp"
REQUIREMENTS, WHEEL = "requirements", "wheel"  # directories there, and of the build's context
INSTALL, CONSTRAINTS = "requirements.txt", "constraints.txt"
USER = 1000

_DOCKER_HUB = "docker.io"
_REFERENCE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9+._-]+:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
# Of the builders' flags those that decide how something is built, not what comes out.
_HOW = frozenset(
    [
        "--add-host",
        "--authfile",
        "--cache-from",
        "--cache-to",
        "--cert-dir",
        "--cpu-period",
        "--cpu-quota",
        "--cpu-shares",
        "--cpuset-cpus",
        "--cpuset-mems",
        "--creds",
        "--dns",
        "--isolation",
        "--jobs",
        "--layers",
        "--load",
        "--log-level",
        "--memory",
        "--memory-swap",
        "--network",
        "--no-cache",
        "--progress",
        "--pull",
        "--quiet",
        "--retry",
        "--retry-delay",
        "--runtime",
        "--secret",
        "--shm-size",
        "--ssh",
        "--storage-driver",
        "--storage-opt",
        "--tls-verify",
        "--ulimit",
        "--volume",
        "-m",
        "-q",
        "-v",
    ]
)
# What pip is told by the build's environment or --build-arg, as uv calls it.
_SETTINGS = """\
    [ -z "${PIP_FIND_LINKS:-}" ] || \\
        export UV_FIND_LINKS="$(echo $PIP_FIND_LINKS | tr ' ' ',')"; \\
    [ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="$PIP_INDEX_URL"; \\
    [ -z "${PIP_EXTRA_INDEX_URL:-}" ] || export UV_INDEX="$PIP_EXTRA_INDEX_URL"; \\
    [ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="$PIP_CERT"; \\
    [ -z "${PIP_DEFAULT_TIMEOUT:-}" ] || export UV_HTTP_TIMEOUT="$PIP_DEFAULT_TIMEOUT"; \\
"""


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name: registry, repository in it, and what it is fixed by, if anything."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def fixed(self) -> bool:
        """Whether it names one image, by tag or digest."""
        return self.tag is not None or self.digest is not None


def reference(text: str) -> Reference:
    """The parts of an image's name, as docker reads it. Raises ConfigurationError for no name."""
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise ConfigurationError(
            f"{text!r} is not an image's name",
            fix="it is REGISTRY/NAME, as in ghcr.io/me/flights; the name in lower case",
        )
    first, slash, rest = found["name"].partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return Reference(first, rest, found["tag"], found["digest"])
    if not slash and ":" in first:  # NAME:123 is a tag
        first, _, number = first.partition(":")
        return Reference(_DOCKER_HUB, f"library/{first}", number, found["digest"])
    name = found["name"] if slash else f"library/{first}"
    return Reference(_DOCKER_HUB, name, found["tag"], found["digest"])


def containerfile(base: str, wheel: str) -> str:
    """How the image is made on `base`; `wheel` is the file name of mlp's wheel.

    The context has REQUIREMENTS/ with INSTALL, CONSTRAINTS and a wheel that has only mlp's
    metadata, and WHEEL/ with all of it: another mlp changes the last layer only, which is small.
    """
    return f"""\
FROM {base}
USER root
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_CERT PIP_DEFAULT_TIMEOUT
ENV VIRTUAL_ENV=/opt/env PATH=/opt/env/bin:$PATH HOME=/home/mlp
RUN getent group {USER} || echo mlp:x:{USER}: >> /etc/group; \\
    getent passwd {USER} || echo mlp:x:{USER}:{USER}::/home/mlp:/bin/sh >> /etc/passwd; \\
    mkdir -p /home/mlp /mlp; chown {USER}:{USER} /home/mlp /mlp
COPY {REQUIREMENTS} {PLACE}/{REQUIREMENTS}
RUN set -eu; \\
{_SETTINGS}    python3 -m venv $VIRTUAL_ENV; \\
    pip install --quiet --no-cache-dir --target /tmp/uv uv; \\
    /tmp/uv/bin/uv pip install --no-cache --compile-bytecode \\
        --requirements {PLACE}/{REQUIREMENTS}/{INSTALL} \\
        --constraints {PLACE}/{REQUIREMENTS}/{CONSTRAINTS}; \\
    rm -rf /tmp/uv
COPY {WHEEL} {PLACE}/{WHEEL}
RUN pip install --quiet --no-cache-dir --no-index --no-deps --force-reinstall \\
    {PLACE}/{WHEEL}/{wheel}
USER {USER}:{USER}
WORKDIR /mlp
"""


def tag(containerfile: str, files: Mapping[str, str], flags: Sequence[str]) -> str:
    """`env-` and a hash of what goes in: `files` are the digests of the context, by path."""
    told = json.dumps([containerfile, dict(files), telling(flags)], sort_keys=True)
    return f"env-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def telling(flags: Sequence[str]) -> list[str]:
    """Of a builder's flags those that decide what comes out; one that is not known does."""
    kept = []
    keep = True
    for flag in flags:
        if flag.startswith("-"):
            keep = flag.partition("=")[0] not in _HOW
        if keep:
            kept.append(flag)
    return kept
