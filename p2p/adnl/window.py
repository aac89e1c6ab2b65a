"""Which numbered packets of a peer have been seen: the last 64 exactly, all before as if seen."""

from dataclasses import dataclass
from typing import Final

WIDTH: Final = 64
"""numbers: as many as TON remembers."""

_MASK: Final = (1 << WIDTH) - 1


@dataclass(slots=True)
class Window:
    """Bit i of `mask`: `highest - i` was seen. Number 0 stands for no number."""

    highest: int = 0
    mask: int = 0

    def seen(self, seqno: int) -> bool:
        """Whether this number came before, or may have come too long ago to know."""
        behind = self.highest - seqno
        if seqno <= 0 or behind < 0:
            return False
        return behind >= WIDTH or bool(self.mask >> behind & 1)

    def mark(self, seqno: int) -> None:
        """Remember a number that is not `seen`."""
        ahead = seqno - self.highest
        if ahead > 0:
            self.mask = (self.mask << ahead | 1) & _MASK if ahead < WIDTH else 1
            self.highest = seqno
        elif seqno > 0:
            self.mask |= 1 << -ahead
