"""The door to what builds container images (docker, podman, buildah) and to image registries."""

import contextlib
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlp.core.errors import ConfigurationError, RemoteError
from mlp.core.launch.image import Reference
from mlp.core.patience import waiting_for

BUILDERS = ("docker", "podman", "buildah")

_ALIVE = {  # fails where the program is there and what it needs is not
    "docker": ["info", "--format", "{{.ServerVersion}}"],
    "podman": ["info"],
    "buildah": ["info"],
}
_BUILD = {
    "docker": ["build"],
    "podman": ["build", "--layers"],
    "buildah": ["bud", "--layers"],
}
_INSPECT = {
    "docker": ["image", "inspect"],
    "podman": ["image", "inspect"],
    "buildah": ["inspect", "--type", "image"],
}
_ANSWER_S = 60
_HTTP_S = 10
_LAST_LINES = 20
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.manifest.v1",
        "oci.image.index.v1",
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
    )
)
_ACCESS = ("--authfile", "--cert-dir", "--creds", "--tls-verify")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Builder:
    """One of BUILDERS, which works here."""

    name: str

    def build(self, context: Path, image: str, flags: Sequence[str], progress: Progress) -> None:
        """Make `image` from the Containerfile in `context`; ConfigurationError if it fails."""
        file = ["--file", str(context / "Containerfile"), "--tag", image]
        command = [self.name, *_BUILD[self.name], *file, *flags, str(context)]
        if last := _failure(command, progress):
            raise ConfigurationError(
                f"{self.name} could not build {image}",
                fix="correct what its last lines name: the requirements, build.base or build.flags"
                " in mlp.yaml, or the network",
                cause=last,
            )

    def push(self, image: str, flags: Sequence[str], progress: Progress) -> None:
        """Put `image` in its registry; RemoteError if that does not take it."""
        if last := _failure([self.name, "push", *flags, image], progress):
            raise RemoteError(
                f"{self.name} could not push {image}",
                fix=f"{self.name} login, if the registry wants to know you; flags that the push"
                " needs go into build.push_flags in mlp.yaml",
                cause=last,
            )

    def has(self, image: str) -> bool:
        """Whether `image` is in the builder's own store."""
        return _ask([self.name, *_INSPECT[self.name], image])[0]


def builder(wanted: str | None = None) -> Builder:
    """The first of BUILDERS that works here, or the one that is `wanted`.

    Raises ConfigurationError that says of each why it does not.
    """
    reasons = []
    for name in (wanted,) if wanted else BUILDERS:
        if shutil.which(name) is None:
            reasons.append(f"{name}: not installed")
            continue
        works, said = _ask([name, *_ALIVE[name]])
        if works:
            return Builder(name)
        reasons.append(f"{name}: {said.strip().splitlines()[-1] if said.strip() else 'fails'}")
    raise ConfigurationError(
        f"{wanted} does not work here" if wanted else "nothing here can build an image",
        fix="install or start docker, podman or buildah; or build the image elsewhere, and name"
        " it with its tag as the target's `image` in mlp.yaml",
        cause="\n".join(reasons),
    )


def published(image: str, parts: Reference, flags: Sequence[str] = ()) -> bool | None:
    """Whether the registry has `image`, whose `parts` these are; None where it does not tell.

    `flags` are those of the push: they say how the registry is reached.
    """
    insecure = "--tls-verify=false" in flags
    status = _status(parts, insecure)
    if status in (200, 404):
        return status == 200
    # The programs know the user's credentials.
    if shutil.which("skopeo"):
        known = [flag for flag in flags if flag.partition("=")[0] in _ACCESS and "=" in flag]
        return _told(["skopeo", "inspect", "--raw", *known, f"docker://{image}"])
    if shutil.which("docker"):
        known = ["--insecure"] if insecure else []
        return _told(["docker", "manifest", "inspect", *known, image])
    return None


def _told(command: Sequence[str]) -> bool | None:
    there, said = _ask(command)
    if there:
        return True
    absent = ("manifest unknown", "no such manifest", "name unknown")
    return False if any(sign in said for sign in absent) else None


def _status(image: Reference, insecure: bool) -> int | None:
    """The registry's answer to whether it has the manifest; None without one."""
    host = "registry-1.docker.io" if image.registry == "docker.io" else image.registry
    here = host.partition(":")[0] in ("localhost", "127.0.0.1")
    for scheme in ("http", "https") if insecure or here else ("https",):
        address = f"{scheme}://{host}/v2/{image.repository}/manifests/{image.digest or image.tag}"
        with contextlib.suppress(OSError, ValueError):
            return _head(address, insecure)
    return None


def _head(address: str, insecure: bool) -> int:
    import ssl
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    trust = ssl.create_default_context()
    if insecure:
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    request = Request(address, method="HEAD", headers={"Accept": _MANIFESTS})
    try:
        with (
            waiting_for(f"the registry at {address}"),
            urlopen(request, timeout=_HTTP_S, context=trust) as answer,
        ):
            return int(answer.status)
    except HTTPError as e:
        return e.code
    except HTTPException as e:
        raise OSError(f"no answer in HTTP from {address}") from e


def _ask(command: Sequence[str]) -> tuple[bool, str]:
    """Whether the command succeeds, and what it says on standard error."""
    try:
        with waiting_for(" ".join(command[:2])):  # the rest may have a password
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_ANSWER_S
            )
    except subprocess.TimeoutExpired:
        return False, f"no answer in {_ANSWER_S} s"
    return done.returncode == 0, done.stderr.decode(errors="replace")


def _failure(command: Sequence[str], progress: Progress) -> str:
    """Run it, each line it prints going to `progress`; its last lines if it fails, else nothing."""
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                last.append(line.rstrip())
                progress(line.rstrip())
        except BaseException:  # above all Ctrl-C: what was started ends with us
            process.terminate()
            raise
    if process.returncode == 0:
        return ""
    return "\n".join(last).strip() or f"it ended with {process.returncode}"
