"""The message seam as a core: the upper cores of a node with nothing below them.

A `Seat` is the `Sender` of its cores and calls them as `Handler`s, with the procedures, the timers
and the patience that a stack would give them. What it sends is a payload behind a head that is as
long as what ADNL puts around one; no packet, channel, cipher or part of RLDP2 is made. So what
depends on these is out of sight, and 10,000 nodes are in reach, in either world.

What a peer's address is good for is kept, as in ADNL: a node speaks to whom it has heard from the
way that it heard, else to where it has learnt that the peer is. An answer goes back where its query
came from. What is for somebody else is dropped: addresses that a node claims and does not have
lead nowhere.
"""

import math
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar, final

from p2p.adnl.address import to_endpoint
from p2p.core import Deadlines, Event, Mailbox, Procedures, Send, Source
from p2p.entropy import Entropy
from p2p.errors import AnswerTooBig, LocalError, NoCapacity, Timeout, TussahError, Unreachable
from p2p.identity import AdnlId, Identity, short_id
from p2p.sender import MAX_DATAGRAM_PAYLOAD, Handler
from p2p.ton import AdnlAddress, AdnlAddressList
from p2p.wire import Endpoint

HEAD: Final = struct.Struct("<B32s32sI27x")
"""Kind, whom it is for, who it is from, the number of a query; filled up to `OVERHEAD`."""

OVERHEAD: Final = HEAD.size
"""bytes around a payload: an ADNL packet in a channel, its message and query id."""

MESSAGE, QUERY, ANSWER = range(3)

HEARD_LIFE: Final = 120.0
"""seconds a peer is where it was heard last, as in ADNL; then where it is said to be."""

QUERIES_PENDING: Final = 1_024
"""queries of a node under way, as a stack bounds them."""

T = TypeVar("T")


class Upper(Handler, Protocol):
    """A core above the seam."""

    def handle_timer(self, now: float) -> None:
        """Do what is due."""

    def next_deadline(self) -> float | None:
        """When `handle_timer` wants to be called."""


@final
class Outcome(Generic[T]):
    """What a procedure of a seat came to."""

    def __init__(self) -> None:
        self.done = False
        self.ended = 0.0
        self._value: list[T] = []
        self._error: TussahError | None = None

    def result(self) -> T:
        """What it returned. Raises what it raised, and `LocalError` while it runs."""
        if self._error is not None:
            raise self._error
        if not self._value:
            raise LocalError("the procedure has not ended")
        return self._value[0]

    async def fill(self, coroutine: Coroutine[object, None, T], clock: Callable[[], float]) -> None:
        """Run it and keep what it comes to."""
        try:
            self._value.append(await coroutine)
        except TussahError as error:
            self._error = error
        finally:
            self.done = True
            self.ended = clock()


class Hand(Protocol):
    """Who steps a seat by hand: `MessageWorld`."""

    def up(self, node: int) -> bool:
        """Whether it runs."""

    def call(self, node: int, name: str, fn: "Callable[[Seat, float], object]") -> None:
        """Command it at once."""

    def fell(self, node: int) -> None:
        """It has crashed."""


@dataclass(slots=True)
class _Acquaintance:
    said: AdnlAddressList | None = None
    """Where it is said to be."""
    there: tuple[Endpoint, ...] = ()
    """The same, to send to."""
    heard_at: Endpoint | None = None
    heard: float = -math.inf
    """When something came from it."""

    def way(self, now: float) -> Endpoint | None:
        """Where to send to it, if anything says so."""
        if self.there and self.heard + HEARD_LIFE < now:
            return self.there[0]
        return self.heard_at


