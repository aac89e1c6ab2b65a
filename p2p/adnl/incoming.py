"""From a datagram to the messages of a peer, in the order of what each look costs."""

from collections.abc import Mapping
from typing import NamedTuple, final

from p2p.adnl import packet
from p2p.adnl.drops import Drop
from p2p.adnl.gate import Gate
from p2p.adnl.packet import Packet, Signed
from p2p.adnl.peer import Pair, Peer
from p2p.adnl.table import Table
from p2p.errors import AdnlError, NoCapacity
from p2p.identity import AdnlId, Identity
from p2p.ton import AdnlMessage
from p2p.wire import Endpoint


class Arrival(NamedTuple):
    """A packet that was taken, or one that was not but changed something."""

    peer: Peer
    messages: tuple[AdnlMessage, ...] = ()
    moved: bool = False
    """It came from another place than the last one."""
    anew: bool = False
    """The peer has started anew."""
    drop: Drop | None = None
    """Why the packet was not taken."""


@final
class Incoming:
    """Size, name, rate of its source, digest, contents, signature, dates, numbers: see `Drop`."""

    def __init__(
        self, identities: Mapping[AdnlId, Identity], table: Table, gate: Gate, started_at: int
    ) -> None:
        self._identities = identities
        self._table = table
        self._gate = gate
        self._started_at = started_at

    def take(self, now: float, source: Endpoint, datagram: bytes) -> Arrival:
        """What a datagram brings. Raises `AdnlError` or `TlError` if it is nothing of a peer's."""
        if not packet.CHANNEL_HEAD <= len(datagram) <= packet.MAX_RECEIVED:
            raise AdnlError(Drop.SIZE)
        name = datagram[:32]
        peer = self._table.of_channel(name)
        if peer is not None:
            return self._take_in_channel(now, source, peer, datagram)
        own = self._identities.get(AdnlId(name))
        if own is None:
            raise AdnlError(Drop.UNKNOWN)
        return self._take_direct(now, source, own, datagram)

    def sizes(self) -> dict[str, int]:
        """Lengths of its tables."""
        return self._gate.sizes()

    # --- in a channel ---

    def _take_in_channel(
        self, now: float, source: Endpoint, peer: Peer, datagram: bytes
    ) -> Arrival:
        channel = peer.handshake.channel
        assert channel is not None
        found = packet.read(channel.unseal(datagram))
        if found.source_id is not None and found.source_id != peer.id:
            raise AdnlError(Drop.SOURCE)
        arrival = self._admit(now, source, peer, found)
        if arrival.drop is None and not arrival.anew:
            peer.handshake.ready = True
            if peer.placed != source:
                self._table.place(peer)
        return arrival

    # --- direct ---

    def _take_direct(self, now: float, source: Endpoint, own: Identity, datagram: bytes) -> Arrival:
        if len(datagram) < packet.DIRECT_HEAD:
            raise AdnlError(Drop.SIZE)
        self._gate.datagram(now, source, known=self._table.is_place(source))
        signed = packet.read_signed(packet.unseal_direct(own, datagram))
        peer = self._signer(now, source, own, signed)
        return self._admit(now, source, peer, signed.packet)

    def _signer(self, now: float, source: Endpoint, own: Identity, signed: Signed) -> Peer:
        """The peer that signed a packet, a new one perhaps. Raises `AdnlError` if nobody did."""
        found = signed.packet
        assert found.source_id is not None
        peer = self._table.find(Pair(own.id, found.source_id))
        public = found.source or self._public(found.source_id, peer)
        if public is None:
            raise AdnlError(Drop.SOURCE)
        if peer is None:
            self._gate.newcomer(now, source)
        signed.verify(public)
        if peer is None:
            peer = self._add(now, own, found.source_id)
        if peer.public is None:
            peer.identify(public)
        return peer

    def _public(self, peer_id: AdnlId, peer: Peer | None) -> bytes | None:
        if peer is not None and peer.public is not None:
            return peer.public
        contact = self._table.contact(peer_id)
        return None if contact is None else contact.public

    def _add(self, now: float, own: Identity, peer_id: AdnlId) -> Peer:
        try:
            return self._table.add(now, own, peer_id, invited=False)
        except NoCapacity as error:
            raise AdnlError(Drop.PEERS_FULL) from error

    # --- both ---

    def _admit(self, now: float, source: Endpoint, peer: Peer, found: Packet) -> Arrival:
        since = peer.reinit_date
        drop = peer.admit(now, self._started_at, found)
        anew = 0 < since < peer.reinit_date
        if drop in (None, Drop.BEFORE_OUR_RESTART) and found.addresses is not None:
            peer.where.learn(now, found.addresses)
        if drop is not None:
            return Arrival(peer, anew=anew, drop=drop)

        if found.received_version > peer.known_version:
            peer.known_version = found.received_version
        moved = peer.where.hear(now, source)
        self._table.touch(now, peer)
        return Arrival(peer, found.messages, moved, anew)
