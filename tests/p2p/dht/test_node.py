"""Records of nodes: their signatures for each network, and where they can be reached."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from p2p import tl
from p2p.dht import node as nodes
from p2p.errors import BadSignature, DhtError, TlError
from p2p.identity import Identity
from p2p.ton import (
    AdnlAddressList,
    AdnlAddressQuic,
    AdnlAddressReverse,
    AdnlAddressUdp,
    AdnlAddressUdp6,
    DhtNode,
    DhtNodes,
    PubEd25519,
    PubUnenc,
)

OWNER, OTHER = Identity(b"o" * 32), Identity(b"p" * 32)
STATIC = Path(__file__).parents[4] / "shared" / "data" / "adnl" / "static-dht-nodes.json"

PUBLIC = AdnlAddressUdp(0x2D000001, 3333)
LOOPBACK = AdnlAddressUdp(0x7F000001, 3333)


def listed(*addresses):
    return AdnlAddressList(addresses, 1, 1, 0, 0)


@pytest.mark.parametrize("network", [None, 0, 7, 0x54555331, -1])
def test_an_own_record_is_believed_in_its_network_only(network):
    record = nodes.build(OWNER, listed(PUBLIC), 5, network)
    assert len(record.signature) == (64 if network is None else 68)

    node = nodes.check(record, network)
    assert (node.id, node.public, node.version) == (OWNER.id, OWNER.public, 5)

    for other in (None, 8):
        if other != network:
            with pytest.raises(DhtError, match="another network"):
                nodes.check(record, other)


def test_a_record_says_its_network_in_the_first_bytes_of_its_signature():
    record = nodes.build(OWNER, listed(PUBLIC), 5, 0x54555331)
    assert record.signature[:4] == b"1SUT"
    unsigned = replace(record, signature=b"1SUT")
    assert record.signature[4:] == OWNER.sign(tl.pack(unsigned))


@pytest.mark.parametrize("network", [None, 7])
@pytest.mark.parametrize(
    "changes",
    [
        {"version": 6},
        {"addr_list": listed(replace(PUBLIC, port=3334))},
        {"id": PubEd25519(OTHER.public)},
        {"addr_list": AdnlAddressList((PUBLIC,), 2, 1, 0, 0)},
    ],
    ids=["version", "address", "key", "list version"],
)
def test_a_record_is_good_only_as_its_node_signed_it(network, changes):
    record = nodes.build(OWNER, listed(PUBLIC), 5, network)
    with pytest.raises(BadSignature):
        nodes.check(replace(record, **changes), network)


@pytest.mark.parametrize("size", [0, 4, 63, 64, 67, 69, 72])
def test_a_signature_of_another_length_is_refused(size):
    record = nodes.build(OWNER, listed(PUBLIC), 5, 7)
    with pytest.raises(DhtError):
        nodes.check(replace(record, signature=record.signature.ljust(72, b"\0")[:size]), 7)


def test_a_node_has_an_ed25519_key():
    record = replace(nodes.build(OWNER, listed(PUBLIC), 5, None), id=PubUnenc(b"x"))
    with pytest.raises(DhtError, match="Ed25519"):
        nodes.check(record, None)


def ip(text):
    number = int.from_bytes(bytes(map(int, text.split("."))), "big", signed=True)
    return AdnlAddressUdp(number, 3333)


@pytest.mark.parametrize(
    ("address", "private", "public"),
    [
        (ip("185.86.79.9"), True, True),
        (ip("127.0.0.1"), True, False),
        (ip("10.1.2.3"), True, False),
        (ip("192.168.1.1"), True, False),
        (ip("100.64.0.1"), True, False),
        (ip("0.0.0.0"), False, False),
        (ip("224.0.0.1"), False, False),
        (replace(PUBLIC, port=0), False, False),
        (replace(PUBLIC, port=65_536), False, False),
        (replace(PUBLIC, port=-1), False, False),
        (AdnlAddressUdp6(bytes.fromhex("2a01" + "00" * 13 + "01"), 1), True, True),
        (AdnlAddressUdp6(bytes(15) + b"\1", 1), True, False),
        (AdnlAddressReverse(), False, False),
        (AdnlAddressQuic(PUBLIC.ip, 3333), False, False),
    ],
    ids=str,
)
def test_which_addresses_can_be_reached(address, private, public):
    record = nodes.build(OWNER, listed(address), 5, 7)
    for allowed, setting in ((public, False), (private, True)):
        if allowed:
            assert nodes.check(record, 7, private=setting).addresses.addrs == (address,)
        else:
            with pytest.raises(DhtError, match="no address"):
                nodes.check(record, 7, private=setting)


def test_of_several_addresses_those_that_can_be_reached_are_used():
    record = nodes.build(OWNER, listed(LOOPBACK, PUBLIC, AdnlAddressReverse()), 5, 7)
    node = nodes.check(record, 7)
    assert node.addresses == replace(record.addr_list, addrs=(PUBLIC,))
    assert node.record == record


def test_addresses_of_ipv4_come_first():
    six = AdnlAddressUdp6(bytes.fromhex("2a01" + "00" * 13 + "01"), 1)
    record = nodes.build(OWNER, listed(six, PUBLIC), 5, 7)
    assert nodes.check(record, 7).addresses.addrs == (PUBLIC, six)


def test_nine_addresses_are_too_many():
    nodes.check(nodes.build(OWNER, listed(*[PUBLIC] * 8), 5, 7), 7)
    with pytest.raises(DhtError, match="too many"):
        nodes.check(nodes.build(OWNER, listed(*[PUBLIC] * 9), 5, 7), 7)


def test_an_owner_of_addresses_has_a_24_or_a_48():
    assert nodes.subnet(ip("185.86.79.9")) == bytes([185, 86, 79])
    assert nodes.subnet(AdnlAddressUdp6(bytes(range(16)), 1)) == bytes(range(6))


def test_the_records_of_nodes_are_put_together_as_they_are_packed():
    records = [nodes.build(one, listed(PUBLIC), 5, 7) for one in (OWNER, OTHER)]
    for some in (records, records[:1], []):
        checked = [nodes.check(record, 7) for record in some]
        assert nodes.pack_nodes(checked) == tl.pack(DhtNodes(tuple(some)), boxed=False)


# --- TON's own ---


def static_nodes():
    """The bare records that stand in TON's configurations."""
    if not STATIC.exists():
        pytest.skip("TON's static nodes are not at hand: no ../shared/data/adnl here")
    networks = json.loads(STATIC.read_text())["networks"]
    return [bytes.fromhex(one["tl"]) for network in networks.values() for one in network["nodes"]]


def is_good(packed):
    try:
        nodes.check(tl.parse(DhtNode, packed, boxed=False), None)
    except (BadSignature, DhtError, TlError):
        return False
    return True


def test_the_nodes_of_ton_are_believed():
    packed = static_nodes()
    assert len(packed) == 19
    assert all(map(is_good, packed))


@pytest.mark.parametrize(
    ("what", "at"), [("key", 4), ("key", 35), ("ip", 44), ("port", 48), ("version", 68)]
)
def test_the_nodes_of_ton_fail_with_one_byte_changed(what, at):
    for packed in static_nodes():
        changed = bytearray(packed)
        changed[at] ^= 1
        assert not is_good(bytes(changed)), what
