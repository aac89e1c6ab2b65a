"""Hops that a lookup takes in a DHT of 200 nodes, beside what Kademlia's closed form says."""

from typing import Final

from p2p.dht import records
from p2p.dht.settings import DEFAULT
from p2p.entropy import seeded
from p2p.ton import DhtKey
from scripts.bench.report import Result, middle
from scripts.failure import Failed
from simulations.dht import Member, Town
from simulations.theory import kademlia_hops

NODES, VALUES, LOOKUPS = 200, 100, 200

SETTLING: Final = 20.0
"""virtual seconds from the last arrival until values are stored: two lookups by every node"""

PATIENCE: Final = 60.0
"""virtual seconds for a store or a lookup"""

LIFE: Final = 3_000
"""seconds that a value lives"""


def theory() -> float:
    """What the closed form says."""
    return kademlia_hops(NODES, DEFAULT.k)


def measure() -> Result:
    """The mean, which is the same in every run. Raises `Failed` if a value is not found."""
    town = Town(seeded(1))
    town.grow(NODES, pause=0.2)
    town.run(SETTLING)
    keys = [_store(town, member) for member in town.members[:VALUES]]

    found = town.find_all((keys * LOOKUPS)[:LOOKUPS], pause=0.05, within=PATIENCE)
    missing = sum(one.value is None for one in found)
    if missing:
        raise Failed("failed", f"{missing} of {LOOKUPS} lookups did not find their value.")
    hops = town.hops()
    mean = sum(hop * count for hop, count in hops.items()) / hops.total()
    return Result(
        name="dht_lookup_hops_200",
        value=middle([mean]),
        unit="hops",
        ratio=middle([mean / theory()]),
        against="Kademlia's closed form",
    )


def _store(town: Town, owner: Member) -> DhtKey:
    """Let anyone store where a node is."""
    expires = int(town.world.now) + LIFE
    value = records.address(owner.seat.identity, owner.seat.addresses, expires)
    town.world.finish(town.anyone().store(value), within=PATIENCE)
    return value.key.key
