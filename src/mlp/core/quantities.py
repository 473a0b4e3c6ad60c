"""Amounts as Kubernetes and people write them: "64Gi", "500m", "10m" (minutes), "1d"."""

import re
from decimal import Decimal

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** (i + 1) for i, suffix in enumerate("kMGTPE")},
    **{f"{suffix}i": Decimal(1024) ** (i + 1) for i, suffix in enumerate("KMGTPE")},
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([a-zA-Z]*)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+)([smhd])")


def amount(quantity: str | float) -> float:
    """The number that a quantity means: bytes, cores or pieces. Raises ValueError if it is none."""
    match = _QUANTITY.fullmatch(str(quantity).strip())
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError(f"{quantity!r} is not a quantity, such as 4, 500m or 64Gi")
    return float(Decimal(match[1]) * _SUFFIXES[match[2]])


def seconds(duration: str | int) -> int:
    """The seconds of "90", "90s", "10m", "1h30m" or "1d". Raises ValueError if it is none."""
    text = str(duration).strip()
    if text.isdigit():
        return int(text)
    if not text or _DURATION.sub("", text):
        raise ValueError(f"{duration!r} is not a duration, such as 90s, 10m, 1h30m or 1d")
    return sum(int(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
