"""Many nodes of the DHT in virtual time: what is stored is found, by few hops, whoever leaves."""

from collections import Counter
from itertools import pairwise

import pytest

from p2p.dht import key as keys
from p2p.dht import value as values
from p2p.dht.counts import Count
from p2p.dht.events import Alone, Joined, Published
from p2p.dht.node import distance
from p2p.dht.settings import DEV, Settings
from p2p.entropy import sample, seeded
from p2p.errors import Timeout
from p2p.identity import Identity
from p2p.ton import DhtKey
from simulations import theory
from simulations.dht import NETWORK, Town
from simulations.network.fabric import Network
from simulations.network.nat import Nat

OWNER = Identity(b"o" * 32)
K = Settings().k


def signed(town, name, content=b"content", identity=OWNER, life=3600):
    return values.sign(identity, name, content, int(town.world.now) + life)


def stored(town, count):
    """So many values, each stored from a random node at all k nodes that it should be at."""
    begun = []
    for number in range(count):
        value = signed(town, b"value %d" % number)
        begun.append((value, town.anyone().store(value)))
        town.run(0.05)
    assert all(town.world.finish(outcome, within=20.0) == K for _, outcome in begun)
    return [value.key.key for value, _ in begun]


def grown(count, seed=1, **options):
    town = Town(seeded(seed), **options)
    town.grow(count, pause=0.05)
    town.run(5.0)
    return town


@pytest.fixture(scope="module")
def city():
    """200 nodes; the tests below use it one after the other."""
    return grown(200)


@pytest.fixture(scope="module")
def standing(city):
    """Keys of values that are stored in it."""
    return stored(city, 50)


def test_of_200_nodes_every_lookup_finds_its_value_by_as_few_hops_as_theory_says(city, standing):
    found = city.find_all(standing * 20, pause=0.01, within=20.0)

    assert len(found) == 1_000
    assert all(one.value is not None for one in found)
    hops, expected = city.hops(), theory.kademlia_hops(200, K)
    assert max(hops) <= expected + 1
    assert sum(hop * count for hop, count in hops.items()) / hops.total() <= expected
    assert max(one.seconds for one in found) < 1.0, "nobody was waited for in vain"


def test_values_stand_where_the_nearest_nodes_are(city, standing):
    """The oracle knows all nodes that can be reached; the lookups of `store` know few."""
    right = 0
    for key in standing:
        where = keys.key_id(key)
        nearest = sorted(city.members, key=lambda it: distance(it.seat.identity.id, where))[:K]
        right += sum(holds(member, city, where) for member in nearest)
    assert right >= 0.97 * K * len(standing)


def holds(member, town, where):
    """The oracle looks into the nodes."""
    return member.core._storage.get(town.world.now, where) is not None


def test_with_30_percent_gone_at_once_99_percent_is_found(city, standing):
    for member in sample(seeded(2), city.members, 60):
        member.seat.crash()

    at_once = city.find_all(standing * 3, pause=0.01, within=30.0)
    assert sum(one.value is not None for one in at_once) >= 0.99 * len(at_once)

    city.run(100.0)  # a ping of each that is gone, and three more
    later = city.find_all(standing * 3, pause=0.01, within=30.0)
    assert sum(one.value is not None for one in later) >= 0.99 * len(later)
    times = sorted(one.seconds for one in later)
    assert times[int(0.95 * len(times))] < 1.0, "who left is asked no more"


@pytest.fixture
def village():
    """11 nodes."""
    return grown(11)


def test_100_stores_and_100_finds_take_less_than_a_minute(village):
    began = village.world.now
    keys_ = stored(village, 100)
    found = village.find_all(keys_, pause=0.05, within=20.0)
    assert all(one.value is not None for one in found)
    assert village.world.now - began < 60.0


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_a_missing_key_ends_within_ten_seconds(loss):
    village = grown(11, fabric=Network(seeded(9), loss=loss))
    for number in range(20):
        key = DhtKey(bytes([number]) * 32, b"none", 0)
        assert village.world.finish(village.anyone().find(key), within=10.0) is None


