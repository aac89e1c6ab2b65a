"""What strangers may cost."""

import pytest

from p2p.adnl.drops import Drop
from p2p.adnl.gate import Gate
from p2p.adnl.limits import Limits
from p2p.errors import AdnlError
from p2p.wire import Endpoint

HOME = Endpoint("10.0.0.1", 1)


def taken(gate, now, endpoint=HOME, *, known=False):
    try:
        gate.datagram(now, endpoint, known=known)
    except AdnlError as error:
        return error.reason
    return True


def count(gate, now, times, endpoints=(HOME,), **settings):
    """How many of so many datagrams, from each of the endpoints in turn, are taken."""
    return sum(
        taken(gate, now, endpoints[i % len(endpoints)], **settings) is True for i in range(times)
    )


def strangers(net):
    return [Endpoint(f"{net}.{i // 250}.{i % 250}.1", 1) for i in range(5_000)]


def test_a_source_sends_75_at_once_and_3_a_second():
    gate = Gate(Limits())
    assert count(gate, 0.0, 200) == 75
    assert taken(gate, 0.0) is Drop.SOURCE_RATE
    assert count(gate, 10.0, 200) == 30


def test_ports_of_an_address_are_one_source_and_other_addresses_are_others():
    gate = Gate(Limits())
    assert count(gate, 0.0, 200, [Endpoint("10.0.0.1", port) for port in range(1, 200)]) == 75
    assert count(gate, 0.0, 200, [Endpoint("10.0.0.2", 1)]) == 75


def test_addresses_of_one_64_are_one_source():
    gate = Gate(Limits())
    assert count(gate, 0.0, 200, [Endpoint(f"2001:db8::{i:x}", 1) for i in range(200)]) == 75
    assert count(gate, 0.0, 200, [Endpoint("2001:db8:0:1::1", 1)]) == 75


def test_a_flood_from_everywhere_is_taken_up_to_what_the_node_can_bear():
    gate = Gate(Limits())
    crowd = strangers(10)
    assert count(gate, 0.0, 5_000, crowd) == 251
    assert taken(gate, 0.0, Endpoint("11.0.0.1", 1)) is Drop.NODE_RATE
    assert count(gate, 1.0, 5_000, strangers(12)) == 500 - 249


def test_peers_are_still_heard_during_a_flood_of_strangers():
    gate = Gate(Limits())
    crowd = strangers(10)
    count(gate, 0.0, 5_000, crowd)
    peers = [Endpoint(f"11.0.0.{i}", 1) for i in range(250)]
    assert count(gate, 0.0, 249, peers, known=True) == 249
    assert taken(gate, 0.0, HOME, known=True) is Drop.NODE_RATE


def test_what_a_source_sends_beyond_its_rate_costs_others_nothing():
    gate = Gate(Limits())
    count(gate, 0.0, 20_000)
    assert count(gate, 0.0, 75, [Endpoint("10.0.0.2", 1)]) == 75


def test_a_source_brings_60_new_peers_at_once_and_one_a_second():
    gate = Gate(Limits())
    for _ in range(60):
        gate.newcomer(0.0, HOME)
    with pytest.raises(AdnlError) as caught:
        gate.newcomer(0.0, HOME)
    assert caught.value.reason is Drop.NEW_PEERS_RATE
    gate.newcomer(0.0, Endpoint("10.0.0.2", 1))
    gate.newcomer(1.0, HOME)


def test_rates_are_settings():
    gate = Gate(Limits(source_burst=1_000, node_burst=4_000))
    assert count(gate, 0.0, 2_000) == 1_000


def test_the_tables_have_a_bound():
    gate = Gate(Limits(sources=10, node_burst=10_000))
    for i in range(100):
        endpoint = Endpoint(f"10.0.0.{i}", 1)
        gate.datagram(0.0, endpoint, known=True)
        gate.newcomer(0.0, endpoint)
    assert gate.sizes() == {"sources": 10, "newcomers": 10}
