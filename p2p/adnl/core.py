"""ADNL over UDP for one socket: messages and queries between identities, named by id alone.

`AdnlCore` follows `p2p/core.py`; a `Source` is an `Endpoint`. A datagram is looked at in the order
of what the look costs: its size, whether it names a key or channel of ours, how many its source
sent, its digest, its contents, its signature. Whatever fails is dropped and counted by its reason.

What a peer sends may be lost, repeated or late, as UDP allows: messages are neither acknowledged
nor sent again, except that one is taken at most once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from p2p.adnl import payloads
from p2p.adnl.address import MAX_ENDPOINTS, address_list, endpoints
from p2p.adnl.clocks import AT_ONCE, ClockOffset, Clocks
from p2p.adnl.drops import Drop
from p2p.adnl.events import (
    Answered,
    Failed,
    Message,
    PeerReset,
    PeerSeen,
    Query,
    Ticket,
    Token,
)
from p2p.adnl.gate import Gate
from p2p.adnl.incoming import Arrival, Incoming
from p2p.adnl.limits import Limits
from p2p.adnl.outgoing import NOP, Outgoing, Published
from p2p.adnl.peer import Pair, Peer
from p2p.adnl.queries import Queries
from p2p.adnl.table import Contact, Table
from p2p.adnl.whereabouts import IDLE
from p2p.core import Event, Send, Source
from p2p.defaults import CLOCK_SLACK
from p2p.entropy import Entropy
from p2p.errors import (
    AdnlError,
    Closed,
    LocalError,
    NoCapacity,
    RemoteError,
    Timeout,
    TlError,
    Unreachable,
)
from p2p.identity import AdnlId, Identity, short_id
from p2p.sender import MAX_DATAGRAM_PAYLOAD
from p2p.tl import pack, parse, parse_any
from p2p.ton import (
    AdnlAddressList,
    AdnlMessage,
    AdnlMessageAnswer,
    AdnlMessageConfirmChannel,
    AdnlMessageCreateChannel,
    AdnlMessageCustom,
    AdnlMessageNop,
    AdnlMessagePart,
    AdnlMessageQuery,
    AdnlMessageReinit,
    AdnlPing,
    AdnlPong,
)
from p2p.wire import Endpoint

MAX_ADDRESSES: Final = 128
"""bytes of an address list in a packet: TON drops packets with a longer one."""


class Seen(NamedTuple):
    """A peer that has spoken to us of late: its key, and where from."""

    public: bytes
    endpoint: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class AdnlStatistics:
    """A snapshot of the counters. No field can hold a peer or an address."""

    received: int
    """datagrams that came"""
    accepted: int
    """of them, packets whose messages were taken"""
    sent_direct: int
    sent_in_channels: int
    asked: int
    """queries of ours"""
    answered: int
    """of them, with an answer"""
    peers: int
    drops: Mapping[str, int]
    """what was dropped, by `Drop`"""


@final
class AdnlCore:
    """See the module. `started_at` must be greater than at any earlier start of these identities.

    Commands take a `local` id, which is one of the identities. A payload of more than
    `MAX_DATAGRAM_PAYLOAD` bytes is a `LocalError`: it takes RLDP2.
    """

    def __init__(
        self,
        identities: Iterable[Identity],
        entropy: Entropy,
        started_at: int,
        *,
        limits: Limits | None = None,
    ) -> None:
        self._now = 0.0
        self._identities = {identity.id: identity for identity in identities}
        self._entropy = entropy
        self._started_at = started_at
        self._clocks = Clocks()
        self._limits = limits or Limits()
        self._table = Table(self._limits)
        unlisted = _publish(address_list([], started_at))
        self._published = dict.fromkeys(self._identities, unlisted)
        self._out = Outgoing(self._table, self._limits, entropy, started_at, self._published)
        self._queries = Queries(self._table, self._limits, entropy)
        self._incoming = Incoming(self._identities, self._table, Gate(self._limits), started_at)
        self._received = self._accepted = 0

    # --- commands ---

    def send(self, now: float, local: AdnlId, peer: AdnlId, payload: bytes) -> None:
        """One message to a peer. It waits 10 s for an address (`NoAddress`) before it is lost.

        Raises `NoCapacity` if so many peers are in use that none can be added.
        """
        _check(payload)
        to = self._reach(now, local, peer)
        self._out.say(now, to, payloads.custom(payload))

    def query(
        self,
        now: float,
        local: AdnlId,
        peer: AdnlId,
        payload: bytes,
        timeout: float,
        *,
        at: Endpoint | None = None,
    ) -> Ticket:
        """Ask a peer once: `Answered` or `Failed` of the ticket follows within `timeout` seconds.

        With `at` the query goes there at once and nowhere else, if the peer's key is known: who
        answers was reached there, wherever its packets come from. Raises `NoCapacity` while too
        many queries are outstanding.
        """
        _check(payload)
        if self._queries.full:
            raise NoCapacity("too many queries are outstanding")
        to = self._reach(now, local, peer)
        ticket = self._queries.ask(now, to, timeout)
        message = payloads.query(ticket, payload)
        if at is None:
            self._out.say(now, to, message)
        else:
            self._out.say_at(now, to, at, message)
        return ticket

    def forget(self, now: float, ticket: Ticket) -> None:
        """Nobody waits for this answer any longer; nothing more is said of it."""
        self._enter(now)
        self._queries.close(ticket)

    def answer(self, now: float, token: Token, payload: bytes | None) -> None:
        """Answer a `Query`, or with None leave it unanswered. Too late is counted, no error."""
        self._enter(now)
        if payload is not None:
            _check(payload)
        peer = self._queries.asker(now, token)
        if peer is None:
            self._out.drops[Drop.ANSWER_LATE] += 1
        elif payload is not None:
            self._out.say(now, peer, payloads.answer(token.query_id, payload))

    def add_peer(
        self, now: float, public: bytes, addresses: AdnlAddressList | Sequence[Endpoint]
    ) -> None:
        """A peer's Ed25519 key and where it may be; what waits for it leaves."""
        self._enter(now)
        if isinstance(addresses, AdnlAddressList):
            addresses = endpoints(addresses, now)
        peer_id = short_id(public)
        self._table.tell(peer_id, Contact(public, tuple(addresses)[:MAX_ENDPOINTS]))
        for local in self._identities:
            peer = self._table.find(Pair(local, peer_id))
            if peer is not None:
                peer.where.try_anew()
                self._out.flush(now, peer)

    def reaches(self, now: float, local: AdnlId, peer: AdnlId) -> bool:
        """Whether key and address of a peer are known; else messages wait, and `NoAddress` is told.

        Says nothing of whether it is still there.
        """
        contact = self._table.contact(peer)
        told = contact.endpoints if contact is not None else ()
        met = self._table.find(Pair(local, peer))
        if met is None or (met.public is None and contact is None):
            return bool(told)
        return met.where.known(now, told)

    def send_there(
        self, now: float, local: AdnlId, public: bytes, endpoint: Endpoint, payload: bytes
    ) -> None:
        """One short message to the node of this key at this very place, now or not at all.

        What is known of where the peer is stays so. Raises `NoCapacity` as `send` does, and
        `AdnlError` for a key that is none.
        """
        _check(payload)
        to = self._reach(now, local, short_id(public))
        if to.public is None:
            to.identify(public)
        self._out.reply(now, to, endpoint, pack(AdnlMessageCustom(payload)))

    def seen(self, now: float, local: AdnlId, peer: AdnlId) -> Seen | None:
        """The key of a peer, and where it spoke to us from within the last two minutes."""
        met = self._table.find(Pair(local, peer))
        if met is None or met.public is None or met.where.endpoint is None:
            return None
        is_recent = met.where.heard is not None and now - met.where.heard < IDLE
        return Seen(met.public, met.where.endpoint) if is_recent else None

    def spoken_to(self, now: float, local: AdnlId, peer: AdnlId, seconds: float) -> bool:
        """Whether a packet has left for a peer in so many seconds before now."""
        met = self._table.find(Pair(local, peer))
        return met is not None and now - met.spoken <= seconds

    def set_addresses(self, now: float, local: AdnlId, addresses: AdnlAddressList) -> None:
        """What our packets say of where we are; an empty list means: whence the packet comes.

        Raises `LocalError` for a list longer than TON takes.
        """
        self._enter(now)
        published = _publish(addresses)
        if len(published.packed) > MAX_ADDRESSES:
            raise LocalError("an address list may have 128 bytes")
        self._published[self._identity(local).id] = published

    # --- the contract of a core ---

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Take a datagram from an `Endpoint`."""
        self._enter(now)
        if not isinstance(source, Endpoint):
            raise TypeError("ADNL hears from endpoints only")
        self._received += 1
        try:
            arrival = self._incoming.take(now, source, datagram)
        except (AdnlError, TlError) as error:
            self._drop(error)
            return
        self._arrive(now, source, arrival)

    def handle_timer(self, now: float) -> None:
        """Give up queries, send what had to wait, say `nop` where something is owed, tidy up."""
        self._enter(now)
        for ticket in self._queries.late(now):
            self._fail(ticket, Timeout("no answer in time"))
        for pair in self._table.alarms.take(now):
            peer = self._table.find(pair)
            if peer is not None:
                self._out.alarm(now, peer)
        self._table.expire(now)

    def next_deadline(self) -> float | None:
        """The next of these."""
        soonest = self._table.look_at
        for when in (self._queries.next_late(), self._table.alarms.next()):
            if when is not None and (soonest is None or when < soonest):
                soonest = when
        return soonest

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Datagrams to send and events, in order."""
        sends, events = self._out.sends, self._out.events
        self._out.sends, self._out.events = [], []
        return sends, events

    def sizes(self) -> dict[str, int]:
        """Lengths of tables and queues."""
        return {
            **self._table.sizes(),
            **self._incoming.sizes(),
            **self._queries.sizes(),
            "clocks": len(self._clocks),
            "queued": self._out.queued,
            "sends": len(self._out.sends),
            "events": len(self._out.events),
        }

    def clock(self, now: float) -> ClockOffset | None:
        """How far our clock is from those of peers; None if too few have told of late."""
        return self._clocks.offset(now)

    def statistics(self) -> AdnlStatistics:
        """A snapshot of the counters."""
        return AdnlStatistics(
            received=self._received,
            accepted=self._accepted,
            sent_direct=self._out.direct,
            sent_in_channels=self._out.in_channels,
            asked=self._queries.asked,
            answered=self._queries.answered,
            peers=len(self._table),
            drops=dict(self._out.drops),
        )

    # --- what peers say ---

    def _arrive(self, now: float, source: Endpoint, arrival: Arrival) -> None:
        peer = arrival.peer
        if arrival.anew:
            self._reset(peer)
        if arrival.drop is not None:
            self._out.drops[arrival.drop] += 1
            if arrival.drop in (Drop.BEFORE_OUR_RESTART, Drop.AHEAD):  # so it learns our time
                self._out.reply(now, peer, source, NOP)
            return
        self._accepted += 1
        if arrival.moved and peer.public is not None:
            self._out.events.append(PeerSeen(peer.local.id, peer.id, peer.public, source))
        self._deliver_all(now, peer, arrival.messages)

    def _deliver_all(self, now: float, peer: Peer, messages: Iterable[AdnlMessage]) -> None:
        """In the order of the packet: an answer may come with the channel it comes by."""
        for message in messages:
            try:
                self._deliver(now, peer, message)
            except (AdnlError, TlError) as error:
                self._drop(error)
        if peer.queue:
            self._out.flush(now, peer)

    def _deliver(self, now: float, peer: Peer, message: AdnlMessage) -> None:
        match message:
            case AdnlMessageQuery(query_id, query):
                self._out.owe(now, peer)
                self._take_query(now, peer, query_id, query)
            case AdnlMessageAnswer(query_id, answer):
                self._out.owe(now, peer)
                self._take_answer(peer, Ticket(query_id), answer)
            case AdnlMessageCustom(data):
                self._out.owe(now, peer)
                self._out.events.append(Message(peer.local.id, peer.id, data))
            case AdnlMessagePart():
                self._out.owe(now, peer)
                self._take_part(now, peer, message)
            case AdnlMessageCreateChannel():
                self._hear_date(now, peer, message.date)
                peer.handshake.offered(now, self._entropy, message)
                self._table.index(peer)
            case AdnlMessageConfirmChannel():
                self._hear_date(now, peer, message.date)
                peer.handshake.confirmed(message)
                self._table.index(peer)
            case AdnlMessageReinit(date):
                self._take_start(now, peer, date)
            case AdnlMessageNop():
                pass

    def _hear_date(self, now: float, peer: Peer, date: int) -> None:
        """The date of a key tells the time if it comes first, and in answer to us."""
        if peer.handshake.channel is None and now - peer.spoken < AT_ONCE:
            self._clocks.hear(now, peer.id, date)

    def _take_query(self, now: float, peer: Peer, query_id: bytes, query: bytes) -> None:
        if query.startswith(AdnlPing.tl.id):
            pong = pack(AdnlPong(parse(AdnlPing, query).value))
            self._out.say(now, peer, payloads.answer(query_id, pong))
            return
        token = self._queries.open(now, peer, query_id)
        self._out.events.append(Query(peer.local.id, peer.id, query, token))

    def _take_answer(self, peer: Peer, ticket: Ticket, answer: bytes) -> None:
        self._queries.settle(peer, ticket)
        self._out.events.append(Answered(ticket, answer))

    def _take_part(self, now: float, peer: Peer, part: AdnlMessagePart) -> None:
        whole = peer.assembly.add(part)
        if whole is None:
            return
        message = parse_any(whole)
        if not isinstance(message, AdnlMessage) or isinstance(message, AdnlMessagePart):
            raise AdnlError(Drop.PART)
        self._deliver(now, peer, message)

    def _take_start(self, now: float, peer: Peer, date: int) -> None:
        if date > now + CLOCK_SLACK:
            raise AdnlError(Drop.AHEAD)
        if peer.started(date):
            self._reset(peer)

    # --- inside ---

    def _enter(self, now: float) -> None:
        if now < self._now:
            raise ValueError("time does not run backwards")
        self._now = now

    def _reach(self, now: float, local: AdnlId, peer: AdnlId) -> Peer:
        """The peer that something of ours is for."""
        self._enter(now)
        own = self._identity(local)
        return self._table.find(Pair(local, peer)) or self._table.add(now, own, peer, invited=True)

    def _identity(self, local: AdnlId) -> Identity:
        own = self._identities.get(local)
        if own is None:
            raise LocalError("not an identity of this node")
        return own

    def _reset(self, peer: Peer) -> None:
        """The peer started anew: it knows no channel, and none of our queries."""
        self._table.index(peer)
        self._out.events.append(PeerReset(peer.local.id, peer.id))
        for ticket in list(peer.pending):
            self._fail(ticket, Closed("the peer has restarted"))

    def _fail(self, ticket: Ticket, error: RemoteError | Unreachable) -> None:
        self._queries.close(ticket)
        self._out.events.append(Failed(ticket, error))

    def _drop(self, error: AdnlError | TlError) -> None:
        reason = error.reason if isinstance(error, AdnlError) else Drop.MALFORMED
        self._out.drops[reason] += 1


def _check(payload: bytes) -> None:
    if len(payload) > MAX_DATAGRAM_PAYLOAD:
        raise LocalError(f"{len(payload)} bytes are too many for ADNL: they take RLDP2")


def _publish(addresses: AdnlAddressList) -> Published:
    return Published(addresses.version, pack(addresses, boxed=False))
