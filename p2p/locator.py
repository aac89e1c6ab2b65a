"""Where peers can be reached: what a network's settings say of them, the directory, and the DHT.

What a peer says of itself in its advert is newer than what settings say of it. Only of those whom
neither knows the DHT is asked, for the records that they have signed themselves. A stranger can
make us look it up, so what they say of other than public addresses is not believed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple, Protocol, final

from p2p.adnl.address import address_list, endpoints
from p2p.dht import records
from p2p.dht.core import DhtCore
from p2p.errors import DhtError, TussahError
from p2p.identity import AdnlId, peer_id, short_id
from p2p.overlay.listing import Entry
from p2p.ton import AdnlAddressList, DhtKey, DhtValue, PubEd25519
from p2p.wire import Endpoint


class Peer(NamedTuple):
    """A node known from the settings of a network: its Ed25519 key, and where it listens.

    Each endpoint is good for UDP and for TCP: both have a port of their own, of one number.
    """

    public: bytes
    endpoints: tuple[Endpoint, ...]

    @property
    def id(self) -> AdnlId:
        """Who it is."""
        return short_id(self.public)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is known of where a peer is; empty where nothing is."""

    udp: tuple[Endpoint, ...] = ()
    """For ADNL; then `public` is known too."""
    tcp: tuple[Endpoint, ...] = ()
    """For links over libp2p."""
    public: bytes = b""

    @property
    def addresses(self) -> AdnlAddressList:
        """As ADNL has them."""
        return address_list(self.udp, 0)


class Listing(Protocol):
    """The directory, as far as it is asked here."""

    def find(self, node: AdnlId) -> Entry | None:
        """The listed node of this id."""


@final
class Locator:
    """`known` says what is known at once, `look_up` asks the DHT. Nothing is kept."""

    def __init__(
        self,
        self_id: AdnlId,
        bootstrap: Iterable[Peer],
        listing: Listing,
        dht: DhtCore,
        *,
        dev: bool,
    ) -> None:
        self._self_id = self_id
        self._is_dev = dev
        self._bootstrap = {peer.id: peer for peer in bootstrap}
        self._listing = listing
        self._dht = dht

    def known(self, peer: AdnlId) -> Place:
        """From settings and directory. We ourselves are nowhere to be reached."""
        if peer == self._self_id:
            return Place()
        entry, first = self._listing.find(peer), self._bootstrap.get(peer)
        said = () if first is None else first.endpoints
        if entry is None:
            return Place(udp=said, tcp=said, public=b"" if first is None else first.public)
        fields = entry.advert.fields
        return Place(
            udp=tuple(dict.fromkeys(fields.udp + said)),
            tcp=tuple(dict.fromkeys(fields.addresses + said)),
            public=entry.advert.public,
        )

    async def look_up(self, now: float, peer: AdnlId) -> Place:
        """From the DHT; steps in its procedures. A value that cannot be read says nothing."""
        udp = await self._find(records.address_key(peer))
        if udp is not None and isinstance(udp.key.id, PubEd25519):
            found = self._usable(_read_udp(udp, now))
            if found:
                return Place(udp=found, public=udp.key.id.key)
        tcp = await self._find(records.libp2p_key(peer))
        return Place() if tcp is None else Place(tcp=self._usable(_read_tcp(tcp)))

    def _usable(self, found: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Those that a stranger may send us to: in a dev network all live on one machine."""
        return tuple(one for one in found if self._is_dev or _is_public(one.host))

    async def _find(self, key: DhtKey) -> DhtValue | None:
        try:
            return await self._dht.find_value(key)
        except TussahError:
            return None


def _read_udp(value: DhtValue, now: float) -> tuple[Endpoint, ...]:
    try:
        return endpoints(records.read_address(value), now)
    except DhtError:
        return ()


def _read_tcp(value: DhtValue) -> tuple[Endpoint, ...]:
    try:
        found = [parse_multiaddr(text) for text in records.read_libp2p(value)]
    except DhtError:
        return ()
    return tuple(endpoint for endpoint in found if endpoint is not None)


def _is_public(host: str) -> bool:
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    plain = mapped or address
    return plain.is_global and not plain.is_multicast


# --- multiaddrs: how libp2p writes an address ---


def format_multiaddr(endpoint: Endpoint, public: bytes) -> str:
    """`/ip4/192.0.2.1/tcp/4001/p2p/12D3Koo...`. Raises `ValueError` for what is no IP address."""
    version = ip_address(endpoint.host).version
    return f"/ip{version}/{endpoint.host}/tcp/{endpoint.port}/p2p/{peer_id(public)}"


def parse_multiaddr(text: str) -> Endpoint | None:
    """The endpoint of a multiaddr over TCP; None for any other, as there are many kinds."""
    match text.split("/"):
        case ["", "ip4" | "ip6", host, "tcp", port, *_] if port.isascii() and port.isdigit():
            return _endpoint(host, int(port[:6]))
        case _:
            return None


def _endpoint(host: str, port: int) -> Endpoint | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return Endpoint(str(address), port) if 0 < port < 65_536 else None
