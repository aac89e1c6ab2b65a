"""Which way a payload takes to a peer: an open link, ADNL over UDP, RLDP2 for what is longer.

`Sending` is the `Sender` of a node's upper cores, and speaks to them as `Handler`s. An open link
comes first, since it costs nothing new; then UDP, if the peer has an address there and this node a
socket; then a link, which is asked for by `Reach`. Over a link all goes whole.

Its owner tells it the time by `at` before anything else, runs the procedures that wait in `query`,
and drains it until it has nothing more to say.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from p2p.adnl import events as from_adnl
from p2p.adnl.address import to_endpoint
from p2p.adnl.clocks import ClockOffset
from p2p.adnl.core import AdnlCore, Seen
from p2p.core import Event, Mailbox, Send
from p2p.errors import (
    AdnlError,
    AnswerTooBig,
    Closed,
    LocalError,
    NoCapacity,
    Timeout,
    TussahError,
    Unreachable,
)
from p2p.identity import AdnlId, short_id
from p2p.rldp import events as from_rldp
from p2p.rldp.core import RldpCore
from p2p.sender import MAX_ANSWER, MAX_DATAGRAM_PAYLOAD, MAX_QUESTION, Handler
from p2p.timers import Timers, soonest
from p2p.ton import (
    AdnlAddress,
    AdnlAddressList,
    Rldp2Complete,
    Rldp2Confirm,
    Rldp2MessagePart,
)
from p2p.wire import Endpoint, Kind, Link, Message

QUERIES_PENDING: Final = 1_024
"""queries of a node under way: a dozen lookups, and the calls of a directory epoch."""

PARKED: Final = 16
"""payloads to one peer that wait for a link: some adverts and a call."""

PARKED_PEERS: Final = 256
"""peers whose link is waited for."""

FIRST: Final = 1 << 62
"""Number above which ours begin: those of the other queries of a link are told apart by it."""

NOBODY: Final = 0
"""Number of what no query waits for: messages, and what comes of a query that was given up."""

PREFIX: Final = 4
"""bytes of a TL constructor's id: by them a payload finds its handler."""

Tap: TypeAlias = Callable[[AdnlId, bool, bytes], None]
"""Shown every payload that travels over UDP: the peer, whether it was sent, the payload."""


@dataclass(frozen=True, slots=True)
class Reach:
    """A way to this peer is wanted: `link_up`, `learn` or `unreachable` answers."""

    peer: AdnlId


@dataclass(frozen=True, slots=True)
class Write:
    """Send this over a link."""

    link: Link
    message: Message


Output: TypeAlias = Send | Reach | Write | Event


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingStatistics:
    """A snapshot; the counts run since the start."""

    over_links: int
    """payloads sent over links, answers among them"""
    over_udp: int
    """payloads sent in ADNL packets"""
    over_rldp: int
    """payloads sent by RLDP2"""
    nowhere: int
    """payloads that no way led to, or for which there was no room"""
    unclaimed: int
    """payloads of peers that no core here reads"""
    silent: int
    """queries of peers that got no answer"""


@dataclass(slots=True)
class _Pending:
    """A query of ours: its box gets an outcome, once."""

    peer: AdnlId
    max_answer: int
    until: float
    shown: bool = False
    """Over UDP rather than over a link, which does not tell where our socket is."""
    box: "Mailbox[bytes | TussahError]" = field(default_factory=Mailbox)
    link: Link | None = None
    """Over which it went, if over one."""
    in_adnl: from_adnl.Ticket | None = None
    in_rldp: from_rldp.Ticket | None = None


