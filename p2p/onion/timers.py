"""When each thing of a core is due: keys instead of actions, so that no timer holds an object."""

import heapq
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, final


class Due(IntEnum):
    """What a timer is for."""

    HELLO = 0
    """A link's first frame from the peer."""
    WRITE = 1
    """A link's bucket lets a write through."""
    PADDING = 2
    """A link has been silent."""
    REST = 3
    """A link has had no circuits."""
    HALF = 4
    """The second frame of a CREATE."""
    LANE = 5
    """What an ended circuit still has queued."""
    GONE = 6
    """The number of an ended circuit."""
    BUILD = 7
    """The rest of the path of a circuit relayed here."""
    LIFE = 8
    """A circuit relayed here, at its longest."""
    OPEN = 9
    """A circuit of ours, until it opens."""
    ANSWER = 10
    """A circuit to us, until it is accepted or refused."""
    IDLE = 11
    """A circuit of ours without cells."""
    AGE = 12
    """A circuit of ours or to us, at its longest."""


class Key(NamedTuple):
    """One timer: its purpose, and the link or circuit that it is about."""

    due: Due
    of: int
    circuit: int = 0
    """The circuit's number on the link, where `of` is a link."""


@final
class Timers:
    """Keys in the order of (time, setting). Setting a key again moves it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Key]] = []
        self._current: dict[Key, int] = {}
        self._count = 0

    def set(self, key: Key, when: float) -> None:
        """Make `key` due at `when`, and at no other time."""
        self._count += 1
        self._current[key] = self._count
        heapq.heappush(self._heap, (when, self._count, key))
        if len(self._heap) > 2 * len(self._current) + 64:
            self._purge()

    def clear(self, key: Key) -> None:
        """Forget `key`; harmless if it is not set."""
        self._current.pop(key, None)

    def next(self) -> float | None:
        """The earliest time at which a key is due."""
        while self._heap and not self._holds(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> Iterator[Key]:
        """Each key that is due, those that are set meanwhile included; it is no longer set."""
        while (when := self.next()) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._current[key]
            yield key

    def __contains__(self, key: Key) -> bool:
        return key in self._current

    def __len__(self) -> int:
        return len(self._current)

    def _holds(self, entry: tuple[float, int, Key]) -> bool:
        return self._current.get(entry[2]) == entry[1]

    def _purge(self) -> None:
        self._heap = [entry for entry in self._heap if self._holds(entry)]
        heapq.heapify(self._heap)
