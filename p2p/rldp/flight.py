"""The symbols of one part that have been sent: which are on their way, how many more are wanted.

A confirm names the last 32 symbols that arrived, and how many did in all. So the fate of a symbol
may stay unknown while the number of those that arrived is known: what is counted as delivered is
that number, and what is counted as lost are symbols given up beyond it.
"""

from functools import lru_cache
from math import ceil, sqrt
from typing import Final, final

from p2p.rldp.congestion import Mark, Outcome

MASK_BITS: Final = 32
"""symbols that a confirm names: the highest received and those right below it."""

EXTRA: Final = 5
"""symbols wanted beyond the source symbols, and as many again whenever those were not enough: with
two more than the source symbols one part in 16 million cannot be decoded."""

EXTRA_SHARE: Final = 8
"""source symbols for each of them that is wanted at first: a query of one symbol needs none."""

SURPLUS: Final = 64
"""symbols beyond the source symbols that a peer may confirm without having the part. Each one more
makes it 256 times less likely that an honest peer cannot decode: this one only wants symbols."""

MOST_SHARE, MOST_MORE = 4, 64
"""symbols of a part that leave at most: so many per source symbol, and some. A path that loses two
thirds needs fewer; who says that all was lost, from an address that is not its own, gets no more.
"""

REORDERING: Final = 3
"""symbols by which a confirmed one must be ahead before another is thought lost."""

SURE_DEVIATIONS: Final = 6.0
"""standard deviations of a normal distribution beyond which lies one case in 1e9."""

SHORT: Final = 50
"""symbols up to which the exact distribution is summed; above, the normal one is close."""

SHORT_RISK: Final = 1e-3
"""the chance, at the loss reckoned with, that what is on its way of so few symbols is not enough.
A round trip lost once in a thousand times is cheaper than what 1e-9 would cost every time."""


@final
class Flight:
    """Keeps account of one part's symbols, numbered from 0 in the order in which they leave."""

    def __init__(self, source: int) -> None:
        self.source = source
        """symbols into which the part was cut"""
        self.received = 0
        """distinct symbols that the peer has"""
        self._marks: list[Mark | None] = []
        self._oldest = 0
        self._named = 0
        self._given_up = 0

    @property
    def sent(self) -> int:
        """How many have left: the number of the next one."""
        return len(self._marks)

    @property
    def left(self) -> int:
        """How many more may ever leave."""
        return MOST_SHARE * self.source + MOST_MORE - len(self._marks)

    @property
    def insatiable(self) -> bool:
        """Whether the peer confirms more than anybody needs, instead of being complete."""
        return self.received > self.source + SURPLUS

    @property
    def lost(self) -> int:
        """Symbols given up, but for as many as arrived without having been named."""
        return max(0, self._given_up - (self.received - self._named))

    @property
    def in_flight(self) -> int:
        """Symbols that are neither delivered nor lost."""
        return len(self._marks) - self.received - self.lost

    def short(self, loss: float) -> int:
        """How many more should leave, if that share is lost."""
        return min(self.left, copies(self._wanted() - self.received, loss) - self.in_flight)

    def send(self, count: int, mark: Mark) -> None:
        """The next `count` symbols leave."""
        self._marks += [mark] * count

    def confirm(
        self, now: float, patience: float, max_seqno: int, mask: int, count: int
    ) -> Outcome | None:
        """Take a confirm; None for one that names or counts what never left.

        Symbols older than `patience` seconds and well behind what has arrived are given up.
        """
        if (
            not 0 <= count <= max_seqno <= self.sent
            or mask >> max_seqno
            or mask.bit_count() > count
        ):
            return None
        received, lost = self.received, self.lost
        newest = self._name(max_seqno - 1, mask)
        self.received = max(received, count, self._named)
        self._give_up(now - patience, max_seqno - REORDERING)
        return Outcome(self.received - received, self.lost - lost, newest)

    def complete(self) -> Outcome | None:
        """The peer has the part. None if nothing had left.

        Of a part so short that no confirm came before, it is the confirm of the last source symbol,
        without which it cannot have been complete.
        """
        if not self.sent:
            return None
        arrived = min(self.source, self.sent)
        newest = None if self.received else self._marks[arrived - 1]
        received, lost = self.received, self.lost
        self.received = max(received, arrived)
        return Outcome(self.received - received, self.lost - lost, newest)

    # --- inside ---

    def _wanted(self) -> int:
        first = self.source + min(EXTRA, self.source // EXTRA_SHARE)
        if self.received < first:
            return first
        return first + (self.received - first) // EXTRA * EXTRA + EXTRA

    def _name(self, seqno: int, mask: int) -> Mark | None:
        newest = None
        while mask:
            mark = self._marks[seqno] if mask & 1 else None
            if mark is not None:
                newest = newest or mark
                self._marks[seqno] = None
                self._named += 1
            mask >>= 1
            seqno -= 1
        return newest

    def _give_up(self, before: float, below: int) -> None:
        while self._oldest < below:
            mark = self._marks[self._oldest]
            if mark is not None:
                if mark.sent_at > before:
                    return
                self._marks[self._oldest] = None
                self._given_up += 1
            self._oldest += 1


@lru_cache(4_096)
def copies(wanted: int, loss: float) -> int:
    """The least number of symbols of which `wanted` arrive, but for a chance of 1e-9.

    Of up to 50 it is 1e-3.
    """
    if wanted > SHORT:
        spread = SURE_DEVIATIONS * sqrt(loss * (1 - loss))
        root = (spread + sqrt(spread * spread + 4 * (1 - loss) * wanted)) / (2 * (1 - loss))
        return ceil(root * root)

    # That the last one wanted is the n-th sent: the terms of the negative binomial distribution.
    count = wanted
    chance = sure = (1 - loss) ** wanted
    while sure < 1 - SHORT_RISK:
        chance *= loss * count / (count - wanted + 1)
        sure += chance
        count += 1
    return count
