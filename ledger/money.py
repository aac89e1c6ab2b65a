"""Money: whole nano of TON, distinct from every other number.

1 TON = 10^9 nano. There is no float here and no sign: debts are amounts with a name. Adding tokens
to money is a `TypeError`, because a system that compares the two is not noticed until it pays.
"""

from dataclasses import dataclass
from functools import total_ordering
from typing import Final, final

from p2p.errors import Insufficient

NANO_PER_TON: Final = 1_000_000_000
MAX_NANO: Final = 2**63 - 1
"""Fits SQLite's integer; all TON there is are a fifth of it."""

_DECIMALS: Final = 9
_MAX_TEXT: Final = 32
"""characters: the largest amount needs 24."""


@final
@total_ordering
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Nano:
    """An amount, 0 to `MAX_NANO` nano. Raises `ValueError` outside, `TypeError` for no integer."""

    value: int
    """The bare number of nano, for a wire, a database or JSON."""

    def __post_init__(self) -> None:
        if type(self.value) is not int:
            raise TypeError(f"{type(self.value).__name__} is no number of nano")
        if not 0 <= self.value <= MAX_NANO:
            raise ValueError(f"{self.value} nano is no amount")

    @classmethod
    def parse(cls, text: str) -> "Nano":
        """The amount in `"1.5 TON"`, `"1.5"` or `"20n"`; raises `ValueError` for other text.

        ASCII digits only, no sign, no exponent, at most 9 decimals.
        """
        if len(text) > _MAX_TEXT:
            raise ValueError("too long for an amount")
        if text.endswith("n"):
            return cls(_digits(text.removesuffix("n"), text))
        whole, point, fraction = text.removesuffix(" TON").partition(".")
        if point and not 1 <= len(fraction) <= _DECIMALS:
            raise ValueError(f"{text!r} is no amount: 1 to 9 decimals may follow the point")
        decimals = _digits((fraction or "0").ljust(_DECIMALS, "0"), text)
        return cls(_digits(whole, text) * NANO_PER_TON + decimals)

    def ceil_div(self, parts: int) -> "Nano":
        """The amount over `parts`, rounded up."""
        return Nano(-(-self.value // parts))

    def __add__(self, other: "Nano") -> "Nano":
        if not isinstance(other, Nano):
            return NotImplemented
        return Nano(self.value + other.value)

    def __sub__(self, other: "Nano") -> "Nano":
        if not isinstance(other, Nano):
            return NotImplemented
        if other.value > self.value:
            raise Insufficient(f"{self} is less than {other}")
        return Nano(self.value - other.value)

    def __mul__(self, factor: int) -> "Nano":
        if type(factor) is not int:
            return NotImplemented
        return Nano(self.value * factor)

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        """Equality with another type raises too: it would always be false, and go unnoticed."""
        if not isinstance(other, Nano):
            raise TypeError(f"{type(other).__name__} is no money")
        return self.value == other.value

    def __lt__(self, other: "Nano") -> bool:
        if not isinstance(other, Nano):
            return NotImplemented
        return self.value < other.value

    def __hash__(self) -> int:
        return self.value

    def __bool__(self) -> bool:
        return self.value != 0

    def __str__(self) -> str:
        whole, decimals = divmod(self.value, NANO_PER_TON)
        fraction = f"{decimals:09d}".rstrip("0")
        return f"{whole}.{fraction} TON" if fraction else f"{whole} TON"

    def __repr__(self) -> str:
        return f"Nano({self.value})"


def _digits(digits: str, text: str) -> int:
    if not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"{text!r} is no amount")
    return int(digits)


ZERO: Final = Nano(0)
