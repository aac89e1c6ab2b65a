"""Where peers can be reached: what records of the DHT say is believed of public addresses alone."""

import pytest

from p2p.adnl.address import address_list
from p2p.core import Procedures
from p2p.dht import records
from p2p.identity import Identity
from p2p.locator import Locator, Place, parse_multiaddr
from p2p.wire import Endpoint

NOW = 1_800_000_000
ONE = Identity(b"1" * 32)
PUBLIC = [Endpoint("8.8.8.8", 4_001), Endpoint("2606:4700::1111", 4_001)]
PRIVATE = [
    Endpoint(host, 22)
    for host in (
        "127.0.0.1",
        "192.168.1.1",
        "10.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fd00::1",
        "::ffff:127.0.0.1",
    )
]


class Dht:
    """The records that there are."""

    def __init__(self, *values):
        self.values = {value.key.key.name: value for value in values}

    async def find_value(self, key):
        return self.values.get(key.name)


class Nobody:
    def find(self, node):
        return None


def looked_up(*values, dev=False):
    locator = Locator(Identity(b"2" * 32).id, [], Nobody(), Dht(*values), dev=dev)
    places, procedures = [], Procedures()

    async def look():
        places.append(await locator.look_up(float(NOW), ONE.id))

    procedures.start(look())
    procedures.run()
    return places[0]


def udp(*endpoints):
    return records.address(ONE, address_list(endpoints, 1), NOW + 3_600)


def tcp(*endpoints):
    texts = [f"/ip{6 if ':' in host else 4}/{host}/tcp/{port}/p2p/x" for host, port in endpoints]
    return records.libp2p(ONE, texts, NOW + 3_600)


@pytest.mark.parametrize("private", PRIVATE)
def test_nobody_is_sent_to_what_is_not_public(private):
    assert looked_up(udp(private), tcp(private)) == Place()
    assert looked_up(udp(private, PUBLIC[0])).udp == (PUBLIC[0],)
    assert looked_up(tcp(private, *PUBLIC)).tcp == tuple(PUBLIC)


def test_who_has_no_public_address_of_udp_may_have_one_of_tcp():
    assert looked_up(udp(PRIVATE[0]), tcp(PUBLIC[0])) == Place(tcp=(PUBLIC[0],))


def test_a_dev_network_lives_on_one_machine():
    assert looked_up(udp(PRIVATE[0]), dev=True).udp == (PRIVATE[0],)
    assert looked_up(tcp(PRIVATE[0]), dev=True).tcp == (PRIVATE[0],)


@pytest.mark.parametrize(
    "text", ["/ip4/1.2.3.4/udp/5", "/dns/a.example/tcp/5", "/ip4/1.2.3.4/tcp/x", "", "/ip4/1/tcp/5"]
)
def test_other_multiaddrs_are_left_alone(text):
    assert parse_multiaddr(text) is None
