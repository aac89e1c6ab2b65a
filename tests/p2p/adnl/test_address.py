"""Endpoints to TL addresses and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.adnl.address import (
    MAX_ENDPOINTS,
    address_list,
    block,
    endpoints,
    neighbourhood,
    to_address,
    to_endpoint,
)
from p2p.tl import pack
from p2p.ton import (
    AdnlAddressList,
    AdnlAddressQuic,
    AdnlAddressReverse,
    AdnlAddressTunnel,
    AdnlAddressUdp,
    AdnlAddressUdp6,
    PubEd25519,
)
from p2p.wire import Endpoint

PORTS = st.integers(1, 65_535)


def test_ipv4_is_a_big_endian_number_in_a_signed_int():
    """A static DHT node of TON's public configuration."""
    address = to_address(Endpoint("185.86.79.9", 22_096))
    assert address == AdnlAddressUdp(-1_185_526_007, 22_096)
    assert pack(address).hex() == "e7a60d67" + "094f56b9" + "50560000"
    assert to_endpoint(address) == Endpoint("185.86.79.9", 22_096)


@pytest.mark.parametrize(
    ("host", "number"),
    [
        ("127.0.0.1", 0x7F000001),
        ("127.255.255.255", 2**31 - 1),
        ("128.0.0.0", -(2**31)),
        ("223.255.255.255", -0x20000001),
    ],
)
def test_the_sign_changes_in_the_middle_of_the_address_space(host, number):
    assert to_address(Endpoint(host, 1)) == AdnlAddressUdp(number, 1)
    assert to_endpoint(AdnlAddressUdp(number, 1)) == Endpoint(host, 1)


def test_ipv6_is_its_sixteen_bytes():
    address = to_address(Endpoint("2001:db8::1", 80))
    assert address == AdnlAddressUdp6(bytes.fromhex("20010db8000000000000000000000001"), 80)
    assert to_endpoint(address) == Endpoint("2001:db8::1", 80)


def test_ipv4_written_as_ipv6_is_ipv4():
    assert to_address(Endpoint("::ffff:10.0.0.1", 5)) == to_address(Endpoint("10.0.0.1", 5))
    mapped = AdnlAddressUdp6(bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 1]), 5)
    assert to_endpoint(mapped) == Endpoint("10.0.0.1", 5)


@given(st.ip_addresses(), PORTS)
def test_every_endpoint_survives_or_leads_nowhere(ip, port):
    endpoint = to_endpoint(to_address(Endpoint(str(ip), port)))
    if endpoint is None:
        ip = getattr(ip, "ipv4_mapped", None) or ip
        assert ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255"
    else:
        assert to_endpoint(to_address(endpoint)) == endpoint


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
def test_no_number_of_a_peer_raises(ip, port):
    endpoint = to_endpoint(AdnlAddressUdp(ip, port))
    assert endpoint is None or 0 < endpoint.port < 65_536


@pytest.mark.parametrize(
    "address",
    [
        AdnlAddressUdp(0, 1),
        AdnlAddressUdp(-1, 1),
        AdnlAddressUdp(-(2**29), 1),
        AdnlAddressUdp(1, 0),
        AdnlAddressUdp(1, 65_536),
        AdnlAddressUdp(1, -1),
        AdnlAddressUdp6(bytes(16), 1),
        AdnlAddressUdp6(b"\xff\x02" + bytes(14), 1),
        AdnlAddressReverse(),
        AdnlAddressQuic(1, 1),
        AdnlAddressTunnel(bytes(32), PubEd25519(bytes(32))),
    ],
)
def test_what_leads_to_no_node_is_no_endpoint(address):
    assert to_endpoint(address) is None


@pytest.mark.parametrize(
    "endpoint",
    [Endpoint("localhost", 1), Endpoint("10.0.0.1", 0), Endpoint("10.0.0.1", 65_536)],
)
def test_what_is_no_address_of_ours_is_refused(endpoint):
    with pytest.raises(ValueError, match=r"port|address"):
        to_address(endpoint)


def test_a_list_says_each_endpoint_once_and_not_too_many():
    many = [Endpoint("10.0.0.1", 1 + i // 2) for i in range(100)]
    found = endpoints(address_list(many, 7), 0.0)
    assert found == tuple(Endpoint("10.0.0.1", 1 + i) for i in range(MAX_ENDPOINTS // 2))


def test_an_expired_list_says_nothing():
    places = [Endpoint("10.0.0.1", 1)]
    assert endpoints(address_list(places, 7, expire_at=100), 99.0) == tuple(places)
    assert endpoints(address_list(places, 7, expire_at=100), 100.0) == ()
    assert endpoints(address_list(places, 7), 1e10) == tuple(places)


def test_a_list_is_dated_by_its_version():
    assert address_list([], 7) == AdnlAddressList((), 7, 7, 0, 0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("node 3", "node 4", False),
        ("node:3", "node:4", False),
    ],
)
def test_a_source_is_an_ipv4_address_or_a_64th_of_ipv6(one, other, same):
    assert (neighbourhood(one) == neighbourhood(other)) is same


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("8.8.4.200", bytes([8, 8, 4])),
        ("::ffff:8.8.4.7", bytes([8, 8, 4])),
        ("2a02:4780:12:ffff::1", bytes.fromhex("2a0247800012")),
        ("127.0.0.1", b""),
        ("10.1.2.3", b""),
        ("fe80::1%eth0", b""),
        ("n17", b""),
        ("", b""),
    ],
)
def test_a_block_is_what_one_party_may_have_of_public_addresses(host, expected):
    assert block(host) == expected
