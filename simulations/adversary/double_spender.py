"""Askers who spend the same credits again: their disk is put back to before they were spent.

The purse itself is the real one and honest, which makes it the best of all double spenders: it
believes in the credits that it shows. The mint locks each of them once.
"""

from dataclasses import dataclass
from typing import Protocol, final


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleSpender:
    """What an experiment says of them: nothing but who they are."""


class Place(Protocol):
    """A node's place, with a disk."""

    def copy(self) -> bytes:
        """What is durable now."""

    def set_back(self, image: bytes, seconds: float) -> None:
        """Go down for so long, and on with an older disk."""


@final
class Spender:
    """Keeps the disk as each question finds it, and goes back to that once it is answered."""

    def __init__(self) -> None:
        self._image = b""

    def asks(self, place: Place) -> None:
        """An ask of the node begins."""
        self._image = place.copy()

    def asked(self, place: Place) -> None:
        """It has ended, and what it cost is to be had once more."""
        place.set_back(self._image, 1.0)
