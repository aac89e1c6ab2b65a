"""The records that a server keeps of itself."""

from dataclasses import replace

import pytest

from p2p import codec, tl
from p2p.dht import key as keys
from p2p.dht import node as nodes
from p2p.dht import records
from p2p.dht import value as values
from p2p.dht.value import Freshness
from p2p.errors import BadSignature, DhtError
from p2p.identity import Identity
from p2p.ton import AdnlAddressList, AdnlAddressUdp

NOW = 1_800_000_000
OWNER = Identity(b"o" * 32)
ADDRESSES = AdnlAddressList((AdnlAddressUdp(0x2D000001, 3333),), 1, 1, 0, 0)
MULTIADDRS = [f"/ip4/45.0.0.{number}/tcp/4001" for number in range(10)]


def test_udp_addresses_stand_as_ton_writes_them():
    value = records.address(OWNER, ADDRESSES, NOW + 3600)
    assert values.check(value, NOW) is Freshness.LIVE
    assert value.key.key == records.address_key(OWNER.id)
    assert records.read_address(value) == ADDRESSES
    assert value.value[:4] == AdnlAddressList.tl.id


def test_multiaddrs_stand_beside_them():
    value = records.libp2p(OWNER, MULTIADDRS, NOW + 3600)
    assert values.check(value, NOW) is Freshness.LIVE
    assert value.key.key == records.libp2p_key(OWNER.id)
    assert records.read_libp2p(value) == MULTIADDRS[:8]
    assert keys.key_id(value.key.key) != keys.key_id(records.address_key(OWNER.id))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        codec.pack([2, []]),
        codec.pack([1, list("123456789")]),
        codec.pack([1, ["/ip4", 2]]),
        codec.pack([1]),
        codec.pack({1: 2}),
    ],
)
def test_what_is_no_list_is_refused(content):
    value = replace(records.libp2p(OWNER, [], NOW + 3600), value=content)
    with pytest.raises(DhtError):
        records.read_libp2p(value)
    with pytest.raises(DhtError):
        records.read_address(value)


# --- for foreign tools ---

MOSS = 0x6D6F7373
OWN = nodes.build(OWNER, ADDRESSES, 7, MOSS)


def test_a_record_for_foreign_tools_names_no_network_and_says_the_same():
    value = records.listing(OWNER, OWN, NOW + 3600)
    assert values.check(value, NOW) is Freshness.LIVE
    assert value.key.key == records.listing_key(OWNER.id)
    record = records.read_listing(value, private=False)
    assert len(record.signature) == 64
    assert replace(record, signature=OWN.signature) == OWN
    with pytest.raises(DhtError, match="another network"):
        nodes.check(record, MOSS)


def listed(content, owner=OWNER):
    return values.sign(owner, b"dht.node", content, NOW + 3600)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (listed(b"junk"), DhtError),
        (listed(tl.pack(OWN)), DhtError),
        (listed(tl.pack(replace(OWN, signature=bytes(64)))), BadSignature),
        (listed(tl.pack(records.unnamed(OWNER, OWN)), Identity(b"t" * 32)), DhtError),
    ],
    ids=["junk", "of a network", "unsigned", "of another node"],
)
def test_what_is_no_record_for_foreign_tools_is_refused(value, error):
    with pytest.raises(error):
        records.read_listing(value, private=False)
