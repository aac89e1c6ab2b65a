"""Peers within a bound: who is found, and who is forgotten first."""

import pytest

from p2p.adnl.limits import Limits
from p2p.adnl.peer import Pair
from p2p.adnl.table import Contact, Table
from p2p.entropy import seeded
from p2p.errors import NoCapacity
from p2p.ton import AdnlMessageCreateChannel
from p2p.wire import Endpoint
from tests.p2p.adnl.net import identity

OWN = identity(0)


def place(number):
    return Endpoint("10.0.0.1", number)


@pytest.fixture
def table():
    return Table(Limits(peers=4, contacts=4, idle_time=100.0))


def add(table, now, number, *, invited=False):
    return table.add(now, OWN, identity(number).id, invited=invited)


def prove(table, now, peer, number):
    peer.where.hear(now, place(number))
    table.place(peer)


def known(table, numbers=range(1, 20)):
    return [n for n in numbers if table.find(Pair(OWN.id, identity(n).id)) is not None]


def test_the_stranger_unheard_of_for_longest_makes_room(table):
    peers = {n: add(table, n, n) for n in (1, 2, 3, 4)}
    table.touch(10.0, peers[1])
    add(table, 11.0, 5)
    assert known(table) == [1, 3, 4, 5]


def test_strangers_make_room_before_those_heard_in_a_channel(table):
    for n in (1, 2, 3, 4):
        peer = add(table, float(n), n)
        if n < 3:
            prove(table, float(n), peer, n)
    for n in range(5, 10):
        add(table, 10.0 + n, n)
    assert known(table) == [1, 2, 8, 9]


def test_a_stranger_does_not_push_out_a_peer_that_is_in_use(table):
    for n in (1, 2, 3, 4):
        prove(table, 0.0, add(table, 0.0, n), n)
    with pytest.raises(NoCapacity):
        add(table, 10.0, 5)
    assert known(table) == [1, 2, 3, 4]
    add(table, 10.0, 5, invited=True)
    assert known(table) == [2, 3, 4, 5]
    add(table, 130.0, 6)
    assert 6 in known(table)


def test_peers_that_wait_for_something_stay(table):
    for n in (1, 2, 3, 4):
        add(table, 0.0, n).pending[b"t" * 32] = None
    with pytest.raises(NoCapacity):
        add(table, 1_000.0, 5, invited=True)


def test_a_peer_that_waits_for_something_is_not_idle(table):
    peer = add(table, 0.0, 1)
    peer.pending[b"t" * 32] = None
    table.expire(100.0)
    assert known(table) == [1]
    peer.pending.clear()
    assert table.look_at == 200.0
    table.expire(200.0)
    assert known(table) == []


def test_idle_peers_are_forgotten_in_time(table):
    add(table, 0.0, 1)
    prove(table, 0.0, add(table, 50.0, 2), 2)
    assert table.look_at == 100.0
    table.expire(99.0)
    assert known(table) == [1, 2]
    table.expire(100.0)
    assert known(table) == [2]
    assert table.look_at == 150.0
    table.expire(150.0)
    assert known(table) == []
    assert table.look_at is None


def test_the_order_of_use_is_kept_to_the_second(table):
    first, second = add(table, 0.0, 1), add(table, 0.5, 2)
    table.touch(0.9, first)
    assert first.touched == 0.0
    table.touch(1.0, first)
    assert (first.touched, second.touched) == (1.0, 0.5)


def test_a_peer_is_found_by_the_channel_that_it_has_now(table):
    peer = add(table, 0.0, 1)
    ids = []
    for date in (1, 2):
        offer = AdnlMessageCreateChannel(identity(10 + date).public, date)
        peer.handshake.offered(0.0, seeded(1), offer)
        table.index(peer)
        ids.append(peer.handshake.channel.in_id)
    assert table.of_channel(ids[0]) is None
    assert table.of_channel(ids[1]) is peer
    peer.started(1)
    peer.started(2)
    table.index(peer)
    assert table.of_channel(ids[1]) is None


def test_nothing_is_left_of_a_peer_that_is_forgotten(table):
    peer = add(table, 0.0, 1)
    peer.handshake.offered(0.0, seeded(1), AdnlMessageCreateChannel(identity(9).public, 1))
    table.index(peer)
    prove(table, 0.0, peer, 1)
    assert table.is_place(place(1))
    table.expire(1_000.0)
    assert not any(table.sizes().values())


def test_a_peer_has_one_place(table):
    peer = add(table, 0.0, 1)
    prove(table, 0.0, peer, 1)
    prove(table, 0.0, peer, 2)
    assert not table.is_place(place(1))
    assert table.is_place(place(2))
    other = add(table, 0.0, 2)
    prove(table, 0.0, other, 2)
    prove(table, 0.0, peer, 3)
    assert table.is_place(place(2))


def test_a_peer_that_comes_back_is_sent_numbers_it_has_not_seen(table):
    add(table, 0.0, 1).sent = 1_000
    table.expire(1_000.0)
    assert add(table, 1_000.0, 1).sent == 1_000
    assert add(table, 1_000.0, 2).sent == 1_000


def test_contacts_have_a_bound(table):
    for n in range(10):
        table.tell(identity(n).id, Contact(identity(n).public, (place(1),)))
    assert table.sizes()["contacts"] == 4
    assert table.contact(identity(9).id) == Contact(identity(9).public, (place(1),))
    table.give_up(identity(9).id)
    assert table.contact(identity(9).id) == Contact(identity(9).public, ())
    table.give_up(identity(1).id)
    assert table.contact(identity(1).id) is None