def test_a_missing_key_ends_after_three_timeouts_with_half_of_the_nodes_gone(village):
    """Six are gone and three are asked at once: three of them one after the other at most."""
    for member in village.members[::2]:
        member.seat.crash()
    key = DhtKey(bytes(32), b"none", 0)
    assert village.world.finish(village.anyone().find(key), within=12.0) is None


def names(member):
    return {node.id for node in member.core.active()}


def test_clients_find_and_store_but_stand_in_nobodys_table(village):
    clients = [village.join(serving=False) for _ in range(5)]
    village.run(30.0)
    value = signed(village, b"from a client")

    assert village.world.finish(clients[0].store(value), within=10.0) == K
    assert village.world.finish(clients[1].find(value.key.key), within=10.0) == value

    village.run(120.0)
    known = set().union(*map(names, village.members))
    assert not known & {client.seat.identity.id for client in clients}
    assert known == {member.seat.identity.id for member in village.members[:11]}
    assert all(client.core.statistics().counts[Count.ANSWERED] == 0 for client in clients)


def with_unreachable(town, share):
    """Add servers that cannot be reached and say that they can, until they are such a share."""
    count = round(len(town.members) * share / (1 - share))
    return [town.join(nat=Nat.PORT_RESTRICTED) for _ in range(count)]


def test_who_cannot_be_reached_never_becomes_active_and_slows_no_lookup():
    town = grown(20)
    keys_ = stored(town, 20)
    before = town.find_all(keys_ * 5, pause=0.05, within=20.0)

    bad = {member.seat.identity.id for member in with_unreachable(town, 0.6)}
    assert len(bad) == 30
    town.run(60.0)

    good = [member for member in town.members if town.world.reaches(member.seat)]
    assert not set().union(*map(names, town.members)) & bad
    began = [member.find(key) for member in good for key in keys_[::8]]
    after = [town.world.finish(outcome, within=20.0) for outcome in began]
    assert all(value is not None for value in after)
    ended = [outcome.ended - town.world.now for outcome in began]
    assert max(ended) - min(ended) < 1.0
    assert all(one.value is not None for one in before)
    hidden = [
        member.find(keys_[0]) for member in town.members if not town.world.reaches(member.seat)
    ]
    assert all(town.world.finish(outcome, within=20.0) is not None for outcome in hidden)


def test_networks_of_two_numbers_do_not_mix(village):
    """A node of another network that is told of ours stays alone."""
    stray = village.join(network=NETWORK + 1)
    village.run(60.0)
    assert stray.core.active() == []
    assert stray.seat.identity.id not in set().union(*map(names, village.members))


# --- what is published ---


def test_an_own_value_is_published_again_before_it_is_forgotten(village):
    member, expiries = village.members[3], []

    def build(expires):
        expiries.append(expires)
        return values.sign(member.seat.identity, b"own", b"content", expires)

    member.seat.call(lambda now: member.core.publish(now, "own", build))
    village.run(300.0)
    gaps = [later - one for one, later in pairwise(expiries)]
    assert len(gaps) >= 2
    assert all(60 <= gap <= 122 for gap in gaps)
    assert Published("own", K) in member.core.drain()

    member.core.withdraw("own")
    village.run(130.0)
    assert len(expiries) == len(gaps) + 1


def test_a_published_value_moves_to_new_nodes_when_all_that_held_it_are_gone(village):
    member = village.members[0]
    value = signed(village, b"own", identity=member.seat.identity)
    member.seat.call(lambda now: member.core.publish(now, "own", lambda expires: value))
    village.run(10.0)
    where = keys.key_id(value.key.key)
    for other in village.members[1:]:
        if holds(other, village, where):
            other.seat.crash()
    village.run(130.0)
    assert village.world.finish(village.anyone().find(value.key.key), within=20.0) == value


