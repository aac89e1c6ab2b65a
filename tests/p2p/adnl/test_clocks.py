"""Our clock against those of peers: what they answer us with tells the time."""

import pytest

from p2p.adnl.clocks import LATELY, MOST, Clocks
from tests.p2p.adnl.net import START, Net

NOW = START + 100.5


@pytest.fixture
def clocks():
    return Clocks()


def test_a_median_of_three_peers_says_something_and_of_two_nothing(clocks):
    for number, date in enumerate((START + 100, START - 7_000, START + 80)):
        assert clocks.offset(NOW) is None
        clocks.hear(NOW, bytes([number]) * 32, date)
    assert clocks.offset(NOW) == (20.0, 3)


def test_a_peer_counts_once_and_for_an_hour(clocks):
    for _ in range(5):
        clocks.hear(NOW, b"p" * 32, START)
    assert clocks.offset(NOW) is None
    for number in range(2 * MOST):
        clocks.hear(NOW, bytes([number]) * 32, START)
    assert len(clocks) == MOST
    assert clocks.offset(NOW + LATELY - 1) == (100.0, MOST)
    assert clocks.offset(NOW + LATELY) is None


@pytest.mark.parametrize("ahead", [-3_600, -20, 0, 20, 59, 62, 86_400])
def test_who_speaks_to_three_peers_knows_how_far_its_clock_is_ahead(monkeypatch, ahead):
    net = Net()
    one = net.node(1, started_at=START + ahead)
    others = [net.node(number, started_at=START - 90_000) for number in (2, 3, 4)]
    of_one = one.core.receive
    monkeypatch.setattr(one.core, "receive", lambda now, *what: of_one(now + ahead, *what))
    for other in others:
        one.core.add_peer(net.now + ahead, other.identity.public, [other.place])
        one.core.query(net.now + ahead, one.id, other.id, b"hello", 5.0)
    net.run()
    offset = one.core.clock(net.now + ahead)
    assert offset is not None
    assert (round(offset.seconds), offset.peers) == (ahead, 3)


def test_what_comes_unasked_tells_nothing():
    net = Net()
    one, others = net.node(1), [net.node(n) for n in (2, 3, 4)]
    for other in others:
        other.knows(one)
        other.send(one)
    net.run()
    assert one.core.clock(net.now) is None
    assert all(other.core.clock(net.now) is None for other in others)
    assert one.core.sizes()["clocks"] == 0