@final
class Sending:
    """See the module."""

    def __init__(
        self, local: AdnlId, adnl: AdnlCore, rldp: RldpCore, *, udp: bool, tap: Tap | None = None
    ) -> None:
        self._local = local
        self._adnl = adnl
        self._rldp = rldp
        self._udp = udp
        self._tap = tap

        self._now = 0.0
        self._handlers: dict[bytes, Handler] = {}
        self._links: dict[AdnlId, list[Link]] = {}
        self._pending: dict[int, _Pending] = {}
        self._numbers = FIRST
        self._adnl_tickets: dict[from_adnl.Ticket, int] = {}
        self._rldp_tickets: dict[from_rldp.Ticket, int] = {}
        self._timers: Timers[int] = Timers()
        self._parked: dict[AdnlId, list[tuple[int, bytes]]] = {}
        self._outputs: list[Output] = []
        self._over_links = self._over_udp = self._over_rldp = 0
        self._nowhere = self._unclaimed = self._silent = 0

    def at(self, now: float) -> None:
        """It is now."""
        self._now = now

    def subscribe(self, handler: Handler, *prefixes: bytes) -> None:
        """Let a core be spoken to: by payloads that begin with one of these ids of TL."""
        for prefix in prefixes:
            self._handlers[prefix] = handler

    def publish(self, addresses: AdnlAddressList) -> None:
        """What our packets say of where we are."""
        self._adnl.set_addresses(self._now, self._local, addresses)

    def claims(self, payload: bytes) -> bool:
        """Whether a core here reads payloads that begin so."""
        return payload[:PREFIX] in self._handlers

    # --- Sender ---

    def send(self, peer: AdnlId, payload: bytes) -> None:
        """See `Sender`."""
        _check(payload)
        if (link := self._link(peer)) is not None:
            self._write(link, Kind.MESSAGE, 0, payload)
        elif not self._reaches(peer):
            self._park(peer, NOBODY, payload)
        else:
            try:
                self._send_over_udp(peer, payload)
            except NoCapacity:
                self._nowhere += 1

    async def query(
        self,
        peer: AdnlId,
        payload: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 (of the protocol: how long a core waits in its own time)
        max_answer: int = MAX_DATAGRAM_PAYLOAD,
        shown: bool = False,
    ) -> bytes:
        """See `Sender`. If it is to be `shown` where we are, over UDP though there be a link."""
        _check(payload)
        pending = _Pending(peer, max_answer, self._now + timeout, shown)
        return await self._outcome(pending, lambda number: self._ask(number, pending, payload))

    async def query_at(
        self,
        peer: AdnlId,
        address: AdnlAddress,
        payload: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 (of the protocol: how long a core waits in its own time)
    ) -> bytes:
        """See `UdpSender`."""
        endpoint = to_endpoint(address)
        if not self._udp or endpoint is None:
            raise Unreachable("no datagram leads there")
        pending = _Pending(peer, MAX_DATAGRAM_PAYLOAD, self._now + timeout)
        return await self._outcome(
            pending, lambda number: self._ask_over_udp(number, pending, payload, at=endpoint)
        )

    async def _outcome(self, pending: _Pending, ask: Callable[[int], None]) -> bytes:
        """What a query comes to that `ask` puts under a number."""
        if len(self._pending) >= QUERIES_PENDING:
            raise NoCapacity("too many queries are under way")
        self._numbers += 1
        number = self._numbers
        self._pending[number] = pending
        self._timers.set(number, pending.until)
        try:
            ask(number)
            outcome = await pending.box.get()
        finally:
            self._close(number)
        if not isinstance(outcome, TussahError):
            return outcome
        try:
            raise outcome
        finally:
            del outcome  # its traceback holds this frame, which holds it: a ring

    def learn(self, public: bytes, addresses: AdnlAddressList) -> None:
        """See `Sender`. What waits for a way to this peer leaves."""
        self._adnl.add_peer(self._now, public, addresses)
        if self._reaches(peer := short_id(public)):
            self._unpark(peer)

    # --- of UDP alone ---

    def send_there(self, public: bytes, endpoint: Endpoint, payload: bytes) -> None:
        """A datagram to the node of this key at this very place, or nothing if none can leave."""
        if self._udp:
            self._over_udp += 1
            self._show(short_id(public), True, payload)
            with suppress(NoCapacity, AdnlError):
                self._adnl.send_there(self._now, self._local, public, endpoint, payload)

    def seen(self, peer: AdnlId) -> Seen | None:
        """The key of a peer, and where its datagrams have come from of late."""
        return self._adnl.seen(self._now, self._local, peer)

    def clock(self) -> ClockOffset | None:
        """How far our clock is from those of peers; None if too few have told of late."""
        return self._adnl.clock(self._now)

    def spoken_to(self, peer: AdnlId, seconds: float) -> bool:
        """Whether a datagram has left for a peer within so many seconds."""
        return self._adnl.spoken_to(self._now, self._local, peer, seconds)

    # --- links ---

    def link_up(self, link: Link) -> None:
        """There is a link to this peer: what waits for one leaves over it."""
        self._links.setdefault(link.peer, []).append(link)
        self._unpark(link.peer)

    def link_down(self, link: Link) -> None:
        """A link is gone, and with it what was asked over it."""
        self._links[link.peer].remove(link)
        if not self._links[link.peer]:
            del self._links[link.peer]
        for number in [n for n, pending in self._pending.items() if pending.link == link]:
            self._settle(number, Closed("the link was closed"))

    def unreachable(self, peer: AdnlId) -> None:
        """What `Reach` wanted cannot be had."""
        for number, _ in self._parked.pop(peer, []):
            self._nowhere += 1
            self._settle(number, Unreachable("no way leads to the peer"))

    def linked(self, link: Link, message: Message) -> None:
        """A MESSAGE, a QUERY or an ANSWER with a number of ours came over a link."""
        match message.kind:
            case Kind.MESSAGE:
                self._heard(link.peer, message.payload)
            case Kind.QUERY:
                answer = self._asked(link.peer, message.payload, MAX_ANSWER)
                if answer is not None:
                    self._write(link, Kind.ANSWER, message.number, answer)
            case _:
                pending = self._pending.get(message.number)
                if pending is not None and pending.link == link:
                    self._answered(message.number, message.payload)

    # --- the core's contract ---

    def receive(self, now: float, source: object, datagram: bytes) -> None:
        """Take a datagram of UDP."""
        self._adnl.receive(now, source, datagram)

    def handle_timer(self, now: float) -> None:
        """Give up on what is due."""
        for number in self._timers.take(now):
            self._settle(number, Timeout("no answer in time"))
        self._adnl.handle_timer(now)
        self._rldp.handle_timer(now)

    def next_deadline(self) -> float | None:
        """When something is due."""
        return soonest(self._timers.next(), self._adnl.next_deadline(), self._rldp.next_deadline())

    def drain(self) -> list[Output]:
        """What leaves, and what the stack is told; handlers are called from here."""
        while self._turn():
            pass
        outputs, self._outputs = self._outputs, []
        return outputs

    def _turn(self) -> bool:
        """Move what is said below to where it goes; whether there was anything."""
        transfers = self._rldp.drain()
        for output in transfers:
            self._rldp_said(output)
        sends, events = self._adnl.drain()
        self._outputs += sends
        for event in events:
            self._adnl_said(event)
        return bool(transfers or sends or events)

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            **{f"adnl_{name}": size for name, size in self._adnl.sizes().items()},
            **self._rldp.sizes(),
            "sending_pending": len(self._pending),
            "sending_tickets": len(self._adnl_tickets) + len(self._rldp_tickets),
            "sending_parked": sum(map(len, self._parked.values())),
        }

    def statistics(self) -> SendingStatistics:
        """A snapshot."""
        return SendingStatistics(
            over_links=self._over_links,
            over_udp=self._over_udp,
            over_rldp=self._over_rldp,
            nowhere=self._nowhere,
            unclaimed=self._unclaimed,
            silent=self._silent,
        )

    def _send_over_udp(self, peer: AdnlId, payload: bytes) -> None:
        self._show(peer, True, payload)
        if len(payload) <= MAX_DATAGRAM_PAYLOAD:
            self._adnl.send(self._now, self._local, peer, payload)
            self._over_udp += 1
        else:
            self._rldp.send(self._now, peer, payload)
            self._over_rldp += 1

    # --- asking ---

    def _ask(self, number: int, pending: _Pending, payload: bytes) -> None:
        peer, longest = pending.peer, max(len(payload), pending.max_answer)
        patience = pending.until - self._now
        link = None if pending.shown and self._reaches(peer) else self._link(peer)
        if link is not None:
            pending.link = link
            self._write(link, Kind.QUERY, number, payload)
        elif not self._reaches(peer):
            self._park(peer, number, payload)
        elif longest <= MAX_DATAGRAM_PAYLOAD:
            self._ask_over_udp(number, pending, payload)
        else:
            self._over_rldp += 1
            self._show(peer, True, payload)
            transfer = self._rldp.query(
                self._now, peer, payload, timeout=patience, max_answer=pending.max_answer
            )
            self._rldp_tickets[transfer] = number
            pending.in_rldp = transfer

    def _ask_over_udp(
        self, number: int, pending: _Pending, payload: bytes, *, at: Endpoint | None = None
    ) -> None:
        self._over_udp += 1
        self._show(pending.peer, True, payload)
        patience = pending.until - self._now
        ticket = self._adnl.query(self._now, self._local, pending.peer, payload, patience, at=at)
        self._adnl_tickets[ticket] = number
        pending.in_adnl = ticket

    def _answered(self, number: int, answer: bytes) -> None:
        pending = self._pending.get(number)
        if pending is None:
            return
        fits = len(answer) <= pending.max_answer
        self._settle(number, answer if fits else AnswerTooBig("more than was asked for"))

    def _settle(self, number: int, outcome: bytes | TussahError) -> None:
        """The first outcome counts: a late answer finds nobody waiting."""
        pending = self._pending.get(number)
        if pending is not None and not len(pending.box):
            pending.box.put(outcome)

    def _close(self, number: int) -> None:
        """Nobody waits for this answer any longer: nothing below does."""
        pending = self._pending.pop(number)
        self._timers.clear(number)
        waiting = self._parked.get(pending.peer, [])
        waiting[:] = [parked for parked in waiting if parked[0] != number]
        if pending.in_adnl is not None and self._adnl_tickets.pop(pending.in_adnl, NOBODY):
            self._adnl.forget(self._now, pending.in_adnl)
        if pending.in_rldp is not None and self._rldp_tickets.pop(pending.in_rldp, NOBODY):
            self._rldp.cancel(self._now, pending.in_rldp)

    # --- being asked ---

    def _heard(self, peer: AdnlId, payload: bytes) -> None:
        handler = self._handlers.get(payload[:PREFIX])
        if handler is None:
            self._unclaimed += 1
        else:
            handler.message(self._now, peer, payload)

    def _asked(self, peer: AdnlId, payload: bytes, most: int) -> bytes | None:
        """The answer, if there is one of at most so many bytes."""
        handler = self._handlers.get(payload[:PREFIX])
        if handler is None:
            self._unclaimed += 1
            return None
        answer = handler.query(self._now, peer, payload)
        if answer is not None and len(answer) <= most:
            return answer
        self._silent += 1
        return None

    def _adnl_said(self, event: Event) -> None:
        match event:
            case from_adnl.Message(_, peer, payload) if payload[:PREFIX] in _RLDP:
                self._rldp.receive(self._now, peer, payload)
            case from_adnl.Message(_, peer, payload):
                self._show(peer, False, payload)
                self._heard(peer, payload)
            case from_adnl.Query(_, peer, payload, token):
                self._show(peer, False, payload)
                answer = self._asked(peer, payload, MAX_DATAGRAM_PAYLOAD)
                if answer is not None:
                    self._show(peer, True, answer)
                    self._adnl.answer(self._now, token, answer)
            case from_adnl.Answered(ticket, payload):
                self._answered(self._adnl_tickets.pop(ticket, NOBODY), payload)
            case from_adnl.Failed(ticket, error):
                self._settle(self._adnl_tickets.pop(ticket, NOBODY), error)
            case _:
                self._outputs.append(event)

    def _rldp_said(self, event: from_rldp.Output) -> None:
        match event:
            case from_rldp.Payload(peer, payload):
                with suppress(NoCapacity):  # lost, as a datagram may be
                    self._adnl.send(self._now, self._local, peer, payload)
            case from_rldp.Message(peer, data):
                self._show(peer, False, data)
                self._heard(peer, data)
            case from_rldp.Query(peer, data, token):
                self._show(peer, False, data)
                answer = self._asked(peer, data, MAX_ANSWER)
                if answer is not None:
                    self._show(peer, True, answer)
                    self._rldp.answer(self._now, token, answer)
            case from_rldp.Answered(ticket, data):
                self._answered(self._rldp_tickets.pop(ticket, NOBODY), data)
            case from_rldp.Failed(ticket, error):
                self._settle(self._rldp_tickets.pop(ticket, NOBODY), error)

    # --- ways ---

    def _link(self, peer: AdnlId) -> Link | None:
        links = self._links.get(peer)
        return links[-1] if links else None

    def _reaches(self, peer: AdnlId) -> bool:
        return self._udp and self._adnl.reaches(self._now, self._local, peer)

    def _write(self, link: Link, kind: Kind, number: int, payload: bytes) -> None:
        self._over_links += 1
        self._outputs.append(Write(link, Message(kind, number, payload)))

    def _park(self, peer: AdnlId, number: int, payload: bytes) -> None:
        waiting = self._parked.get(peer)
        if waiting is None and len(self._parked) < PARKED_PEERS:
            waiting = self._parked[peer] = []
            self._outputs.append(Reach(peer))
        if waiting is not None and len(waiting) < PARKED:
            waiting.append((number, payload))
        else:
            self._nowhere += 1
            self._settle(number, Unreachable("too much waits for a link"))

    def _unpark(self, peer: AdnlId) -> None:
        for number, payload in self._parked.pop(peer, []):
            if number == NOBODY:
                self.send(peer, payload)
            elif (pending := self._pending.get(number)) is not None:
                try:
                    self._ask(number, pending, payload)
                except NoCapacity as error:
                    self._settle(number, error)

    def _show(self, peer: AdnlId, sent: bool, payload: bytes) -> None:
        if self._tap is not None:
            self._tap(peer, sent, payload)


def _check(payload: bytes) -> None:
    if len(payload) > MAX_QUESTION:
        raise LocalError(f"a payload may have {MAX_QUESTION} bytes")


_RLDP: Final = frozenset(part.tl.id for part in (Rldp2MessagePart, Rldp2Confirm, Rldp2Complete))
