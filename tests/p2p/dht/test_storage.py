"""What a node keeps for others: replaced by rule, forgotten in time, bounded."""

from contextlib import suppress
from dataclasses import replace

import pytest

from p2p.dht import key as keys
from p2p.dht import value as values
from p2p.dht.node import distance
from p2p.dht.settings import Settings
from p2p.dht.storage import Storage
from p2p.entropy import seeded
from p2p.errors import NoCapacity
from p2p.identity import AdnlId, Identity
from p2p.ton import DhtUpdateRuleAnybody, PubUnenc

NOW = 1_800_000_000.0
OWNER = Identity(b"o" * 32)
OWN = AdnlId(b"n" * 32)


def storage(**changes):
    return Storage(OWN, Settings(**changes), seeded(1))


def signed(name=b"name", ttl=600, content=b""):
    return values.sign(OWNER, name, content, int(NOW) + ttl)


def where(value):
    return keys.key_id(value.key.key)


def test_a_value_is_kept_until_it_expires():
    kept, value = storage(), signed()
    kept.put(NOW, value)
    assert kept.get(NOW + 599, where(value)) == value
    assert kept.get(NOW + 600, where(value)) is None
    kept.expire(NOW + 600)
    assert set(kept.sizes().values()) == {0}


def test_a_value_that_is_prolonged_outlives_its_first_end():
    kept, long = storage(), signed(ttl=1200)
    kept.put(NOW, signed())
    kept.put(NOW, long)
    kept.expire(NOW + 600)
    assert kept.get(NOW + 601, where(long)) == long
    kept.expire(NOW + 1200)
    assert len(kept) == 0


def test_values_replace_one_another_by_their_rule():
    kept = storage()
    kept.put(NOW, signed(content=b"old"))
    kept.put(NOW, signed(content=b"same age"))
    assert kept.get(NOW, where(signed())).value == b"old"
    kept.put(NOW, signed(ttl=601, content=b"new"))
    assert kept.get(NOW, where(signed())).value == b"new"


def unsigned(number):
    owner = PubUnenc(number.to_bytes(4, "big"))
    description = keys.describe_unsigned(owner, b"junk", 0, DhtUpdateRuleAnybody())
    return values.leave(description, b"", int(NOW) + 600)


def overlay(name):
    return values.store_members(name, [], int(NOW) + 600)


def by_distance(stored):
    return sorted(stored, key=lambda value: distance(where(value), OWN))


def test_no_more_than_the_bound_is_kept_and_old_ones_make_room():
    *near, far = by_distance(signed(b"%d" % number, ttl=10) for number in range(4))
    kept = storage(max_values=3)
    for value in near:
        kept.put(NOW, value)
    with pytest.raises(NoCapacity):
        kept.put(NOW, far)
    kept.put(NOW, replace(near[0], ttl=int(NOW) + 100))
    kept.put(NOW + 11, far := signed(far.key.key.name, ttl=100))
    assert kept.get(NOW + 11, where(far)) == far
    assert len(kept) == 2


@pytest.mark.parametrize("junk", [unsigned, lambda number: overlay(b"%d" % number)])
def test_what_somebody_signed_takes_the_place_of_what_nobody_did(junk):
    kept = storage(max_values=50)
    for number in range(200):
        with suppress(NoCapacity):
            kept.put(NOW, junk(number))
    stored = [signed(b"%d" % number) for number in range(50)]
    for value in stored:
        kept.put(NOW, value)
    assert all(kept.get(NOW, where(value)) == value for value in stored)
    with pytest.raises(NoCapacity):
        kept.put(NOW, junk(200))
    assert max(kept.sizes().values()) < 200


@pytest.mark.parametrize("one", [unsigned, lambda number: signed(b"%d" % number)])
def test_of_values_alike_those_nearest_to_us_are_kept_whatever_came_first(one):
    kept = storage(max_values=10)
    offered = [one(number) for number in range(100)]
    for value in offered:
        with suppress(NoCapacity):
            kept.put(NOW, value)
    found = [value for value in offered if kept.get(NOW, where(value)) is not None]
    assert by_distance(found) == by_distance(offered)[:10]


def test_an_overlay_whose_nodes_come_later_is_no_junk_any_longer():
    kept, name = storage(max_values=1), b"overlay"
    kept.put(NOW, overlay(name))
    member = values.sign_member(OWNER, values.overlay_id(name), int(NOW))
    kept.put(NOW, filled := values.store_members(name, [member], int(NOW) + 600))
    with pytest.raises(NoCapacity):
        kept.put(NOW, unsigned(1))
    assert kept.get(NOW, where(filled)) is not None


def test_ends_do_not_pile_up_while_values_come_and_go():
    kept, value = storage(), signed()
    for _ in range(1000):
        kept.put(NOW, value)
        kept.drop(where(value))
    kept.put(NOW, value)
    assert kept.sizes()["dht_ends"] < 100
    kept.expire(NOW + 600)
    assert set(kept.sizes().values()) == {0}


def test_values_take_turns():
    kept = storage()
    assert kept.turn() is None
    stored = [signed(b"%d" % number) for number in range(3)]
    for value in stored:
        kept.put(NOW, value)
    assert [kept.turn() for _ in range(6)] == [where(value) for value in stored] * 2


def test_when_a_value_was_stored_last_is_known():
    kept, value = storage(), signed()
    assert kept.heard(where(value)) < 0
    kept.put(NOW, value)
    kept.put(NOW + 5, replace(value))
    assert kept.heard(where(value)) == NOW + 5
    kept.touch(NOW + 9, where(value))
    assert kept.heard(where(value)) == NOW + 9
