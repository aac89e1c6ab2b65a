"""The overlay of a network: its members, their broadcasts and pulses, and calls between them.

One core is spoken to by everything that names its overlay: messages behind `overlay.message` and
queries behind `overlay.query`. It answers questions about members itself; broadcasts and casts
become events, calls go to the handler that was attached. A broadcast goes no further before the
application has accepted it; a pulse proves itself and is told on unasked.

A client asks, and sends what is its own; it is no member, is told nothing, and answers no query.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, final

from p2p import codec, tl
from p2p.bucket import Buckets
from p2p.core import Procedures
from p2p.entropy import Entropy
from p2p.errors import AnswerTooBig, CodecError, Unreachable
from p2p.identity import AdnlId, Identity
from p2p.overlay import broadcast as broadcasts
from p2p.overlay import fec_part, liveness, membership, pulse
from p2p.overlay.asking import Caller
from p2p.overlay.broadcast import Broadcast as Broadcast
from p2p.overlay.broadcast import BroadcastId, Broadcasts
from p2p.overlay.discovery import Discovery, Records
from p2p.overlay.envelope import PREFIXES as PREFIXES
from p2p.overlay.envelope import Dropped, Envelope
from p2p.overlay.fec_broadcast import FecBroadcasts, Part
from p2p.overlay.liveness import PulseBook
from p2p.overlay.membership import Membership
from p2p.overlay.pulse import Gathering, Pulse
from p2p.overlay.settings import DEFAULT, Settings
from p2p.sender import Sender
from p2p.timers import soonest
from p2p.ton import (
    OverlayBroadcast,
    OverlayBroadcastFec,
    OverlayBroadcastFecShort,
    OverlayBroadcastList,
    OverlayBroadcastNotFound,
    OverlayEmptyMemberCertificate,
    OverlayFecCompleted,
    OverlayFecReceived,
    OverlayGetBroadcast,
    OverlayGetBroadcastList,
    OverlayGetRandomPeers,
    OverlayGetRandomPeersV2,
    OverlayNode,
    OverlayNodes,
    OverlayNodesV2,
    OverlayNodeV2,
    OverlayPing,
    OverlayPong,
    OverlayUnicast,
    TussahCall,
    TussahCast,
    TussahReply,
)

MAX_CAST: Final = 944
"""bytes of a cast's body: with all around it a plain message has at most 988, as in TON."""

REPLY_OVERHEAD: Final = 12
"""bytes around the body of a reply: its constructor, its length and its padding."""

CASTS_RATE, CASTS_BURST = 20.0, 100.0
"""casts a second of one peer, and at once: a neighbour of 10,000 nodes has one of pulses."""

QUERIES_RATE, QUERIES_BURST = 2.0, 20.0
"""queries for members a second of one peer, and at once: ours come once a minute."""

PEERS: Final = 4_096
"""peers whose casts and queries are counted."""


@dataclass(frozen=True, slots=True)
class Pulses:
    """Pulses of listed nodes that are valid and news."""

    pulses: tuple[Pulse, ...]


@dataclass(frozen=True, slots=True)
class Cast:
    """A peer, member or not, sent the canonical body of a cast that is none of pulses."""

    peer: AdnlId
    body: bytes


@dataclass(frozen=True, slots=True)
class NeighboursChanged:
    """Who is told what comes from now on."""

    neighbours: tuple[AdnlId, ...]


Event: TypeAlias = Broadcast | Pulses | Cast | NeighboursChanged


class CallHandler(Protocol):
    """Who answers calls."""

    def call(self, now: float, peer: AdnlId, body: bytes) -> bytes | None:
        """The body of the reply; None is silence. Never raises because of what a peer sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A snapshot."""

    serving: bool
    members: int
    neighbours: int
    passed_on: int
    """Broadcasts of others that were passed on."""
    casts_sent: int
    """Casts of pulses, ours and others', each to a few neighbours."""
    dropped: Mapping[Dropped, int]
    broadcasts: Mapping[broadcasts.Fate, int]
    parts: Mapping[fec_part.Fate, int]
    """Of longer broadcasts."""
    pulses: Mapping[liveness.Fate, int]
    records: Mapping[membership.Fate, int]


