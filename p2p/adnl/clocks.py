"""How our clock differs from those of the peers that we speak to, by the dates of their keys.

A peer dates the key of a channel when it makes it, which is when it first hears of us. Each peer
could lie, and identities are free: a median of peers that we chose to speak to is told to our
owner, and nothing else is done with it.
"""

from statistics import median
from typing import Final, NamedTuple, final

from p2p.identity import AdnlId

FEWEST: Final = 3
"""peers, from which on a median says something."""

MOST: Final = 64
"""peers whose clocks are remembered."""

LATELY: Final = 3_600.0
"""seconds for which one is: our own clock may be set meanwhile."""

AT_ONCE: Final = 10.0
"""seconds from what we said to a peer, within which a key is new that comes as an answer."""


class ClockOffset(NamedTuple):
    """How far our clock is ahead of theirs."""

    seconds: float
    """Negative if it is behind."""
    peers: int


@final
class Clocks:
    """See the module."""

    def __init__(self) -> None:
        self._heard: dict[AdnlId, tuple[float, float]] = {}

    def hear(self, now: float, peer: AdnlId, date: int) -> None:
        """A peer has just made a key of this date: half a second ago, on the whole second."""
        self._heard.pop(peer, None)
        self._heard[peer] = now, now - date - 0.5
        if len(self._heard) > MOST:
            del self._heard[next(iter(self._heard))]

    def offset(self, now: float) -> ClockOffset | None:
        """The median of what was heard lately; None if that is too little to say."""
        offsets = [offset for when, offset in self._heard.values() if when + LATELY > now]
        return ClockOffset(median(offsets), len(offsets)) if len(offsets) >= FEWEST else None

    def __len__(self) -> int:
        return len(self._heard)
