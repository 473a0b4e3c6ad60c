"""The door to mlp's own installation: a wheel of the mlp that runs, for an image to have it."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlp.core.errors import ConfigurationError

_DISTRIBUTION = "mlp-loop"
_WHEEL = "Wheel-Version: 1.0\nGenerator: mlp\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel by its content: the same for the same mlp, wherever and however it is installed."""

    version: str
    files: Mapping[str, bytes]

    @property
    def name(self) -> str:
        """The file name that pip wants it to have."""
        return f"mlp_loop-{self.version}-py3-none-any.whl"

    @property
    def digest(self) -> str:
        """SHA-256 of what is in it, hexadecimal."""
        names = "".join(f"{name}\0{_sha256(data).hex()}\n" for name, data in _sorted(self.files))
        return _sha256(names.encode()).hex()

    @property
    def metadata_only(self) -> "Wheel":
        """The same without code: enough to find out and install what mlp needs."""
        kept = {name: data for name, data in self.files.items() if name.endswith("/METADATA")}
        return Wheel(self.version, kept)

    def pack(self) -> bytes:
        """The wheel as a file; the same bytes for the same content."""
        info = f"mlp_loop-{self.version}.dist-info"
        files = {**self.files, f"{info}/WHEEL": _WHEEL.encode()}
        record = "".join(
            f"{name},sha256={_urlsafe(data)},{len(data)}\n" for name, data in _sorted(files)
        )
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, data in _sorted(files):
                entry = zipfile.ZipInfo(name, _LONG_AGO)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, data)
        return packed.getvalue()


def running() -> Wheel:
    """The mlp that runs, from its package and what the installer wrote down; no templates.

    Raises ConfigurationError where mlp runs without being installed.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        installed = distribution(_DISTRIBUTION)
    except PackageNotFoundError as e:
        raise ConfigurationError(
            "this mlp is not installed as a package, so that an image cannot be given the same one",
            fix="pip install mlp-loop, or pip install -e . in its sources",
        ) from e
    info = f"mlp_loop-{installed.version}.dist-info"
    # Without the description behind the headers: a word in it changes no environment.
    headers = (installed.read_text("METADATA") or "").partition("\n\n")[0].rstrip()
    files = {
        f"{info}/METADATA": f"{headers}\n".encode(),
        f"{info}/entry_points.txt": (installed.read_text("entry_points.txt") or "").encode(),
    }
    return Wheel(installed.version, files | _package(Path(__file__).parents[1]))


def _package(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.rglob("*"):
        inner = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inner.parts)
        if hidden or "__pycache__" in inner.parts or inner.parts[0] == "_assets":
            continue
        if path.is_file():
            found[f"mlp/{inner.as_posix()}"] = path.read_bytes()
    return found


def _sorted(files: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    # As wheels are to be: what the installer reads last.
    return sorted(files.items(), key=lambda file: (".dist-info/" in file[0], file[0]))


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(_sha256(data)).rstrip(b"=").decode()
