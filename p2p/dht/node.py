"""A node's record: who it is, where it can be reached, and for which network it says so.

Two forms of signature stand in a `dht.node`. 64 bytes sign the boxed record with no signature in
it, in TON's networks and where no network is named. 68 bytes begin with the network's number and
sign the record with these four bytes in place of the signature; records of other networks are
refused, so that a stray one does not join two networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from p2p import tl
from p2p.errors import BadSignature, DhtError
from p2p.identity import SIGNATURE_SIZE, AdnlId, Identity, short_id, verify
from p2p.ton import (
    AdnlAddress,
    AdnlAddressList,
    AdnlAddressUdp,
    AdnlAddressUdp6,
    DhtNode,
    PubEd25519,
)

NETWORK_SIZE: Final = 4
"""bytes of a network's number before a signature."""

MAX_ADDRESSES: Final = 8
"""addresses of a record: TON's nodes have one or two."""

Address: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A record that was checked."""

    id: AdnlId
    public: bytes
    record: DhtNode
    addresses: AdnlAddressList
    """Those of the record that can be reached; at least one."""
    subnet: bytes
    """/24 or /48 of the first of them."""
    packed: bytes
    """The record, bare."""

    @property
    def version(self) -> int:
        """Of two records the one with the greater version counts."""
        return self.record.version


def build(
    identity: Identity, addresses: AdnlAddressList, version: int, network: int | None
) -> DhtNode:
    """Our own record, signed."""
    unsigned = DhtNode(PubEd25519(identity.public), addresses, version, _prefix(network))
    signature = unsigned.signature + identity.sign(tl.pack(unsigned))
    return DhtNode(unsigned.id, addresses, version, signature)


def check(record: DhtNode, network: int | None, *, private: bool = False) -> Node:
    """The node of a record; with `private`, loopback and private addresses count as reachable.

    Raises `DhtError` if it is another network's or cannot be reached, and `BadSignature`.
    """
    if not isinstance(record.id, PubEd25519):
        raise DhtError("a node without an Ed25519 key")
    reachable = reachable_addresses(record.addr_list, private=private)
    prefix = _prefix(network)
    if len(record.signature) != len(prefix) + SIGNATURE_SIZE or record.signature[:-64] != prefix:
        raise DhtError("a node of another network")

    unsigned = DhtNode(record.id, record.addr_list, record.version, prefix)
    if not verify(record.id.key, tl.pack(unsigned), record.signature[-64:]):
        raise BadSignature("a node's record that is not signed by it")
    return Node(
        id=short_id(record.id.key),
        public=record.id.key,
        record=record,
        addresses=reachable,
        subnet=subnet(reachable.addrs[0]),
        packed=tl.pack(record, boxed=False),
    )


def network_of(record: DhtNode) -> int | None:
    """The network that a record names, if any; `check` says whether its node signed that."""
    prefix = record.signature[:-SIGNATURE_SIZE]
    return int.from_bytes(prefix, "little", signed=True) if len(prefix) == NETWORK_SIZE else None


def pack_nodes(nodes: Sequence[Node]) -> bytes:
    """The records of nodes as a bare `dht.nodes`, put together from what was packed once."""
    count = len(nodes).to_bytes(4, "little")
    return count + b"".join(node.packed for node in nodes)


def reachable_addresses(addresses: AdnlAddressList, *, private: bool) -> AdnlAddressList:
    """The list without what nobody could send to, IPv4 first, which more nodes can.

    Raises `DhtError` if nothing is left.
    """
    if len(addresses.addrs) > MAX_ADDRESSES:
        raise DhtError("too many addresses")
    kept = tuple(one for one in addresses.addrs if _is_reachable(one, private=private))
    if not kept:
        raise DhtError("no address that can be reached")
    kept = tuple(sorted(kept, key=lambda one: isinstance(one, AdnlAddressUdp6)))
    return AdnlAddressList(
        kept, addresses.version, addresses.reinit_date, addresses.priority, addresses.expire_at
    )


def subnet(address: AdnlAddress) -> bytes:
    """What stands for one owner of addresses: the /24 of an IPv4, the /48 of an IPv6."""
    match host(address):
        case IPv4Address() as ip:
            return ip.packed[:3]
        case IPv6Address() as ip:
            return ip.packed[:6]
        case None:
            return b""


def host(address: AdnlAddress) -> Address | None:
    """The IP of an address of UDP; None for one of another kind."""
    match address:
        case AdnlAddressUdp(ip=ip):
            return IPv4Address(ip & 0xFFFFFFFF)
        case AdnlAddressUdp6(ip=ip6):
            return IPv6Address(ip6)
        case _:
            return None


def distance(one: bytes, other: bytes) -> int:
    """The XOR of two ids, or of a key's and a node's."""
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


def _is_reachable(address: AdnlAddress, *, private: bool) -> bool:
    ip = host(address)
    if ip is None or not isinstance(address, AdnlAddressUdp | AdnlAddressUdp6):
        return False
    usable = ip.is_global and not ip.is_multicast
    if private:
        usable = not (ip.is_multicast or ip.is_unspecified)
    return usable and 0 < address.port < 65_536


def _prefix(network: int | None) -> bytes:
    return b"" if network is None else network.to_bytes(NETWORK_SIZE, "little", signed=True)
