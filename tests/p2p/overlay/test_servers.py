"""Which directory servers are asked: few, of different operators, and kept to."""

import pytest

from p2p.entropy import seeded
from p2p.overlay.epochs import OPEN
from p2p.overlay.servers import Server, Servers

SELF = b"s" * 32
FIRST = [Server(bytes([number]) * 32, b"first%d" % number) for number in range(3)]


def listed(count, groups=99):
    return {bytes([100 + n]) * 32: b"group%d" % (n % groups) for n in range(count)}


@pytest.fixture
def servers():
    return Servers([*FIRST, Server(SELF, b"own")], SELF, OPEN, seeded(1))


def test_at_first_those_of_the_settings_are_asked_but_for_oneself(servers):
    assert sorted(servers.choose(0.0, {})) == [server.peer for server in FIRST]
    assert servers.is_first(FIRST[0].peer)
    assert not servers.is_first(SELF)


def test_listed_ones_come_before_those_of_the_settings(servers):
    chosen = servers.choose(0.0, listed(20))
    assert len(chosen) == 5
    assert all(peer in listed(20) for peer in chosen)
    assert sorted(servers.choose(0.0, listed(1))[1:]) == [server.peer for server in FIRST]


def test_no_two_are_of_one_operator(servers):
    for _ in range(20):
        chosen = servers.choose(0.0, listed(40, groups=2))
        groups = listed(40, groups=2) | {server.peer: server.group for server in FIRST}
        assert len({groups[peer] for peer in chosen}) == len(chosen) == 5


def test_who_was_good_is_asked_again_for_some_hours(servers):
    three = servers.choose(0.0, listed(40))[:3]
    servers.keep(0.0, three)
    for hours in (1, 3, 5.9):
        assert servers.choose(hours * 3_600.0, listed(40))[:3] == three
        servers.keep(hours * 3_600.0, three)
    left = [
        len(set(servers.choose(h * 3_600.0, listed(40))[:3]) & set(three)) for h in range(6, 13)
    ]
    assert left[0] == 3
    assert left[-1] <= 1
    assert left == sorted(left, reverse=True)


def test_who_is_shunned_is_asked_only_if_there_are_too_few_others(servers):
    mint, one, two = (server.peer for server in FIRST)
    servers.keep(0.0, [mint])
    assert sorted(servers.choose(0.0, {}, shunned=[mint])) == [one, two]
    assert servers.choose(0.0, listed(5), shunned=[mint, one, two]) != []
    assert not {mint, one, two} & set(servers.choose(0.0, listed(2), shunned=[mint, one, two]))
    assert servers.choose(0.0, {}, shunned=[mint, one])[0] == two
    assert mint in servers.choose(0.0, {}, shunned=[mint, one])
    alone = Servers(FIRST, SELF, OPEN, seeded(1), least=1)
    assert alone.choose(0.0, {}, shunned=[mint, one]) == [two]


def test_one_kept_that_is_no_longer_listed_is_not_asked(servers):
    servers.keep(0.0, [b"x" * 32])
    assert b"x" * 32 not in servers.choose(0.0, listed(9))


def test_who_did_not_answer_is_not_kept(servers):
    three = servers.choose(0.0, listed(40))[:3]
    servers.keep(0.0, three)
    servers.drop(three)
    assert servers.choose(0.0, listed(40))[:3] != three


def test_who_contradicts_others_is_not_asked_for_a_day(servers):
    servers.set_aside(0.0, [FIRST[0].peer])
    assert FIRST[0].peer not in servers.choose(86_399.0, {})
    assert FIRST[0].peer in servers.choose(86_400.0, {})
    assert servers.sizes()["servers_aside"] == 0


def test_who_was_asked_knows_our_address(servers):
    servers.meet([b"m" * 32])
    assert servers.acquainted() == [*(server.peer for server in FIRST), b"m" * 32]
    for number in range(1_100):
        servers.meet([number.to_bytes(32, "big")])
    assert servers.sizes()["servers_met"] == 1_024
