"""The values that this node keeps for others: replaced by rule, expiring, bounded.

Who fills it with junk must not keep others out. When it is full, what nobody has signed yields to
what somebody has, and of two alike the one farther from us, which other nodes keep better.
"""

import heapq
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from p2p.dht import key as keys
from p2p.dht import node as nodes
from p2p.dht import value as values
from p2p.dht.settings import Settings
from p2p.entropy import Entropy
from p2p.errors import NoCapacity
from p2p.identity import AdnlId
from p2p.ton import DhtValue

_STALE_ENTRIES: Final = 64
"""entries of a queue that may be void, besides one per value, before it is purged."""

_Worth: TypeAlias = tuple[bool, int]
"""Of two values the lesser yields: whether anybody signed it, and how near to us it is."""


@dataclass(slots=True)
class _Kept:
    value: DhtValue
    heard: float
    """When somebody stored it last."""
    number: int
    """What its entries in the queues have."""


@final
class Storage:
    """Holds checked values only: whoever puts one has called `values.check`."""

    def __init__(self, own: AdnlId, settings: Settings, entropy: Entropy) -> None:
        self._own = own
        self._settings = settings
        self._entropy = entropy
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._ends: list[tuple[int, int, bytes]] = []
        self._worths: list[tuple[_Worth, int, bytes]] = []
        self._numbers = 0

    def put(self, now: float, value: DhtValue) -> None:
        """Keep a value, by the rule of its key. Raises `NoCapacity` if all are worth more."""
        where = keys.key_id(value.key.key)
        self.expire(now)
        kept = self._kept.get(where)
        if kept is not None:
            kept.value = values.update(kept.value, value, now, self._entropy)
            kept.heard = now
            return
        if len(self._kept) >= self._settings.max_values:
            self._make_room(self._worth(where, value))
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
        self._worths.clear()

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
        self._purge()

    def _add(self, now: float, where: bytes, value: DhtValue) -> None:
        self._numbers += 1
        self._kept[where] = _Kept(value, now, self._numbers)
        heapq.heappush(self._ends, (value.ttl, self._numbers, where))
        heapq.heappush(self._worths, (self._worth(where, value), self._numbers, where))
        self._purge()

    def _purge(self) -> None:
        most = 2 * len(self._kept) + (_STALE_ENTRIES if self._kept else 0)
        if len(self._ends) > most:
            self._ends = [(kept.value.ttl, kept.number, at) for at, kept in self._kept.items()]
            heapq.heapify(self._ends)
        if len(self._worths) > most:
            self._worths = [
                (self._worth(at, kept.value), kept.number, at) for at, kept in self._kept.items()
            ]
            heapq.heapify(self._worths)

    def _worth(self, where: bytes, value: DhtValue) -> _Worth:
        return values.is_vouched(value), -nodes.distance(where, self._own)

    def _make_room(self, worth: _Worth) -> None:
        """Drop the value that is worth least, if that is less than this."""
        while self._worths:
            least, number, where = self._worths[0]
            kept = self._kept.get(where)
            now_worth = self._worth(where, kept.value) if kept is not None else least
            if kept is None or kept.number != number:
                heapq.heappop(self._worths)
            elif now_worth != least:
                heapq.heapreplace(self._worths, (now_worth, number, where))
            elif least < worth:
                heapq.heappop(self._worths)
                self.drop(where)
                return
            else:
                break
        raise NoCapacity("no more values are kept")

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {
            "dht_values": len(self._kept),
            "dht_ends": len(self._ends),
            "dht_worths": len(self._worths),
        }

    def __len__(self) -> int:
        return len(self._kept)
