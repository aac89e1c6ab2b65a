"""What a server says of itself in the DHT: where it listens, over UDP and over libp2p.

A bootstrap node also leaves its record as foreign tools read it: they know no signatures with the
number of a network in them. It is a value like another, so that no such record stands in a table.
"""

from collections.abc import Sequence
from typing import Final

from p2p import codec, tl
from p2p.dht import key as keys
from p2p.dht import node as nodes
from p2p.dht import value as values
from p2p.errors import CodecError, DhtError, TlError
from p2p.identity import AdnlId, Identity
from p2p.ton import AdnlAddressList, DhtKey, DhtNode, DhtValue

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


def listing_key(node: AdnlId) -> DhtKey:
    """Where a bootstrap node's record for foreign tools stands."""
    return DhtKey(node, b"dht.node", 0)


def listing(identity: Identity, own: DhtNode, expires: int) -> DhtValue:
    """Our record `own`, signed anew without a network."""
    return values.sign(identity, b"dht.node", tl.pack(unnamed(identity, own)), expires)


def unnamed(identity: Identity, own: DhtNode) -> DhtNode:
    """Our record `own`, signed anew without a network."""
    return nodes.build(identity, own.addr_list, own.version, None)


def read_listing(value: DhtValue, *, private: bool) -> DhtNode:
    """The record of such a value; `private` as in `node.check`.

    Raises `DhtError` if it holds none of its owner's, and `BadSignature`.
    """
    try:
        record = tl.parse(DhtNode, value.value)
    except TlError as error:
        raise DhtError("no record of a node") from error
    if keys.owner_id(record.id) != value.key.key.id:
        raise DhtError("the record of another node")
    nodes.check(record, None, private=private)
    return record
