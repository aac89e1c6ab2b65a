"""What a stranger's libp2p expects of any peer beside the link: to be pinged, and to be identified.

Bytes only. Who dialled us learns no more than it knows: our key, where it reached us, and where we
saw it; what we listen on elsewhere is for the directory alone.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address
from typing import Final

from p2p.wire import Endpoint

PING: Final = "/ipfs/ping/1.0.0"
IDENTIFY: Final = "/ipfs/id/1.0.0"

PING_SIZE: Final = 32
"""bytes of a ping, which come back as they are"""

PINGS: Final = 16
"""of one stream: libp2p opens a new one for each, or for each connection"""

VERSION: Final = "tussah/1"

_KEY: Final = b"\x08\x01\x12\x20"
"""Before an Ed25519 key, in libp2p's protobuf."""

_IP4, _TCP, _IP6 = b"\x04", b"\x06", b"\x29"
"""codes of a multiaddr"""


def about(
    public: bytes, protocols: Sequence[str], listening: Sequence[Endpoint], observed: Endpoint
) -> bytes:
    """The message of identify, behind its length."""
    fields = [
        *((3, name.encode()) for name in protocols),
        *((2, multiaddr(endpoint)) for endpoint in listening),
        (1, _KEY + public),
        (4, multiaddr(observed)),
        (5, VERSION.encode()),
        (6, VERSION.encode()),
    ]
    body = b"".join(bytes([number << 3 | 2]) + _sized(data) for number, data in sorted(fields))
    return _sized(body)


def multiaddr(endpoint: Endpoint) -> bytes:
    """An address and TCP port as libp2p writes them."""
    address = ip_address(endpoint.host)
    code = _IP4 if isinstance(address, IPv4Address) else _IP6
    return code + address.packed + _TCP + endpoint.port.to_bytes(2, "big")


def _sized(data: bytes) -> bytes:
    """Behind its length, a varint."""
    size, length = len(data), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + data
