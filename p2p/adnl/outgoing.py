"""What leaves: each message in its channel, or direct, or not yet."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from p2p.adnl import packet
from p2p.adnl.drops import Drop
from p2p.adnl.events import NoAddress
from p2p.adnl.keys import KeyPair
from p2p.adnl.limits import Limits
from p2p.adnl.packet import Introduction
from p2p.adnl.parts import MAX_WHOLE, split
from p2p.adnl.peer import Peer, State, Waiting
from p2p.adnl.table import Table
from p2p.core import Event, Send
from p2p.entropy import Entropy
from p2p.errors import AdnlError
from p2p.identity import AdnlId
from p2p.tl import pack
from p2p.ton import AdnlMessageNop
from p2p.wire import Endpoint

PROBE_LEAST, PROBE_MORE = 0.5, 1.0
"""seconds between direct packets to a Stale peer: the least, and what chance adds."""

OWED_LEAST, OWED_MORE = 1.0, 1.0
"""seconds in which a peer is owed a packet for its own: the least, and what chance adds."""

NOP: Final = pack(AdnlMessageNop())


@dataclass(frozen=True, slots=True)
class Published:
    """The addresses that packets of one identity carry."""

    version: int
    packed: bytes


@final
class Outgoing:
    """Sends messages to peers, and lets wait what cannot be sent: for an address, or for leave.

    Between two direct packets of a handshake nothing is known of the peer, so leave is scarce.
    """

    def __init__(
        self,
        table: Table,
        limits: Limits,
        entropy: Entropy,
        started_at: int,
        published: dict[AdnlId, Published],
    ) -> None:
        self.sends: list[Send] = []
        self.events: list[Event] = []
        self.drops: Counter[str] = Counter()
        self.queued = 0
        """Bytes that wait."""
        self.direct = self.in_channels = 0
        """Datagrams sent."""
        self._table = table
        self._limits = limits
        self._entropy = entropy
        self._started_at = started_at
        self._published = published

    def say(self, now: float, peer: Peer, message: bytes) -> None:
        """Send a boxed message, in parts if it must be; behind what waits, if anything does."""
        for piece in _pieces(message):
            if peer.queue or not self._send(now, peer, piece):
                self._let_wait(now, peer, piece)

    def say_at(self, now: float, peer: Peer, to: Endpoint, message: bytes) -> None:
        """Send a message there, now or not at all; what is known of the peer stays so."""
        self._told(peer)
        if peer.curve is not None:
            for piece in _pieces(message):
                self._to(now, peer, peer.state(now), to, piece)

    def reply(self, now: float, peer: Peer, to: Endpoint, message: bytes) -> None:
        """Send a short message directly, there and now or not at all; what is known stays so."""
        if peer.bucket.take(now):
            self._introduce(now, peer, to, (peer.handshake.offer(now, self._entropy), message))

    def owe(self, now: float, peer: Peer) -> None:
        """The peer is owed a packet: a `nop` unless something else leaves within 1 to 2 s."""
        if peer.owed is None:
            peer.owed = now
            if peer.alarm is None:
                self._wake(peer, now + self._grace())

    def flush(self, now: float, peer: Peer) -> None:
        """Send what waits, as far as may be; drop what has waited for too long."""
        while peer.queue:
            waiting = peer.queue[0]
            late = waiting.until <= now
            if not late and not self._send(now, peer, waiting.message):
                break
            self.drops[Drop.QUEUE_LATE] += late
            self._unqueue(peer)
        if not peer.queue:
            peer.no_address = False

    def alarm(self, now: float, peer: Peer) -> None:
        """Do what is due for a peer whose alarm went off."""
        peer.alarm = None
        self.flush(now, peer)
        if peer.queue:
            self._wake_for_queue(now, peer)
        if peer.owed is None:
            return
        if now - peer.owed >= OWED_LEAST:
            peer.owed = None
            self.say(now, peer, NOP)
        else:
            self._wake(peer, peer.owed + self._grace())

    # --- inside ---

    def _send(self, now: float, peer: Peer, message: bytes) -> bool:
        """Whether the message has left."""
        state = peer.state(now)
        if state is State.READY and peer.where.endpoint is not None:
            self._in_channel(now, peer, peer.where.endpoint, message)
            return True

        to = self._find(now, peer)
        return to is not None and self._to(now, peer, state, to, message)

    def _to(self, now: float, peer: Peer, state: State, to: Endpoint, message: bytes) -> bool:
        """Send to an endpoint as the state of the peer demands; whether it has left."""
        if state is State.READY or (state is State.STALE and now < peer.probe_next):
            self._in_channel(now, peer, to, message)
            return True
        if state is State.STALE:
            peer.probe_next = now + PROBE_LEAST + PROBE_MORE * self._entropy.uniform()
        return self._directly(now, peer, to, message)

    def _in_channel(self, now: float, peer: Peer, to: Endpoint, message: bytes) -> None:
        channel = peer.handshake.channel
        assert channel is not None
        padding = packet.draw_padding(self._entropy)
        plain = packet.write((message,), padding, self._number(now, peer), peer.window.highest)
        self.sends.append(Send(to, channel.seal(plain)))
        self.in_channels += 1

    def _directly(self, now: float, peer: Peer, to: Endpoint, message: bytes) -> bool:
        if not peer.bucket.take(now):
            return False
        offer = peer.handshake.offer(now, self._entropy)
        if len(offer) + len(message) <= packet.DIRECT_ROOM:
            self._introduce(now, peer, to, (offer, message))
        else:
            self._introduce(now, peer, to, (offer,))
            self._introduce(now, peer, to, (message,))
        return True

    def _introduce(self, now: float, peer: Peer, to: Endpoint, messages: tuple[bytes, ...]) -> None:
        """One direct packet: with our addresses, if it has not got them and there is room."""
        assert peer.curve is not None
        published = self._published[peer.local.id]
        padding = packet.draw_padding(self._entropy)
        room = packet.DIRECT_ROOM - sum(map(len, messages))
        wanted = published.version > peer.known_version and len(published.packed) <= room
        introduction = Introduction(
            peer.local.public,
            published.packed if wanted else None,
            self._started_at,
            peer.reinit_date,
        )
        number = self._number(now, peer)
        plain = packet.write(messages, padding, number, peer.window.highest, introduction)
        signed = packet.sign(plain, padding, peer.local)
        key = KeyPair(self._entropy.token(32))
        self.sends.append(Send(to, packet.seal_direct(key, peer.id, peer.curve, signed)))
        self.direct += 1

    def _number(self, now: float, peer: Peer) -> int:
        """The number of a packet about to leave."""
        self._table.touch(now, peer)
        peer.where.speak(now)
        peer.spoken = now
        peer.owed = None
        peer.sent += 1
        return peer.sent

    def _find(self, now: float, peer: Peer) -> Endpoint | None:
        """Where the peer is; if its key or address is missing, upper layers are asked for it."""
        if peer.where.tried_in_vain(now):
            self._table.give_up(peer.id)
        told = self._told(peer)
        found = peer.where.target(now, told)
        missing = found is None or peer.public is None
        if missing and not peer.no_address:
            self.events.append(NoAddress(peer.id))
        peer.no_address = missing
        return None if missing else found

    def _told(self, peer: Peer) -> Sequence[Endpoint]:
        """Where upper layers said it is; who it is, they said too."""
        contact = self._table.contact(peer.id)
        if contact is None:
            return ()
        if peer.public is None:
            try:
                peer.identify(contact.public)
            except AdnlError as error:
                self.drops[error.reason] += 1
        return contact.endpoints

    def _let_wait(self, now: float, peer: Peer, message: bytes) -> None:
        limits, size = self._limits, len(message)
        if peer.queued + size > limits.queue_peer or self.queued + size > limits.queue_node:
            self.drops[Drop.QUEUE_FULL] += 1
            return
        peer.queue.append(Waiting(now + limits.queue_time, message))
        peer.queued += size
        self.queued += size
        self._wake_for_queue(now, peer)

    def _unqueue(self, peer: Peer) -> None:
        size = len(peer.queue.popleft().message)
        peer.queued -= size
        self.queued -= size

    def _wake_for_queue(self, now: float, peer: Peer) -> None:
        """Look again when the first message is too old, or sooner if it waits for leave alone."""
        until = peer.queue[0].until
        if not peer.no_address:
            until = min(until, now + 1.0 / self._limits.peer_rate)
        self._wake(peer, until)

    def _wake(self, peer: Peer, when: float) -> None:
        if peer.alarm is None or when < peer.alarm:
            peer.alarm = when
            self._table.alarms.set(peer.pair, when)

    def _grace(self) -> float:
        return OWED_LEAST + OWED_MORE * self._entropy.uniform()


def _pieces(message: bytes) -> list[bytes]:
    return [message] if len(message) <= MAX_WHOLE else [pack(part) for part in split(message)]
