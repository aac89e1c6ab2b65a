"""Members who know nobody of their overlay find each other through a DHT of real cores."""

from p2p.dht import value as values
from p2p.entropy import seeded
from p2p.overlay import membership
from p2p.overlay.core import PREFIXES, OverlayCore
from p2p.overlay.records import DhtRecords
from simulations.dht import Town

NETWORK = 7


def with_overlay(town):
    """Of each node of a town its overlay's core, not joined yet."""
    cores = []
    for member in town.members:
        core = OverlayCore(
            member.seat.identity,
            member.seat,
            member.seat.procedures,
            member.seat.entropy.fork("overlay"),
            network=NETWORK,
            records=DhtRecords(member.core),
        )
        member.seat.attach(core, *PREFIXES)
        cores.append(core)
    return cores


def test_members_find_each_other_in_a_dht():
    town = Town(seeded(1))
    town.grow(10, pause=1.0)
    town.run(20)
    cores = with_overlay(town)
    for member, core in zip(town.members, cores, strict=True):
        member.seat.call(lambda now, core=core: core.join(now, [], serve=True))
    town.run(60)
    assert [len(core.members) for core in cores] == [9] * 10

    key = values.overlay_key(membership.name_of(NETWORK))
    (found,) = town.find_all([key], pause=0.1, within=10.0)
    named = values.members(found.value)
    assert 1 <= len(named) <= 5
    assert all(values.is_believed(one, town.world.now) for one in named)