@final
class Seat:
    """A `Core` of many. Commands that are given to its cores run within `do` or `begin`."""

    def __init__(
        self,
        identity: Identity,
        index: int,
        entropy: Entropy,
        addresses: AdnlAddressList,
        now: float,
    ) -> None:
        self.identity = identity
        self.index = index
        self.entropy = entropy
        self.procedures = Procedures()
        self.addresses = addresses
        """Where it says that it is; behind a NAT nobody reaches it there."""
        self.hand: Hand | None = None

        self._now = now
        self._busy = False
        self._cores: list[Upper] = []
        self._claims: dict[bytes, Upper] = {}
        self._book: dict[AdnlId, _Acquaintance] = {}
        self._waiting: dict[int, Mailbox[bytes | None]] = {}
        self._timeouts = Deadlines()
        self._queries = 0
        self._deadline: float | None = None
        self._sends: list[Send] = []
        self._stray = 0

    def attach(self, core: Upper, *prefixes: bytes) -> None:
        """Let a core be spoken to: by payloads that begin so, or, named none, by all the rest."""
        self._cores.append(core)
        for prefix in prefixes or (b"",):
            self._claims[prefix] = core
        self.call(lambda now: None)

    # --- commands ---

    def do(self, now: float, action: Callable[[float], object]) -> None:
        """Give one of the cores a command, as a stack does."""
        self._now, self._busy = now, True
        try:
            action(now)
        finally:
            self._busy = False
        self._settle()

    def begin(self, now: float, coroutine: Coroutine[object, None, T]) -> Outcome[T]:
        """Run a coroutine of one of the cores as a procedure of this node."""
        self._now = now
        outcome: Outcome[T] = Outcome()
        self.procedures.start(outcome.fill(coroutine, lambda: self._now))
        self._settle()
        return outcome

    def close(self) -> None:
        """It is over with this life of the node: nobody waits for anything any more."""
        waiting, self._waiting = self._waiting, {}
        for mailbox in waiting.values():
            mailbox.abandon()
        self.procedures.close()
        # Its cores speak through it, and it to them: a ring that nothing else would open.
        self._cores.clear()
        self._claims.clear()

    @property
    def now(self) -> float:
        """When this seat was stepped last, or is being stepped."""
        return self._now

    # --- by hand ---

    @property
    def up(self) -> bool:
        """Whether it runs in the world that steps it."""
        return self.hand is not None and self.hand.up(self.index)

    def call(self, action: Callable[[float], object]) -> None:
        """Give one of the cores a command at once."""
        if self.hand is None or self._busy:
            action(self._now)
        else:
            self.hand.call(self.index, "call", lambda seat, now: seat.do(now, action))

    def start(self, coroutine: Coroutine[object, None, T]) -> Outcome[T]:
        """Run a coroutine of one of the cores from now on."""
        outcome: Outcome[T] = Outcome()
        procedure = outcome.fill(coroutine, lambda: self._now)
        self.call(lambda now: self.procedures.start(procedure))
        return outcome

    def crash(self) -> None:
        """Be gone: nothing is received, sent or due any more."""
        if self.hand is not None and self.up:
            self.hand.fell(self.index)
        self.close()

    # --- Sender ---

    def send(self, peer: AdnlId, payload: bytes) -> None:
        """See `Sender`."""
        self._post(MESSAGE, peer, self._acquaintance(peer).way(self._now), payload, 0)

    async def query(
        self,
        peer: AdnlId,
        payload: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 (of the protocol: how long a core waits in its own time)
        max_answer: int = MAX_DATAGRAM_PAYLOAD,
    ) -> bytes:
        """See `Sender`."""
        there = self._acquaintance(peer).way(self._now)
        if there is None:
            raise Unreachable("nothing says where this peer is")
        answer = await self._ask(peer, there, payload, timeout)
        if len(answer) > max_answer:
            raise AnswerTooBig("more than was asked for")
        return answer

    async def query_at(
        self,
        peer: AdnlId,
        address: AdnlAddress,
        payload: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 (of the protocol: how long a core waits in its own time)
    ) -> bytes:
        """See `UdpSender`."""
        return await self._ask(peer, self._endpoint(peer, address), payload, timeout)

    def learn(self, public: bytes, addresses: AdnlAddressList) -> None:
        """See `Sender`."""
        known = self._acquaintance(short_id(public))
        if known.said is not addresses:
            found = (to_endpoint(address) for address in addresses.addrs)
            known.there = tuple(endpoint for endpoint in found if endpoint is not None)
            known.said = addresses

    # --- Core ---

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Take what has arrived."""
        self._now = now
        if len(datagram) < OVERHEAD or not isinstance(source, Endpoint):
            self._stray += 1
            return
        kind, dst, src, number = HEAD.unpack_from(datagram)
        if dst != self.identity.id:
            self._stray += 1
            return
        known = self._acquaintance(src)
        known.heard_at, known.heard = source, now

        self._busy = True
        try:
            self._take(now, kind, src, number, source, datagram[OVERHEAD:])
        finally:
            self._busy = False
        self._settle()

    def handle_timer(self, now: float) -> None:
        """Give up waiting for what does not come; have the cores do what is due."""
        self._now, self._busy = now, True
        self._timeouts.run(now)
        for core in self._cores:
            due = core.next_deadline()
            if due is not None and due <= now:
                core.handle_timer(now)
        self._busy = False
        self._settle()

    def next_deadline(self) -> float | None:
        """When something is due."""
        return self._deadline

    def drain(self) -> tuple[list[Send], list[Event]]:
        """What is to be sent; cores above a seam tell those who own them, not the driver."""
        sends, self._sends = self._sends, []
        return sends, []

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {
            "seat_book": len(self._book),
            "seat_waiting": len(self._waiting),
            "seat_timeouts": len(self._timeouts),
            "seat_procedures": len(self.procedures),
        }

    # --- inside ---

    def _settle(self) -> None:
        """Run the procedures, and find out when the next deadline is."""
        self.procedures.run()
        soonest = self._timeouts.next()
        for core in self._cores:
            due = core.next_deadline()
            if due is not None and (soonest is None or due < soonest):
                soonest = due
        self._deadline = soonest

    def _take(
        self, now: float, kind: int, peer: AdnlId, number: int, source: Endpoint, payload: bytes
    ) -> None:
        if kind == ANSWER:
            self._answered(number, payload)
            return
        core = self._claims.get(payload[:4]) or self._claims.get(b"")
        if core is None:
            return
        if kind == MESSAGE:
            core.message(now, peer, payload)
        elif (answer := core.query(now, peer, payload)) is not None:
            self._post(ANSWER, peer, source, answer, number)

    async def _ask(
        self, peer: AdnlId, there: Endpoint | None, payload: bytes, wait: float
    ) -> bytes:
        if len(self._waiting) >= QUERIES_PENDING:
            raise NoCapacity("too many queries are under way")
        self._queries += 1
        number = self._queries
        self._post(QUERY, peer, there, payload, number)

        mailbox: Mailbox[bytes | None] = Mailbox()
        self._waiting[number] = mailbox
        handle = self._timeouts.at(self._now + wait, lambda: self._answered(number, None))
        try:
            answer = await mailbox.get()
        finally:
            self._waiting.pop(number, None)
            handle.cancel()
        if answer is None:
            raise Timeout
        return answer

    def _answered(self, number: int, answer: bytes | None) -> None:
        """An answer has come, or None: it has not in time."""
        mailbox = self._waiting.pop(number, None)
        if mailbox is not None:
            mailbox.put(answer)

    def _post(
        self, kind: int, peer: AdnlId, there: Endpoint | None, payload: bytes, number: int
    ) -> None:
        if there is not None:
            head = HEAD.pack(kind, peer, self.identity.id, number)
            self._sends.append(Send(there, head + payload))

    def _endpoint(self, peer: AdnlId, address: AdnlAddress) -> Endpoint | None:
        known = self._acquaintance(peer)
        if known.said is not None and known.there and known.said.addrs[0] is address:
            return known.there[0]
        return to_endpoint(address)

    def _acquaintance(self, peer: AdnlId) -> _Acquaintance:
        known = self._book.get(peer)
        if known is None:
            known = self._book[peer] = _Acquaintance()
        return known
