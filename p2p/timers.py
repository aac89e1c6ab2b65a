"""When each thing of a core is due: keys instead of actions, so that no timer holds an object."""

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar, final

K = TypeVar("K", bound=Hashable)


def soonest(*deadlines: float | None) -> float | None:
    """The earliest of some times; None stands for never."""
    found = None
    for when in deadlines:
        if when is not None and (found is None or when < found):
            found = when
    return found


@final
class Timers(Generic[K]):
    """Keys in the order of (time, setting). Setting a key again moves it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._current: dict[K, int] = {}
        self._count = 0

    def set(self, key: K, when: float) -> None:
        """Make `key` due at `when`, and at no other time."""
        self._count += 1
        self._current[key] = self._count
        heapq.heappush(self._heap, (when, self._count, key))
        if len(self._heap) > 2 * len(self._current) + 64:
            self._purge()

    def clear(self, key: K) -> None:
        """Forget `key`; harmless if it is not set."""
        self._current.pop(key, None)

    def next(self) -> float | None:
        """The earliest time at which a key is due."""
        heap, current = self._heap, self._current
        while heap:
            when, count, key = heap[0]
            if current.get(key) == count:
                return when
            heapq.heappop(heap)
        return None

    def take(self, now: float) -> Iterator[K]:
        """Each key that is due, those that are set meanwhile included; it is no longer set."""
        while (when := self.next()) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._current[key]
            yield key

    def __contains__(self, key: K) -> bool:
        return key in self._current

    def __len__(self) -> int:
        return len(self._current)

    def _holds(self, entry: tuple[float, int, K]) -> bool:
        return self._current.get(entry[2]) == entry[1]

    def _purge(self) -> None:
        self._heap = [entry for entry in self._heap if self._holds(entry)]
        heapq.heapify(self._heap)
