"""Keeps secret values out of everything that is written: run records, logs, errors.

Secret are the values of environment variables whose names say so, and what stands before the `@`
of an address. Imported at every stage's start: standard library only.
"""

import json
import re
from collections.abc import Mapping, Sequence

MASK = "***"
# Shorter values ("on", "dev1") occur everywhere by chance.
_MIN_LENGTH = 6
_SECRET_NAME = re.compile(
    r"(?i)(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|PWD|CREDENTIALS?|AUTH|APIKEY|KEY|PAT|DSN)(_|$)"
    r"|SECRET|PASSWORD|APIKEY|TOKEN$|CONNECTION_STRING"
)
# Names that match and whose values are not secrets.
_PUBLIC_NAME = re.compile(r"(?i)^(PWD|OLDPWD)$|_FILE$|_PATH$|KEY_ID$|TOKENIZERS?_|SSH_AUTH_SOCK")
# A backslash ends an address: what stands behind it is the escape of an encoded text.
_IN_URL = re.compile(r"://[^\s/@'\"\\]+@")
_PASSWORD = re.compile(rb"://[^\s/:@'\"]*:[^\s/@'\"]+@")
_IN_QUERY = re.compile(
    r"([?&;](?:[\w.-]*(?:token|secret|password|passwd|signature|apikey|api_key|access_key)|sig|key)=)"
    r"[^\s&;'\"\\]+",
    re.IGNORECASE,
)
# An address at the end of what was read may go on in what is read next; no longer than this.
_MAX_URL = 4096
_URL_TAIL = re.compile(rb"(:(/(/[^\s'\"]*)?)?|[?&;][^\s'\"]*)\Z")


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
        # The longest first: one secret may begin with another. Without any, nothing matches.
        texts = sorted(forms, key=len)[::-1]
        self._secrets = [text.encode(errors="surrogateescape") for text in texts]
        self._in_text = re.compile("|".join(map(re.escape, texts)) or r"(?!)")
        self._in_data = re.compile(b"|".join(map(re.escape, self._secrets)) or rb"(?!)")

    def text(self, text: str) -> str:
        """`text` with every secret replaced."""
        return mask_urls(self._in_text.sub(MASK, text))

    def data(self, data: bytes) -> bytes:
        """`data` with every secret replaced."""
        data = self._in_data.sub(MASK.encode(), data)
        if b"://" not in data and b"=" not in data:
            return data
        return mask_urls(data.decode(errors="surrogateescape")).encode(errors="surrogateescape")

    def code(self, data: bytes) -> bytes:
        """`data` with every secret replaced, and nothing that may be code.

        An address keeps its user where there is no password: `ssh://git@host` has no secret.
        """
        return _PASSWORD.sub(f"://{MASK}@".encode(), self._in_data.sub(MASK.encode(), data))

    def stream(self) -> "MaskedStream":
        """A filter for output that arrives in pieces."""
        return MaskedStream(self, self._in_data, self._secrets)


class MaskedStream:
    """Masks output in pieces; only what may be the beginning of a secret waits for the next one."""

    def __init__(
        self, masker: Masker, pattern: "re.Pattern[bytes]", secrets: Sequence[bytes]
    ) -> None:
        self._masker = masker
        self._pattern = pattern
        self._secrets = secrets
        self._window = max([_MAX_URL, *map(len, secrets)])
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The next piece in; out comes what can be shown by now."""
        data = self._held + data
        cut = self._sure(data)
        self._held = data[cut:]
        return self._masker.data(data[:cut])

    def flush(self) -> bytes:
        """The rest, at the end of the output."""
        rest, self._held = self._held, b""
        return self._masker.data(rest)

    def _sure(self, data: bytes) -> int:
        """Where what may go on in the next piece begins; never inside of a complete secret."""
        start = 0
        while True:
            tail = data[max(start, len(data) - self._window) :]
            cut = len(data) - self._unsure(tail)
            match = self._pattern.search(data, start)
            if match is None or match.start() >= cut:
                return cut
            start = match.end()

    def _unsure(self, tail: bytes) -> int:
        """How many bytes at the end could be the beginning of a secret or an address."""
        url = _URL_TAIL.search(tail, max(0, len(tail) - _MAX_URL))
        unsure = len(tail) - url.start() if url else 0
        for secret in self._secrets:
            for length in range(min(len(secret) - 1, len(tail)), unsure, -1):
                if tail.endswith(secret[:length]):
                    unsure = length
                    break
        return unsure
