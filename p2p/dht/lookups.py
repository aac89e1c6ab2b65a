"""What takes several steps: to find nodes or a value, and to store one.

An object of its own, since joining and tending begin lookups too, and must not keep the core.
"""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TypeAlias, final

from p2p.core import Procedures
from p2p.dht import key as keys
from p2p.dht import value as values
from p2p.dht.asking import Asking
from p2p.dht.counts import Count, Counts
from p2p.dht.lookup import Reply, Walk, together, walk
from p2p.dht.node import Node
from p2p.dht.settings import Settings
from p2p.dht.storage import Storage
from p2p.dht.table import Table
from p2p.dht.value import Freshness
from p2p.errors import DhtError, NoCapacity
from p2p.ton import DhtNode, DhtValue

Question: TypeAlias = Callable[[Node, bytes], Coroutine[object, None, Reply | None]]
"""What `Asking` puts to a node about a key."""


@final
class Lookups:
    """Procedures of a node; see `DhtCore`, which offers them."""

    def __init__(
        self,
        table: Table,
        storage: Storage,
        asking: Asking,
        procedures: Procedures,
        settings: Settings,
        counts: Counts,
    ) -> None:
        self._table = table
        self._storage = storage
        self._asking = asking
        self._procedures = procedures
        self._settings = settings
        self._counts = counts
        self.hops: dict[int, int] = {}
        """How many lookups came to their value by so many hops."""

    async def find_under(self, where: bytes) -> DhtValue | None:
        """The value under a key's id, ours if nobody else has one."""
        ended = await self.to_value(where)
        own = self._storage.get(self._asking.now, where)
        found = ended.value or own
        self._counts.add(Count.MISSING if found is None else Count.FOUND)
        if ended.value is not None:
            self.hops[ended.hops] = self.hops.get(ended.hops, 0) + 1
        return found

    async def find_nodes(self, target: bytes) -> list[DhtNode]:
        """The k nodes nearest to an id that answer, nearest first."""
        ended = await self.to_nodes(target)
        return [node.record for node in ended.nearest]

    async def store(self, value: DhtValue) -> int:
        """Store a value at the k nodes nearest to its key; how many of them took it.

        Raises `DhtError` and `BadSignature` for a value that nobody would take.
        """
        if values.check(value, self._asking.now) is Freshness.EXPIRED:
            raise DhtError("a value that has expired")
        where = keys.key_id(value.key.key)
        ended = await self.to_nodes(where)
        self._keep(value, where)
        stores = [self._asking.store(node, value) for node in ended.nearest]
        return sum(await together(self._procedures, stores))

    async def to_value(self, where: bytes) -> Walk:
        """How a lookup of a key's id went."""
        return await self._walk(where, self._asking.value)

    async def to_nodes(self, target: bytes) -> Walk:
        """How a lookup of the nodes nearest to an id went."""
        return await self._walk(target, self._asking.nodes)

    async def _walk(self, target: bytes, ask: Question) -> Walk:
        count = 2 * self._settings.k
        start = self._table.nearest(target, count) or self._table.reserve(target, count)
        ended = await walk(
            target, start, lambda node: ask(node, target), self._procedures, self._settings
        )
        self._counts.add(Count.LOOKUPS)
        return ended

    def _keep(self, value: DhtValue, where: bytes) -> None:
        if self._asking.serving and self._table.nearer(where) < self._settings.k:
            with suppress(NoCapacity):
                self._storage.put(self._asking.now, value)
