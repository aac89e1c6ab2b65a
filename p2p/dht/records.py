"""What a server says of itself in the DHT: where it listens, over UDP and over libp2p."""

from collections.abc import Sequence
from typing import Final

from p2p import codec, tl
from p2p.dht import value as values
from p2p.errors import CodecError, DhtError, TlError
from p2p.identity import AdnlId, Identity
from p2p.ton import AdnlAddressList, DhtKey, DhtValue

MAX_MULTIADDRS: Final = 8
"""addresses of libp2p in one record."""

_VERSION: Final = 1


def address_key(node: AdnlId) -> DhtKey:
    """Where a node's UDP addresses stand."""
    return DhtKey(node, b"address", 0)


def address(identity: Identity, addresses: AdnlAddressList, expires: int) -> DhtValue:
    """Our UDP addresses, as TON's nodes write theirs."""
    return values.sign(identity, b"address", tl.pack(addresses), expires)


def read_address(value: DhtValue) -> AdnlAddressList:
    """The addresses of such a value. Raises `DhtError` if it holds none."""
    try:
        return tl.parse(AdnlAddressList, value.value)
    except TlError as error:
        raise DhtError("no list of addresses") from error


def libp2p_key(node: AdnlId) -> DhtKey:
    """Where a node's multiaddrs stand."""
    return DhtKey(node, b"libp2p", 0)


def libp2p(identity: Identity, multiaddrs: Sequence[str], expires: int) -> DhtValue:
    """Our multiaddrs, the first 8 of them."""
    content = codec.pack([_VERSION, list(multiaddrs[:MAX_MULTIADDRS])])
    return values.sign(identity, b"libp2p", content, expires)


def read_libp2p(value: DhtValue) -> list[str]:
    """The multiaddrs of such a value. Raises `DhtError` if it holds none."""
    try:
        match codec.unpack(value.value, values.MAX_VALUE):
            case [1, [*multiaddrs]] if len(multiaddrs) <= MAX_MULTIADDRS:
                found = [one for one in multiaddrs if isinstance(one, str)]
                if len(found) == len(multiaddrs):
                    return found
    except CodecError as error:
        raise DhtError("no list of multiaddrs") from error
    raise DhtError("no list of multiaddrs")
