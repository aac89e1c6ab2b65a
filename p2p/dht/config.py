"""Nodes to begin with, as TON's global configuration lists them: the JSON that its tools read.

Integers are as in TL, an IPv4 signed; bytes are base64. A configuration is what a person put there,
but it may have been fetched from anywhere: its size is bounded, and records are believed only once
`DhtCore.bootstrap` has checked them.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Final

from p2p.dht.node import MAX_ADDRESSES
from p2p.dht.settings import DEFAULT, Settings
from p2p.errors import DhtError
from p2p.ton import (
    AdnlAddress,
    AdnlAddressList,
    AdnlAddressUdp,
    AdnlAddressUdp6,
    DhtNode,
    PubEd25519,
)

MAX_CONFIG: Final = 1 << 20
"""bytes of a configuration: TON's main net's, which has more than the DHT in it, takes 30 KB."""

MAX_NODES: Final = 128
"""nodes that are read of it: TON lists 12."""


def write(records: Sequence[DhtNode], settings: Settings = DEFAULT) -> str:
    """A configuration that names these nodes. Raises `DhtError` for what JSON has no form for."""
    nodes = {"@type": "dht.nodes", "nodes": [_write_node(record) for record in records]}
    dht = {
        "@type": "dht.config.global",
        "k": settings.k,
        "a": settings.width,
        "static_nodes": nodes,
    }
    return json.dumps({"@type": "config.global", "dht": dht}, indent=1)


def read(text: str) -> list[DhtNode]:
    """The records that a configuration lists, unchecked; those of a form unknown to us are left.

    Raises `DhtError` if it is no configuration with a list of nodes.
    """
    if len(text) > MAX_CONFIG:
        raise DhtError("a configuration too long")
    try:
        config: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DhtError("no JSON") from error
    listed = _at(_at(_at(config, "dht"), "static_nodes"), "nodes")
    if not isinstance(listed, list):
        raise DhtError("no list of DHT nodes")
    records: list[DhtNode] = []
    for one in listed[:MAX_NODES]:
        try:
            records.append(_read_node(one))
        except (DhtError, ValueError):
            continue
    return records


# --- nodes ---


def _write_node(record: DhtNode) -> Mapping[str, object]:
    if not isinstance(record.id, PubEd25519):
        raise DhtError("a node without an Ed25519 key")
    listed = record.addr_list
    return {
        "@type": "dht.node",
        "id": {"@type": "pub.ed25519", "key": _text(record.id.key)},
        "addr_list": {
            "@type": "adnl.addressList",
            "addrs": [_write_address(address) for address in listed.addrs],
            "version": listed.version,
            "reinit_date": listed.reinit_date,
            "priority": listed.priority,
            "expire_at": listed.expire_at,
        },
        "version": record.version,
        "signature": _text(record.signature),
    }


def _read_node(one: object) -> DhtNode:
    owner = _at(one, "id")
    _expect(owner, "pub.ed25519")
    signature = _bytes(_at(one, "signature"))
    if len(signature) > 68:
        raise DhtError("a signature too long")
    return DhtNode(
        PubEd25519(_exactly(32, _bytes(_at(owner, "key")))),
        _read_list(_at(one, "addr_list")),
        _int(_at(one, "version")),
        signature,
    )


def _read_list(one: object) -> AdnlAddressList:
    addresses = _at(one, "addrs")
    if not isinstance(addresses, list) or len(addresses) > MAX_ADDRESSES:
        raise DhtError("no list of addresses")
    return AdnlAddressList(
        tuple(_read_address(address) for address in addresses),
        *(_int(_at(one, name)) for name in ("version", "reinit_date", "priority", "expire_at")),
    )


def _write_address(address: AdnlAddress) -> Mapping[str, object]:
    match address:
        case AdnlAddressUdp(ip=ip, port=port):
            return {"@type": "adnl.address.udp", "ip": ip, "port": port}
        case AdnlAddressUdp6(ip=ip6, port=port):
            return {"@type": "adnl.address.udp6", "ip": _text(ip6), "port": port}
        case _:
            raise DhtError("an address that is not of UDP")


def _read_address(one: object) -> AdnlAddress:
    port = _int(_at(one, "port"))
    if _at(one, "@type") == "adnl.address.udp6":
        return AdnlAddressUdp6(_exactly(16, _bytes(_at(one, "ip"))), port)
    _expect(one, "adnl.address.udp")
    return AdnlAddressUdp(_int(_at(one, "ip")), port)


# --- JSON ---


def _at(one: object, name: str) -> object:
    if not isinstance(one, dict) or name not in one:
        raise DhtError(f"no {name}")
    found: object = one[name]
    return found


def _expect(one: object, kind: str) -> None:
    if _at(one, "@type") != kind:
        raise DhtError(f"no {kind}")


def _int(one: object) -> int:
    if not isinstance(one, int) or isinstance(one, bool) or not -(2**31) <= one < 2**31:
        raise DhtError("no int")
    return one


def _bytes(one: object) -> bytes:
    if not isinstance(one, str):
        raise DhtError("no base64")
    return b64decode(one, validate=True)


def _exactly(size: int, one: bytes) -> bytes:
    if len(one) != size:
        raise DhtError(f"not {size} bytes")
    return one


def _text(one: bytes) -> str:
    return b64encode(one).decode()
