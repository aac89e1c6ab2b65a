"""Which datagrams are lost: each by itself, or many one after the other.

A model is given eight bytes of the sender's stream for each datagram, whatever becomes of it.
"""

from typing import Final, Protocol, final

BITS: Final = 2.0**-53
HALF_BITS: Final = 2.0**-32
LOW_HALF: Final = (1 << 32) - 1


class Loss(Protocol):
    """A model."""

    @property
    def mean(self) -> float:
        """The share that is lost in the long run."""

    def loses(self, src: int, dst: int, draw: int) -> bool:
        """Whether this one is lost; `draw` has 64 random bits."""


@final
class Independent:
    """Each with the same chance."""

    def __init__(self, chance: float) -> None:
        if not 0.0 <= chance <= 1.0:
            raise ValueError("a chance is between 0 and 1")
        self.mean = chance

    def loses(self, src: int, dst: int, draw: int) -> bool:
        """See `Loss`."""
        return (draw >> 11) * BITS < self.mean


@final
class Bursts:
    """Gilbert and Elliott's: each way is good or bad, and while it is bad it loses many.

    The state of a way is its sender's, and moves once per datagram.
    """

    def __init__(self, *, good_bad: float, bad_good: float, loss_bad: float) -> None:
        if not all(0.0 <= chance <= 1.0 for chance in (good_bad, bad_good, loss_bad)):
            raise ValueError("a chance is between 0 and 1")
        self._good_bad = good_bad
        self._bad_good = bad_good
        self._loss_bad = loss_bad
        moves = good_bad + bad_good
        self.mean = loss_bad * good_bad / moves if moves else 0.0
        self._bad: dict[tuple[int, int], None] = {}

    def loses(self, src: int, dst: int, draw: int) -> bool:
        """See `Loss`."""
        way, turn = (src, dst), (draw & LOW_HALF) * HALF_BITS
        if way in self._bad:
            if turn < self._bad_good:
                del self._bad[way]
        elif turn < self._good_bad:
            self._bad[way] = None
        return way in self._bad and (draw >> 32) * HALF_BITS < self._loss_bad
