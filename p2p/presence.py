"""What a node is to others, by where they can reach it: a server of the DHT, the overlay and the
directory, or one who only asks.

    over UDP    server of the DHT, whose record and whose values say where
    over TCP    its advert names addresses, and that others may dial it
    over any    member of the overlay, server of the directory
    over none   asks, and is told nothing
"""

from collections.abc import Sequence
from typing import final

from p2p.adnl.address import address_list
from p2p.dht import records
from p2p.dht.core import DhtCore, Seed
from p2p.identity import Identity
from p2p.locator import Peer, format_multiaddr
from p2p.overlay.announcer import Announcer
from p2p.overlay.core import OverlayCore
from p2p.overlay.directory_core import DirectoryCore
from p2p.sending import Sending
from p2p.ton import DhtNode
from p2p.wire import Endpoint


@final
class Presence:
    """`join` once, then `move` whenever others can reach the node somewhere else.

    `udp`: there is a socket, without which there is no DHT; `version` is that of the first address
    list, greater than in every run before.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        udp: bool,
        version: int,
        sending: Sending,
        dht: DhtCore,
        overlay: OverlayCore,
        directory: DirectoryCore,
        announcer: Announcer,
    ) -> None:
        self._identity = identity
        self._has_socket = udp
        self._version = version
        self._sending = sending
        self._dht = dht
        self._overlay = overlay
        self._directory = directory
        self._announcer = announcer
        self.tcp: tuple[Endpoint, ...] = ()
        """Where others can dial links."""
        self.udp: tuple[Endpoint, ...] = ()
        """Where others can send datagrams."""

    def join(
        self,
        now: float,
        bootstrap: Sequence[Peer],
        nodes: Sequence[DhtNode],
        *,
        tcp: tuple[Endpoint, ...],
        udp: tuple[Endpoint, ...],
    ) -> None:
        """Take part in DHT and overlay, beginning with these peers and nodes."""
        self.tcp, self.udp = tcp, udp
        others = [peer.id for peer in bootstrap if peer.id != self._identity.id]
        self._overlay.join(now, others, serve=self.serves)
        if not self._has_socket:
            return
        seeds = [Seed(peer.public, address_list(peer.endpoints, 0)) for peer in bootstrap]
        self._dht.bootstrap(now, seeds)
        self._dht.bootstrap(now, nodes)
        if udp:
            self._serve(now)

    def move(self, now: float, tcp: tuple[Endpoint, ...], udp: tuple[Endpoint, ...]) -> None:
        """Others can reach it here from now on, and nowhere else."""
        self.tcp, self.udp = tcp, udp
        self._overlay.serve(now, serve=self.serves)
        self._directory.serve(now, serve=self.serves)
        self._announcer.move(now, tcp, udp if tcp else ())
        if self._has_socket:
            self._version = max(int(now), self._version + 1)
            self._serve(now) if udp else self._ask_only(now)

    @property
    def serves(self) -> bool:
        """Whether others can ask this node anything."""
        return bool(self.tcp or self.udp)

    def _serve(self, now: float) -> None:
        """Be a server of the DHT, where everybody may look up where we are."""
        listed = address_list(self.udp, self._version)
        self._sending.publish(listed)
        self._dht.serve(now, listed)
        identity = self._identity
        links = [format_multiaddr(endpoint, identity.public) for endpoint in self.tcp]
        self._dht.publish(now, "address", lambda end: records.address(identity, listed, end))
        self._dht.publish(now, "libp2p", lambda end: records.libp2p(identity, links, end))

    def _ask_only(self, now: float) -> None:
        """Stand in no table of the DHT; what is stored of where we are expires."""
        self._sending.publish(address_list([], self._version))
        self._dht.serve(now, None)
        for name in ("address", "libp2p"):
            self._dht.withdraw(name)
