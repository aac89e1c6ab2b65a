"""The values that this node keeps for others: replaced by rule, expiring, bounded."""

import heapq
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, final

from p2p.dht import key as keys
from p2p.dht import value as values
from p2p.dht.settings import Settings
from p2p.entropy import Entropy
from p2p.errors import NoCapacity
from p2p.ton import DhtValue

_STALE_ENTRIES: Final = 64
"""entries of the queue of ends that may be void, besides one per value, before it is purged."""


@dataclass(slots=True)
class _Kept:
    value: DhtValue
    heard: float
    """When somebody stored it last."""
    number: int
    """What its entry in the queue of ends has."""


@final
class Storage:
    """Holds checked values only: whoever puts one has called `values.check`."""

    def __init__(self, settings: Settings, entropy: Entropy) -> None:
        self._settings = settings
        self._entropy = entropy
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._ends: list[tuple[int, int, bytes]] = []
        self._numbers = 0

    def put(self, now: float, value: DhtValue) -> None:
        """Keep a value, by the rule of its key. Raises `NoCapacity` if there is no room."""
        where = keys.key_id(value.key.key)
        self.expire(now)
        kept = self._kept.get(where)
        if kept is not None:
            kept.value = values.update(kept.value, value, now, self._entropy)
            kept.heard = now
            return
        if len(self._kept) >= self._settings.max_values:
            raise NoCapacity("no more values are kept")
        self._add(now, where, value)

    def get(self, now: float, where: bytes) -> DhtValue | None:
        """The value of a key id that has not expired."""
        kept = self._kept.get(where)
        return kept.value if kept is not None and kept.value.ttl > now else None

    def heard(self, where: bytes) -> float:
        """When somebody stored this value last; the beginning of time if nobody did."""
        kept = self._kept.get(where)
        return -math.inf if kept is None else kept.heard

    def touch(self, now: float, where: bytes) -> None:
        """Count a value as stored now."""
        if where in self._kept:
            self._kept[where].heard = now

    def drop(self, where: bytes) -> None:
        """Keep it no longer."""
        self._kept.pop(where, None)

    def clear(self) -> None:
        """Keep nothing any longer."""
        self._kept.clear()
        self._ends.clear()

    def turn(self) -> bytes | None:
        """The key id that has not been given for longest: values take turns to be looked at."""
        where = next(iter(self._kept), None)
        if where is not None:
            self._kept.move_to_end(where)
        return where

    def expire(self, now: float) -> None:
        """Drop what has expired. A value that was prolonged meanwhile gets another entry."""
        while self._ends and self._ends[0][0] <= now:
            _, number, where = heapq.heappop(self._ends)
            kept = self._kept.get(where)
            if kept is None or kept.number != number:
                continue
            if kept.value.ttl <= now:
                del self._kept[where]
            else:
                heapq.heappush(self._ends, (kept.value.ttl, number, where))

    def _add(self, now: float, where: bytes, value: DhtValue) -> None:
        self._numbers += 1
        self._kept[where] = _Kept(value, now, self._numbers)
        heapq.heappush(self._ends, (value.ttl, self._numbers, where))
        if len(self._ends) > 2 * len(self._kept) + _STALE_ENTRIES:
            self._ends = [
                (kept.value.ttl, kept.number, where) for where, kept in self._kept.items()
            ]
            heapq.heapify(self._ends)

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {"dht_values": len(self._kept), "dht_ends": len(self._ends)}

    def __len__(self) -> int:
        return len(self._kept)
