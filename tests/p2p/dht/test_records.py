"""The two records that a server keeps of itself."""

from dataclasses import replace

import pytest

from p2p import codec
from p2p.dht import key as keys
from p2p.dht import records
from p2p.dht import value as values
from p2p.dht.value import Freshness
from p2p.errors import DhtError
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
