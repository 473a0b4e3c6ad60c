"""Files that look as if they held a secret, by their names."""

_SUFFIXES = (".pem", ".key", ".p12", ".pfx", ".kdbx", ".keystore")
_NAMES = ("id_rsa", "id_ed25519", "id_ecdsa", "id_dsa", ".netrc", ".pypirc", "credentials")


def looks_secret(name: str) -> bool:
    """Whether the file called `name` (without its directory) is likely to hold a key."""
    low = name.lower()
    return low == ".env" or low.startswith(".env.") or low in _NAMES or low.endswith(_SUFFIXES)
