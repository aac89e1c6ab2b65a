"""Virtual time for scenarios whose nodes exchange no bytes: actions in order, on the grid."""

import heapq
from collections.abc import Callable
from typing import final

from p2p.transport.fabric import EPOCH, on_grid
from simulations.log import EventLog


@final
class Timeline:
    """Runs what was entered, in order of time and then of entry."""

    def __init__(self, log: EventLog | None = None) -> None:
        self.now = EPOCH
        """Unix seconds of virtual time."""
        self.log = log
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._entries = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at an instant; at once if that is past."""
        heapq.heappush(self._heap, (max(on_grid(when), self.now), self._entries, action))
        self._entries += 1

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        self.at(self.now + seconds, action)

    def run(self, until: float, max_records: int | None = None) -> bool:
        """Run to `until`, what happens then included; False if `max_records` stopped it before."""
        until = on_grid(until)
        while self._heap and self._heap[0][0] <= until:
            if max_records is not None and self._records() >= max_records:
                return False
            self.now, _, action = heapq.heappop(self._heap)
            action()
        self.now = max(self.now, until)
        return True

    def __len__(self) -> int:
        return len(self._heap)

    def _records(self) -> int:
        return 0 if self.log is None else self.log.records
