"""Keeps secret values out of everything that is written: run records, logs, errors.

Secret are the values of environment variables whose names say so, and what stands before the `@`
of an address. Imported at every stage's start: standard library only.
"""

import json
import re
from collections.abc import Mapping

MASK = "***"
# Shorter values ("on", "dev1") occur everywhere by chance.
_MIN_LENGTH = 6
_SECRET_NAME = re.compile(
    r"(?i)(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|PWD|CREDENTIALS?|AUTH|APIKEY|KEY|PAT|DSN)(_|$)"
    r"|SECRET|PASSWORD|APIKEY|TOKEN$|CONNECTION_STRING"
)
# Names that match and whose values are no secrets.
_PUBLIC_NAME = re.compile(r"(?i)^(PWD|OLDPWD)$|_FILE$|_PATH$|KEY_ID$|TOKENIZERS?_|SSH_AUTH_SOCK")
_IN_URL = re.compile(r"://[^\s/@'\"]+@")
_IN_QUERY = re.compile(
    r"([?&;](?:[\w.-]*(?:token|secret|password|passwd|signature|apikey|api_key|access_key)|sig|key)=)"
    r"[^\s&;'\"]+",
    re.IGNORECASE,
)
# An address at the end of what was read may go on in what is read next; no longer than this.
_MAX_URL = 4096
_URL_TAIL = re.compile(rb":(/(/[^\s'\"]*)?)?\Z")


def mask_urls(text: str) -> str:
    """`text` without user names, passwords and tokens in the addresses that it contains."""
    return _IN_QUERY.sub(rf"\g<1>{MASK}", _IN_URL.sub(f"://{MASK}@", text))


def is_secret_name(name: str) -> bool:
    """Whether an environment variable's name says that its value is a secret."""
    return bool(_SECRET_NAME.search(name)) and not _PUBLIC_NAME.search(name)


class Masker:
    """Replaces the secrets of an environment wherever they turn up."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        values = {v for k, v in environ.items() if is_secret_name(k) and len(v) >= _MIN_LENGTH}
        values |= {
            password
            for value in environ.values()
            for password in re.findall(r"://[^\s/:@]*:([^\s/@]+)@", value)
            if len(password) >= _MIN_LENGTH
        }
        forms = values | {json.dumps(value)[1:-1] for value in values}
        # The longest first: one secret may begin with another.
        self._secrets = sorted((f.encode(errors="surrogateescape") for f in forms), key=len)[::-1]
        self._pattern = (
            re.compile(b"|".join(map(re.escape, self._secrets))) if self._secrets else None
        )

    def text(self, text: str) -> str:
        """`text` with every secret replaced."""
        return self.data(text.encode(errors="surrogateescape")).decode(errors="surrogateescape")

    def data(self, data: bytes) -> bytes:
        """`data` with every secret replaced."""
        if self._pattern is not None:
            data = self._pattern.sub(MASK.encode(), data)
        if b"://" not in data and b"=" not in data:
            return data
        return mask_urls(data.decode(errors="surrogateescape")).encode(errors="surrogateescape")

    def stream(self) -> "MaskedStream":
        """A filter for output that arrives in pieces."""
        return MaskedStream(self, self._secrets)


class MaskedStream:
    """Masks output in pieces; only what may be the beginning of a secret waits for the next one."""

    def __init__(self, masker: Masker, secrets: list[bytes]) -> None:
        self._masker = masker
        self._secrets = secrets
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The next piece in; out comes what can be shown by now."""
        data = self._held + data
        cut = len(data) - self._unsure(data)
        self._held = data[cut:]
        return self._masker.data(data[:cut])

    def flush(self) -> bytes:
        """The rest, at the end of the output."""
        rest, self._held = self._held, b""
        return self._masker.data(rest)

    def _unsure(self, data: bytes) -> int:
        """How many bytes at the end could be the beginning of a secret."""
        url = _URL_TAIL.search(data[-_MAX_URL:])
        unsure = len(data[-_MAX_URL:]) - url.start() if url else 0
        for secret in self._secrets:
            for length in range(min(len(secret) - 1, len(data)), unsure, -1):
                if data.endswith(secret[:length]):
                    unsure = length
                    break
        return unsure
