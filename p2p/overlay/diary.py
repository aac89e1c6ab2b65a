"""On how many of the last seven days each node was listed: what makes a relay a stable one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, final

from p2p import defaults
from p2p.identity import AdnlId
from p2p.overlay.advert import DAY

WEEK: Final = 7

MOST: Final = 2 * defaults.MAX_ADVERTS
"""nodes remembered, listed or not: then those that were listed least are forgotten."""


@dataclass(slots=True)
class _Days:
    last: int
    """UTC day number."""
    bits: int
    """Bit i: listed i days before `last`."""

    def at(self, day: int) -> int:
        passed = max(0, day - self.last)
        return self.bits << passed & (1 << WEEK) - 1 if passed < WEEK else 0


@final
class Diary:
    """`mark` who is listed, ask for the `days` of a node."""

    def __init__(self) -> None:
        self._nodes: dict[AdnlId, _Days] = {}

    def mark(self, now: float, nodes: Iterable[AdnlId]) -> None:
        """These are listed now."""
        day = int(now // DAY)
        for node in nodes:
            known = self._nodes.get(node)
            if known is None:
                self._nodes[node] = _Days(day, 1)
            elif known.last < day:
                known.bits, known.last = known.at(day) | 1, day
        self._forget(day)

    def learn(self, now: float, days: Mapping[AdnlId, int]) -> None:
        """Others have listed these on so many of the last days; who is known is known better."""
        day = int(now // DAY)
        for node, count in days.items():
            if node not in self._nodes and count:
                self._nodes[node] = _Days(day, (1 << min(count, WEEK)) - 1)

    def days(self, now: float, node: AdnlId) -> int:
        """On how many of the last 7 days, this one included, it was listed."""
        known = self._nodes.get(node)
        return 0 if known is None else known.at(int(now // DAY)).bit_count()

    def __len__(self) -> int:
        return len(self._nodes)

    def _forget(self, day: int) -> None:
        if len(self._nodes) <= MOST:
            return
        by_worth = sorted(
            self._nodes, key=lambda node: (self._nodes[node].at(day).bit_count(), node)
        )
        for node in by_worth[: len(by_worth) - MOST // 2]:
            del self._nodes[node]
