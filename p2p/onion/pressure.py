"""How hard a node is pressed by CREATEs, and what each must show for being read.

Of what a node can read in a second most is for links that ask for little: a share that those who
flood it cannot take. Who asks for more contends for the rest, and once many do, each has to solve a
puzzle, harder with the rate.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, final

from p2p import defaults
from p2p.onion.link import Bucket

PUZZLES: Final[Sequence[tuple[int, int]]] = ((800, 20), (400, 18), (200, 16), (100, 14))
"""(CREATEs a second from which, zero bits): 2^14 tries take Python 20 ms, 2^20 a second"""


class Share(Enum):
    """What a CREATE is charged to."""

    NONE = "none"
    """There is no room: it is not read."""
    FAIR = "fair"
    """Its link asks for little."""
    EXCESS = "excess"
    """Its link asks for more: it may have to show a puzzle."""


@final
class Pressure:
    """The CREATEs of all links of a node."""

    def __init__(self) -> None:
        self._fair = Bucket(*defaults.CREATES_FAIR)
        self._excess = Bucket(*defaults.CREATES_EXCESS)
        self._second = 0
        self._count = self._before = 0

    def share(self, now: float, link: Bucket) -> Share:
        """What a CREATE of a link is charged to; `link` is its own fair share."""
        self._note(now)
        if link.take(now) and self._fair.take(now):
            return Share.FAIR
        return Share.EXCESS if self._excess.take(now) else Share.NONE

    def bits(self, share: Share) -> int:
        """Zero bits of a puzzle that it must show."""
        if share is Share.FAIR:
            return 0
        rate = max(self._before, self._count)
        return next((bits for least, bits in PUZZLES if rate >= least), 0)

    def _note(self, now: float) -> None:
        second = int(now)
        if second != self._second:
            self._before = self._count if second == self._second + 1 else 0
            self._second, self._count = second, 0
        self._count += 1
