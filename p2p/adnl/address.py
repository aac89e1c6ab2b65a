"""Where a node listens: endpoints in text to the addresses of TL, and back.

TL writes an IPv4 address as a big-endian number in a *signed* int: 185.86.79.9 is -1185526007. No
other module knows that, nor parses an IP address.
"""

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from p2p.ton import AdnlAddress, AdnlAddressList, AdnlAddressUdp, AdnlAddressUdp6
from p2p.wire import Endpoint

MAX_ENDPOINTS: Final = 8
"""endpoints taken from one list: a peer has few, and each costs a datagram to find out about."""

_SIGNED: Final = 1 << 31


def to_address(endpoint: Endpoint) -> AdnlAddressUdp | AdnlAddressUdp6:
    """The TL address of an endpoint. Raises `ValueError` for what is no IP address and port."""
    if not 0 < endpoint.port < 65_536:
        raise ValueError(f"no UDP port: {endpoint.port}")
    ip = _plain(ipaddress.ip_address(endpoint.host))
    if isinstance(ip, IPv6Address):
        return AdnlAddressUdp6(ip.packed, endpoint.port)
    return AdnlAddressUdp((int(ip) ^ _SIGNED) - _SIGNED, endpoint.port)


def to_endpoint(address: AdnlAddress) -> Endpoint | None:
    """Where datagrams for a TL address go; None for a kind or a value that leads to no node."""
    match address:
        case AdnlAddressUdp(ip, port):
            return _ipv4(ip % (1 << 32), port)
        case AdnlAddressUdp6(octets, port):
            host = _plain(IPv6Address(octets))
        case _:
            return None
    if not 0 < port < 65_536 or host.is_multicast or host.is_unspecified or host == _EVERYBODY:
        return None
    return Endpoint(str(host), port)


def _ipv4(ip: int, port: int) -> Endpoint | None:
    """By hand, since it is done for all that a node hears of: 1 us instead of 7."""
    first = ip >> 24
    is_multicast = 224 <= first < 240
    if not 0 < port < 65_536 or is_multicast or ip in (0, 0xFFFF_FFFF):
        return None
    return Endpoint(f"{first}.{ip >> 16 & 255}.{ip >> 8 & 255}.{ip & 255}", port)


def address_list(
    endpoints: Iterable[Endpoint], version: int, *, expire_at: int = 0
) -> AdnlAddressList:
    """A list as nodes publish it: `version` is its date, and that of the node's start."""
    addresses = tuple(to_address(endpoint) for endpoint in endpoints)
    return AdnlAddressList(addresses, version, version, 0, expire_at)


def endpoints(addresses: AdnlAddressList, now: float) -> tuple[Endpoint, ...]:
    """What a list still says, without repetition; empty once it has expired."""
    if 0 < addresses.expire_at <= now:
        return ()
    found = (to_endpoint(address) for address in addresses.addrs[:MAX_ENDPOINTS])
    return tuple(dict.fromkeys(endpoint for endpoint in found if endpoint is not None))


def neighbourhood(host: str) -> str:
    """What counts as one source of datagrams: an IPv4 address, or the /64 of an IPv6 address.

    A customer of IPv6 owns a /64 at least, so an address of it costs nothing. What is no IP address
    stands for itself: a simulated network has names of its own.
    """
    if ":" not in host:
        return host
    try:
        ip = _plain(IPv6Address(host.partition("%")[0]))
    except ValueError:
        return host
    return ip.packed[:8].hex() if isinstance(ip, IPv6Address) else str(ip)


def block(host: str) -> bytes:
    """The /24 or /48 of a public address, which one party often has as a whole; else empty."""
    try:
        ip = _plain(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return b""
    size = 6 if isinstance(ip, IPv6Address) else 3
    return ip.packed[:size] if ip.is_global else b""


_EVERYBODY: Final = IPv4Address("255.255.255.255")


def _plain(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address that is written as an IPv6 one is still that address."""
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip
