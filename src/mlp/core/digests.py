"""One digest for all files of a folder."""

import hashlib
import json
from collections.abc import Mapping

ALGORITHM = "sha256"


def combined(files: Mapping[str, str]) -> str:
    """`sha256:` and the hash over `files`: path in the folder (with /) -> SHA-256 of its content.

    It changes with any path or content, and with nothing else: neither order nor times.
    """
    text = "".join(f"{json.dumps(path)} {files[path]}\n" for path in sorted(files))
    return f"{ALGORITHM}:{hashlib.sha256(text.encode()).hexdigest()}"


def changes(recorded: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What differs in words: "changed: model.pkl", "missing: …", "added: …"."""
    lines = [f"missing: {path}" for path in recorded if path not in found]
    lines += [f"added: {path}" for path in found if path not in recorded]
    lines += [f"changed: {p}" for p, digest in recorded.items() if found.get(p, digest) != digest]
    return sorted(lines)