def test_signed_values_outlive_their_owner_and_those_who_held_them_first():
    town = grown(15, settings=Settings(rounds=30.0))
    value = signed(town, b"orphan")
    where = keys.key_id(value.key.key)
    assert town.world.finish(town.anyone().store(value), within=10.0) == K
    holders = [member for member in town.members if holds(member, town, where)]
    nearest = sorted(holders, key=lambda it: distance(it.seat.identity.id, where))
    for member in nearest[1:]:
        member.seat.crash()
    town.run(180.0)
    nearest[0].seat.crash()
    assert town.world.finish(town.anyone().find(value.key.key), within=20.0) == value


def test_values_are_forgotten_when_they_expire(village):
    value = signed(village, b"short", life=30)
    village.world.finish(village.anyone().store(value), within=10.0)
    village.run(31.0)
    assert village.world.finish(village.anyone().find(value.key.key), within=10.0) is None
    village.run(60.0)
    assert not any(member.core.statistics().values for member in village.members)


def test_nodes_of_an_overlay_find_each_other(village):
    members = village.members[:4]
    for number, member in enumerate(members):
        overlay = values.overlay_id(b"overlay")
        node = values.sign_member(member.seat.identity, overlay, int(village.world.now) + number)
        value = values.store_members(b"overlay", [node], int(village.world.now) + 600)
        assert village.world.finish(member.store(value), within=10.0) == K
    found = village.world.finish(village.anyone().find(values.overlay_key(b"overlay")), within=10.0)
    keys_ = {node.id.key for node in values.members(found)}
    assert keys_ == {member.seat.identity.public for member in members}


# --- joining ---


def test_who_joins_and_who_is_left_alone_is_told():
    town = grown(3)
    assert all(isinstance(member.core.drain()[0], Joined) for member in town.members)
    for member in town.members[:2]:
        member.seat.crash()
    town.run(300.0)
    assert town.members[2].core.drain() == [Alone()]


def test_a_node_that_was_left_alone_finds_its_seeds_again():
    town = grown(4)
    first, last = town.members[0], town.members[3]
    for member in town.members[:3]:
        member.seat.crash()
    town.run(300.0)
    assert last.core.active() == []
    town.rejoin(first)
    town.run(30.0)
    assert names(last) == {first.seat.identity.id}


def test_nodes_find_each_other_though_one_datagram_in_ten_is_lost():
    town = grown(20, fabric=Network(seeded(3), loss=0.1))
    town.run(20.0)
    keys_ = []
    for number in range(30):
        value = signed(town, b"value %d" % number)
        assert town.world.finish(town.anyone().store(value), within=30.0) >= 3
        keys_.append(value.key.key)
    found = town.find_all(keys_, pause=0.1, within=30.0)
    assert all(one.value is not None for one in found)


def test_a_seed_repeats_a_network():
    def run(seed):
        town = grown(8, seed)
        return [(member.core.active(), member.core.statistics().counts) for member in town.members]

    assert run(5) == run(5)
    assert run(5) != run(6)


def test_a_dev_network_knows_itself_in_two_seconds_and_who_has_left_in_twenty():
    town = Town(seeded(4), settings=DEV)
    members = [town.join() for _ in range(6)]
    town.run(2.0)
    assert Counter(len(names(member)) for member in members) == {5: 6}

    members[0].seat.crash()
    town.run(20.0)
    assert Counter(len(names(member)) for member in members[1:]) == {4: 5}


def test_a_query_to_who_is_gone_is_given_up_in_time(village):
    gone, asker = village.members[2], village.members[3]
    gone.seat.crash()
    outcome = asker.seat.start(asker.seat.query(gone.seat.identity.id, b"x", timeout=2.0))
    with pytest.raises(Timeout):
        village.world.finish(outcome, within=3.0)
