"""What becomes of the values of others: what others should keep is dropped, orphans passed on."""

import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Final, TypeAlias, final

from p2p.core import Procedures
from p2p.dht import value as values
from p2p.dht.counts import Count, Counts
from p2p.dht.settings import Settings
from p2p.dht.storage import Storage
from p2p.dht.table import Table
from p2p.errors import RemoteError
from p2p.ton import DhtValue

MIN_REMAINING: Final = 60
"""seconds a value of another must still live to be stored again."""

SHORTEST, LONGEST = 1.0, 30.0
"""seconds between two turns: many values are looked at in each, and few in none."""

Store: TypeAlias = Callable[[DhtValue], Coroutine[object, None, int]]


@final
class Tending:
    """Looks at all values in the course of `Settings.rounds` seconds, a few in each `turn`."""

    def __init__(
        self,
        table: Table,
        storage: Storage,
        store: Store,
        procedures: Procedures,
        settings: Settings,
        counts: Counts,
    ) -> None:
        self._table = table
        self._storage = storage
        self._store = store
        self._procedures = procedures
        self._settings = settings
        self._counts = counts
        self._under_way = 0

    def keeps(self, where: bytes) -> bool:
        """Whether a value belongs to us: not too many of the nodes known are nearer to it."""
        return self._table.nearer(where) < self._settings.k + self._settings.keep_beyond

    def turn(self, now: float) -> float:
        """Look at some values; seconds until the next turn."""
        self._storage.expire(now)
        count = len(self._storage)
        pause = min(max(SHORTEST, self._settings.rounds / max(count, 1)), LONGEST)
        for _ in range(math.ceil(count * pause / self._settings.rounds)):
            where = self._storage.turn()
            value = None if where is None else self._storage.get(now, where)
            if where is not None and value is not None:
                self._look_at(now, where, value)
        return pause

    def _look_at(self, now: float, where: bytes, value: DhtValue) -> None:
        if not self.keeps(where):
            self._storage.drop(where)
        elif self._is_orphan(now, where, value) and self._are_in_charge(where):
            self._storage.touch(now, where)
            self._procedures.start(self._republish(value))

    def _are_in_charge(self, where: bytes) -> bool:
        busy = self._under_way >= self._settings.max_republishing
        return not busy and self._table.nearer(where) == 0

    def _is_orphan(self, now: float, where: bytes, value: DhtValue) -> bool:
        """Whether nobody brought it for as long as its owner would wait.

        Only what its owner has signed is ours to bring again: the rest says by not being brought
        that its owner has left.
        """
        lonely = self._storage.heard(where) + self._settings.publish[1] < now
        return lonely and values.is_signed(value) and value.ttl > now + MIN_REMAINING

    async def _republish(self, value: DhtValue) -> None:
        self._under_way += 1
        with suppress(RemoteError):  # it has expired meanwhile
            await self._store(value)
        self._under_way -= 1
        self._counts.add(Count.REPUBLISHED)
