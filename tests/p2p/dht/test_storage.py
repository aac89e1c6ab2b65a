"""What a node keeps for others: replaced by rule, forgotten in time, bounded."""

from dataclasses import replace

import pytest

from p2p.dht import key as keys
from p2p.dht import value as values
from p2p.dht.settings import Settings
from p2p.dht.storage import Storage
from p2p.entropy import seeded
from p2p.errors import NoCapacity
from p2p.identity import Identity

NOW = 1_800_000_000.0
OWNER = Identity(b"o" * 32)


def storage(**changes):
    return Storage(Settings(**changes), seeded(1))


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


def test_no_more_than_the_bound_is_kept_and_old_ones_make_room():
    kept = storage(max_values=3)
    for number in range(3):
        kept.put(NOW, signed(b"%d" % number, ttl=10 + number))
    with pytest.raises(NoCapacity):
        kept.put(NOW, signed(b"more"))
    kept.put(NOW, signed(b"0", ttl=100))
    kept.put(NOW + 11, signed(b"more"))
    assert len(kept) == 3


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