@final
class OverlayCore:
    """See the module. A `Handler` of payloads that begin with one of `PREFIXES`."""

    def __init__(
        self,
        identity: Identity,
        sender: Sender,
        procedures: Procedures,
        entropy: Entropy,
        *,
        network: int,
        settings: Settings = DEFAULT,
        records: Records | None = None,
    ) -> None:
        self._identity = identity
        self._sender = sender
        self._settings = settings
        self._envelope = Envelope(membership.name_of(network))
        self.overlay = self._envelope.overlay
        """32 bytes: which overlay this is."""

        self._members = Membership(identity.id, self.overlay, entropy.fork("members"), settings)
        self._discovery = Discovery(
            identity,
            self._envelope,
            self._members,
            sender,
            procedures,
            entropy.fork("discovery"),
            records,
            settings,
        )
        self._broadcasts = Broadcasts(self.overlay, settings.admission)
        self._parts = FecBroadcasts(self.overlay, settings.admission)
        self.pulses = PulseBook(settings.epoch)
        """Who is still there; whoever holds the adverts tells it whose pulses to expect."""
        self._calls: CallHandler | None = None

        self._gathering = Gathering(settings.gather)
        self._casts = Buckets[AdnlId](CASTS_RATE, CASTS_BURST, PEERS)
        self._queries = Buckets[AdnlId](QUERIES_RATE, QUERIES_BURST, PEERS)
        self._events: list[Event] = []
        self._dropped = dict.fromkeys(Dropped, 0)
        self._passed_on = self._casts_sent = 0

    def attach(self, calls: CallHandler) -> None:
        """Let calls be answered."""
        self._calls = calls

    def trust(self, is_vouched: Callable[[AdnlId], bool]) -> None:
        """Draw most neighbours from the members for whom this is true."""
        self._members.trust(is_vouched)

    # --- commands ---

    def join(self, now: float, bootstrap: Sequence[AdnlId], *, serve: bool) -> None:
        """Begin to look for members, as one of them or, with `serve` False, as a client."""
        self._discovery.join(now, bootstrap, serve=serve)

    def serve(self, now: float, *, serve: bool) -> None:
        """Be a member from now on, or a client."""
        self._discovery.serve(now, serve=serve)

    def broadcast(self, now: float, data: bytes) -> int:
        """Tell everybody, in our name; how many were told, of whom 0 means to try again later.

        More than 768 bytes leave in parts, 300 kB a second, if others admit so much from us. Raises
        `ValueError` for more than 1 MiB.
        """
        if len(data) > broadcasts.MAX_DATA:
            return self._broadcast_parts(now, data)
        payload = self._broadcasts.start(now, self._identity, data)
        return self._tell(self._envelope.seal_message(payload), self._settings.first_fanout)

    def accept(self, now: float, broadcast: BroadcastId) -> None:
        """Pass on a broadcast that was drained, once; harmless for any other."""
        passed = self._broadcasts.accept(broadcast)
        if passed is not None:
            self._passed_on += 1
            payload = self._envelope.seal_message(passed.payload)
            self._tell(payload, self._settings.fanout, passed.bearer)
        self._passed_on += self._parts.accept(broadcast)
        self._send_parts()

    def refuse(self, now: float, broadcast: BroadcastId) -> None:
        """Do not pass it on."""
        self._broadcasts.refuse(broadcast)
        self._parts.refuse(broadcast)
        self._send_parts()

    def pulse(self, now: float, pulses: Sequence[Pulse]) -> None:
        """Send pulses on: our own, or those that were fetched elsewhere and are news."""
        for one in pulses:
            self._gather(now, one)

    def cast(self, now: float, body: bytes) -> None:
        """Tell some neighbours. Raises `ValueError` for a body longer than 944 bytes."""
        self._tell(self.seal_cast(body), self._settings.fanout)

    def cast_to(self, now: float, peer: AdnlId, body: bytes) -> None:
        """Tell one peer, member or not. Raises `ValueError` as `cast` does."""
        self._sender.send(peer, self.seal_cast(body))

    def seal_cast(self, body: bytes) -> bytes:
        """A cast as it travels. Raises `ValueError` as `cast` does."""
        if len(body) > MAX_CAST:
            raise ValueError("a cast holds 944 bytes")
        return self._envelope.seal_message(tl.pack(TussahCast(body)))

    async def call(
        self,
        peer: AdnlId,
        body: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 (of the protocol, as in `Sender.query`)
        max_answer: int,
        query: Caller | None = None,
    ) -> bytes:
        """The body of a peer's reply, at most `max_answer` bytes. Raises what a query raises.

        `query` carries it in place of the sender's.
        """
        ask = query or self._sender.query
        question = self._envelope.seal_query(TussahCall(body))
        most = max_answer + REPLY_OVERHEAD
        try:
            answer = await ask(peer, question, timeout=timeout, max_answer=most)
        except Unreachable:
            self._discovery.unanswered(peer)
            raise
        reply = tl.parse(TussahReply, answer).body
        if len(reply) > max_answer:
            raise AnswerTooBig("a reply longer than was asked for")
        return reply

    # --- Handler ---

    def message(self, now: float, peer: AdnlId, payload: bytes) -> None:
        """See `Handler`."""
        match self._envelope.open_message(payload):
            case OverlayBroadcast() as broadcast:
                self._take_broadcast(now, peer, broadcast)
            case TussahCast(body=body):
                self._take_cast(now, peer, body)
            case OverlayBroadcastFec() | OverlayBroadcastFecShort() as part:
                self._take_part(now, peer, part)
            case OverlayFecReceived() | OverlayFecCompleted() as said:
                self._parts.said(peer, said)
            case OverlayUnicast():
                self._drop(Dropped.UNSUPPORTED)
            case Dropped() as reason:
                self._drop(reason)
            case _:
                self._drop(Dropped.MALFORMED)

    def query(self, now: float, peer: AdnlId, payload: bytes) -> bytes | None:
        """See `Handler`."""
        question = self._envelope.open_query(payload)
        if not isinstance(question, Dropped) and not self._discovery.serving:
            question = Dropped.CLIENT
        match question:
            case TussahCall(body=body):
                return self._answer_call(now, peer, body)
            case OverlayPing():
                return tl.pack(OverlayPong())
            case OverlayGetRandomPeers(peers=peers):
                return self._answer_peers(now, peer, peers)
            case OverlayGetRandomPeersV2(peers=newer):
                return self._answer_newer(now, peer, newer)
            case OverlayGetBroadcast():
                return tl.pack(OverlayBroadcastNotFound())
            case OverlayGetBroadcastList():
                return tl.pack(OverlayBroadcastList(()))
            case Dropped() as reason:
                self._drop(reason)
            case _:
                self._drop(Dropped.MALFORMED)
        return None

    # --- the core's contract ---

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._discovery.handle_timer(now)
        self._parts.handle_timer(now)
        self._send_parts()
        if self._gathering.due is not None and self._gathering.due <= now:
            self._send_gathered()

    def next_deadline(self) -> float | None:
        """When something is due."""
        return soonest(
            self._discovery.next_deadline(), self._parts.next_deadline(), self._gathering.due
        )

    def drain(self) -> list[Event]:
        """Everything to tell since the last call."""
        events, self._events = self._events, []
        if self._members.take_change():
            events.append(NeighboursChanged(self._members.neighbours))
        return events

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            **self._members.sizes(),
            **self._discovery.sizes(),
            **self._broadcasts.sizes(),
            **self._parts.sizes(),
            **self.pulses.sizes(),
            "overlay_gathered": len(self._gathering),
            "overlay_peers": len(self._casts) + len(self._queries),
            "overlay_events": len(self._events),
        }

    def statistics(self) -> Statistics:
        """A snapshot."""
        return Statistics(
            serving=self._discovery.serving,
            members=len(self._members),
            neighbours=len(self._members.neighbours),
            passed_on=self._passed_on,
            casts_sent=self._casts_sent,
            dropped=dict(self._dropped),
            broadcasts=self._broadcasts.statistics(),
            parts=self._parts.statistics(),
            pulses=self.pulses.statistics(),
            records=self._members.statistics(),
        )

    @property
    def neighbours(self) -> tuple[AdnlId, ...]:
        """Who is told what comes."""
        return self._members.neighbours

    @property
    def members(self) -> list[AdnlId]:
        """Everybody who has answered, longest known first."""
        return self._members.members

    # --- messages ---

    def _drop(self, reason: Dropped) -> None:
        self._dropped[reason] += 1

    def _take_broadcast(self, now: float, peer: AdnlId, broadcast: OverlayBroadcast) -> None:
        if not self._discovery.serving:
            self._drop(Dropped.CLIENT)
            return
        arrived = self._broadcasts.take(now, peer, broadcast)
        if arrived is not None:
            self._events.append(arrived)

    def _take_part(
        self, now: float, peer: AdnlId, part: OverlayBroadcastFec | OverlayBroadcastFecShort
    ) -> None:
        if not self._discovery.serving:
            self._drop(Dropped.CLIENT)
            return
        if isinstance(part, OverlayBroadcastFec):
            arrived = self._parts.take(now, peer, part)
            if arrived is not None:
                self._events.append(arrived)
        else:
            self._parts.take_short(now, peer, part)
        self._send_parts()

    def _broadcast_parts(self, now: float, data: bytes) -> int:
        neighbours = len(self._members.neighbours)
        begun = self._parts.start(now, self._identity, data) if neighbours else None
        return neighbours if begun is not None else 0

    def _send_parts(self) -> None:
        for output in self._parts.drain():
            if not isinstance(output, Part):
                self._sender.send(output.peer, self._envelope.seal_message(output.message))
                continue
            for peer in self._members.draw(self._settings.fanout, output.bearer):
                message = self._parts.form(peer, output)
                if message is not None:
                    self._sender.send(peer, self._envelope.seal_message(message))

    def _take_cast(self, now: float, peer: AdnlId, body: bytes) -> None:
        if not self._casts.take(now, peer):
            self._drop(Dropped.RATIONED)
            return
        try:
            value = codec.unpack(body, MAX_CAST)
            pulses = pulse.read_cast(value)
        except CodecError:
            self._drop(Dropped.MALFORMED)
            return
        match value:
            case _ if pulses is not None:
                self._take_pulses(now, peer, pulses)
            case (int(), *_):
                self._events.append(Cast(peer, body))
            case _:
                self._drop(Dropped.MALFORMED)

    def _take_pulses(self, now: float, peer: AdnlId, pulses: Sequence[Pulse]) -> None:
        new = self.pulses.take(now, peer, pulses)
        for one in new:
            self._gather(now, one)
        if new:
            self._events.append(Pulses(tuple(new)))

    def _gather(self, now: float, one: Pulse) -> None:
        if self._gathering.add(now, one):
            self._send_gathered()

    def _send_gathered(self) -> None:
        self._casts_sent += 1
        body = pulse.pack_cast(self._gathering.take())
        self._tell(self.seal_cast(body), self._settings.fanout)

    def _tell(self, payload: bytes, most: int, but: AdnlId | None = None) -> int:
        drawn = self._members.draw(most, but)
        for peer in drawn:
            self._sender.send(peer, payload)
        return len(drawn)

    # --- queries ---

    def _answer_call(self, now: float, peer: AdnlId, body: bytes) -> bytes | None:
        reply = self._calls.call(now, peer, body) if self._calls is not None else None
        return None if reply is None else tl.pack(TussahReply(reply))

    def _answer_peers(self, now: float, peer: AdnlId, nodes: OverlayNodes) -> bytes | None:
        if not self._queries.take(now, peer):
            self._drop(Dropped.RATIONED)
            return None
        return tl.pack(self._discovery.exchanged(now, peer, nodes.nodes))

    def _answer_newer(self, now: float, peer: AdnlId, nodes: OverlayNodesV2) -> bytes | None:
        """The second version of a record signs the same where its flags are 0: ours all do."""
        if not self._queries.take(now, peer):
            self._drop(Dropped.RATIONED)
            return None
        older = [
            OverlayNode(node.id, node.overlay, node.version, node.signature)
            for node in nodes.nodes
            if node.flags == 0
        ]
        answer = self._discovery.exchanged(now, peer, older)
        return tl.pack(OverlayNodesV2(tuple(_newer(node) for node in answer.nodes)))


def _newer(node: OverlayNode) -> OverlayNodeV2:
    certificate = OverlayEmptyMemberCertificate()
    return OverlayNodeV2(node.id, node.overlay, 0, node.version, node.signature, certificate)
