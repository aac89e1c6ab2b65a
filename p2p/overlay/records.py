"""Records of members in the DHT: where an overlay's members are found by who knows none of them."""

from collections.abc import Sequence
from typing import Final, final

from p2p.dht import value as values
from p2p.dht.core import DhtCore
from p2p.errors import Unreachable
from p2p.ton import OverlayNode

LIFE: Final = 3_600
"""seconds a value is kept that we have stored, as TON's nodes do; its records are believed for 600,
and stored anew each minute or so."""


@final
class DhtRecords:
    """The `Records` of a node that has a DHT."""

    def __init__(self, dht: DhtCore) -> None:
        self._dht = dht

    async def find(self, name: bytes) -> Sequence[OverlayNode]:
        """See `Records`."""
        found = await self._dht.find_value(values.overlay_key(name))
        return () if found is None else values.members(found)

    async def store(self, name: bytes, record: OverlayNode) -> None:
        """See `Records`."""
        value = values.store_members(name, [record], record.version + LIFE)
        if await self._dht.store(value) == 0:
            raise Unreachable("no node of the DHT took our record")
