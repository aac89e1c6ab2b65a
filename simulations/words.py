"""Numbers and settings as people read them, alike in reports and on a terminal."""

import math
from typing import Final

_UNITS: Final = {"s": " s", "1/s": "/s", "bytes": " bytes", "bits": " bits", "nano": " nano"}


def number(value: float) -> str:
    """Four digits that matter; whole numbers as they are."""
    if math.isnan(value):
        return "unknown"
    if abs(value) >= 10_000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.4g}"


def unit(name: str) -> str:
    """A unit behind a number; a share has none."""
    return _UNITS.get(name, "")


def value(setting: object) -> str:
    """A setting as `--set` takes it."""
    if isinstance(setting, bool):
        return str(setting).lower()
    if isinstance(setting, float) and setting == int(setting) and abs(setting) < 1e15:
        return str(int(setting))
    return str(setting)
