"""The message seam in virtual time: the upper cores of many nodes, with nothing below them.

A `Seat` is a node's place in a `MessageWorld`. It is the `Sender` of its cores and calls them as
`Handler`s, with the procedures and the timers that a stack would run. Payloads are handed over
whole, without ADNL, RLDP2 or a link around them; a `Fabric` says when, if at all. So what depends
on packets, channels and ciphers is out of sight here, and 10,000 nodes are in reach.

What a peer's address is good for is kept, as in ADNL: a node speaks to whom it has heard from the
way that it heard, else to where it has learnt that the peer is. A node behind a NAT hears only
answers and, for a minute, whom it has spoken to. Addresses that a node claims and does not have
lead nowhere.
"""

import heapq
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar, final

from p2p.core import LIVELOCK_ROUNDS, Mailbox, Procedures
from p2p.entropy import Entropy
from p2p.errors import (
    AnswerTooBig,
    Livelock,
    LocalError,
    NoCapacity,
    Timeout,
    TussahError,
    Unreachable,
)
from p2p.identity import AdnlId, Identity, short_id
from p2p.sender import MAX_DATAGRAM_PAYLOAD, Handler
from p2p.ton import AdnlAddress, AdnlAddressList, AdnlAddressUdp
from p2p.transport.fabric import EPOCH, Fabric

OVERHEAD: Final = 96
"""bytes around a payload: an ADNL packet in a channel, its message and query id."""

HEARD_LIFE: Final = 120.0
"""seconds a peer is where it was heard last, as in ADNL; then where it is said to be."""

HOLE_LIFE: Final = 60.0
"""seconds a NAT lets in whom its node has sent to (simulated; real ones keep 30 to 300)."""

QUERIES_PENDING: Final = 1_024
"""queries of a node under way, as a stack bounds them."""

T = TypeVar("T")


class Upper(Handler, Protocol):
    """A core above the seam."""

    def handle_timer(self, now: float) -> None:
        """Do what is due."""

    def next_deadline(self) -> float | None:
        """When `handle_timer` wants to be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStatistics:
    """A snapshot of a world's counters."""

    sent: int
    """payloads sent: messages, queries and answers"""
    bytes_sent: int
    """their bytes, with what a packet adds"""
    lost: int
    """payloads that the fabric lost"""
    unheard: int
    """payloads that reached no node: gone, behind a NAT, or not at that address"""


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
        """Run a coroutine to its end, and remember that."""
        try:
            self._value.append(await coroutine)
        except TussahError as error:
            self._error = error
        finally:
            self.done = True
            self.ended = clock()


@final
class MessageWorld:
    """Runs the cores of its seats from instant to instant; reproducible from its entropy."""

    def __init__(self, entropy: Entropy, fabric: Fabric) -> None:
        self.now = EPOCH
        self._entropy = entropy
        self._fabric = fabric
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._entries = 0
        self._indexes: dict[AdnlId, int] = {}
        self._seats: dict[AdnlId, Seat] = {}
        self._sent = self._bytes = self._lost = self._unheard = 0

    @property
    def seats(self) -> "list[Seat]":
        """Every node's newest seat, in the order of their first."""
        return list(self._seats.values())

    def seat(self, identity: Identity, *, reachable: bool = True) -> "Seat":
        """A place for a node, up at once; the former one of the same node goes down."""
        if identity.id in self._seats:
            self._seats[identity.id].crash()
        index = self._indexes.setdefault(identity.id, len(self._indexes))
        entropy = self._entropy.fork(f"node/{index}")
        seat = self._seats[identity.id] = Seat(self, identity, index, entropy, reachable)
        return seat

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at an instant that is not past."""
        heapq.heappush(self._heap, (max(when, self.now), self._entries, action))
        self._entries += 1

    def run(self, until: float) -> None:
        """Run to `until`, what happens then included. Raises what a core raises: a bug."""
        while self._heap and self._heap[0][0] <= until:
            self._step()
        self.now = max(self.now, until)

    def finish(self, outcome: Outcome[T], *, within: float) -> T:
        """Run until a procedure has ended, `within` seconds at most, and give its result."""
        limit = self.now + within
        while not outcome.done and self._heap and self._heap[0][0] <= limit:
            self._step()
        return outcome.result()

    def statistics(self) -> MessageStatistics:
        """A snapshot of the counters."""
        return MessageStatistics(
            sent=self._sent, bytes_sent=self._bytes, lost=self._lost, unheard=self._unheard
        )

    def post(self, src: "Seat", dst: AdnlId, letter: "Letter") -> None:
        """Carry something between two seats; what a seat does to send."""
        size = len(letter.payload) + OVERHEAD
        self._sent += 1
        self._bytes += size
        index = self._indexes.get(dst)
        if index is None:
            self._unheard += 1
            return
        arrivals = self._fabric.route(self.now, src.index, index, size)
        self._lost += not arrivals
        for arrival in arrivals:
            self.at(arrival, lambda: self._deliver(dst, letter))

    def _deliver(self, dst: AdnlId, letter: "Letter") -> None:
        if not self._seats[dst].receive(letter):
            self._unheard += 1

    def _step(self) -> None:
        when, _, action = heapq.heappop(self._heap)
        self.now = when
        action()


@dataclass(frozen=True, slots=True)
class Letter:
    """A payload under way."""

    sender: "Seat"
    payload: bytes
    query: int | None
    """Number of the query that it is or, for an answer, that it answers."""
    answer: bool
    towards: AdnlAddressList | None
    """Where it was sent; None: back to where a packet came from."""


@dataclass(slots=True)
class _Acquaintance:
    addresses: AdnlAddressList | None = None
    heard: float = -math.inf
    """When something came from it."""
    spoken: float = -math.inf
    """When we last sent: whoever it is may answer through our NAT for a while."""

    def way(self, now: float) -> "tuple[bool, AdnlAddressList | None]":
        """Whether there is any, and to which addresses; None: back whence it was heard."""
        if self.heard + HEARD_LIFE >= now or self.addresses is None:
            return self.heard > -math.inf, None
        return True, self.addresses


@final
class Seat:
    """A node's place: the `Sender` of its cores, their procedures, randomness and timers."""

    def __init__(
        self, world: MessageWorld, identity: Identity, index: int, entropy: Entropy, reachable: bool
    ) -> None:
        self.identity = identity
        self.index = index
        self.entropy = entropy
        self.procedures = Procedures()
        self.addresses = address_of(index)
        """Where it is; nobody outside reaches it there if it is not `reachable`."""
        self.reachable = reachable
        self.up = True

        self._world = world
        self._cores: list[Upper] = []
        self._claims: dict[bytes, Upper] = {}
        self._book: dict[AdnlId, _Acquaintance] = {}
        self._waiting: dict[int, Mailbox[bytes | Timeout]] = {}
        self._queries = 0
        self._armed: float | None = None

    def attach(self, core: Upper, *prefixes: bytes) -> None:
        """Let a core be spoken to: by payloads that begin so, or, named none, by all the rest."""
        self._cores.append(core)
        for prefix in prefixes or (b"",):
            self._claims[prefix] = core
        self.settle()

    def start(self, coroutine: Coroutine[object, None, T]) -> Outcome[T]:
        """Run a coroutine of one of the cores as a procedure of this node."""
        outcome: Outcome[T] = Outcome()
        self.procedures.start(outcome.fill(coroutine, lambda: self._world.now))
        self.settle()
        return outcome

    def call(self, action: Callable[[float], object]) -> None:
        """Give one of the cores a command, as a stack does."""
        if self.up:
            action(self._world.now)
            self.settle()

    def crash(self) -> None:
        """Be gone: nothing is received, sent or due any more."""
        self.up = False
        waiting, self._waiting = self._waiting, {}
        for mailbox in waiting.values():
            mailbox.abandon()

    # --- Sender ---

    def send(self, peer: AdnlId, payload: bytes) -> None:
        """See `Sender`."""
        self._post(peer, payload, None, answer=False)

    async def query(
        self,
        peer: AdnlId,
        payload: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 (of the protocol: how long a core waits in its own time)
        max_answer: int = MAX_DATAGRAM_PAYLOAD,
    ) -> bytes:
        """See `Sender`."""
        number = self._number()
        if not self._post(peer, payload, number, answer=False):
            raise Unreachable("nothing says where this peer is")
        answer = await self._answer(number, timeout)
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
        number = self._number()
        there = AdnlAddressList((address,), 0, 0, 0, 0)
        self._send(peer, Letter(self, payload, number, False, there))
        return await self._answer(number, timeout)

    def _number(self) -> int:
        if len(self._waiting) >= QUERIES_PENDING:
            raise NoCapacity("too many queries are under way")
        self._queries += 1
        return self._queries

    async def _answer(self, number: int, patience: float) -> bytes:
        mailbox: Mailbox[bytes | Timeout] = Mailbox()
        self._waiting[number] = mailbox
        self._world.at(self._world.now + patience, lambda: self._answered(number, Timeout()))
        try:
            answer = await mailbox.get()
        finally:
            self._waiting.pop(number, None)
        if isinstance(answer, Timeout):
            raise answer
        return answer

    def learn(self, public: bytes, addresses: AdnlAddressList) -> None:
        """See `Sender`."""
        self._acquaintance(short_id(public)).addresses = addresses if addresses.addrs else None

    # --- the world's side ---

    def receive(self, letter: Letter) -> bool:
        """Take what has arrived; False if it does not get here."""
        if not self.up or not self._lets_in(letter):
            return False
        peer = letter.sender.identity.id
        self._acquaintance(peer).heard = self._world.now
        if letter.answer and letter.query is not None:
            self._answered(letter.query, letter.payload)
        elif (core := self._core(letter.payload)) is not None:
            self._handle(core, peer, letter)
        return True

    def settle(self) -> None:
        """Run the procedures, and see to it that the next deadline is kept."""
        self.procedures.run()
        deadlines = [core.next_deadline() for core in self._cores]
        deadline = min((when for when in deadlines if when is not None), default=None)
        if deadline is not None and (self._armed is None or deadline < self._armed):
            self._armed = deadline
            self._world.at(deadline, lambda: self._wake(deadline))

    def _handle(self, core: Upper, peer: AdnlId, letter: Letter) -> None:
        now = self._world.now
        if letter.query is None:
            core.message(now, peer, letter.payload)
        elif (answer := core.query(now, peer, letter.payload)) is not None:
            self._post(peer, answer, letter.query, answer=True)
        self.settle()

    def _answered(self, number: int, answer: bytes | Timeout) -> None:
        mailbox = self._waiting.pop(number, None)
        if mailbox is not None:
            mailbox.put(answer)
            self.settle()

    def _wake(self, armed: float) -> None:
        """A deadline that moved away leaves its wake standing, which then finds nothing due."""
        if not self.up or self._armed != armed:
            return
        self._armed = None
        for core in self._cores:
            self._run_timers(core)
        self.settle()

    def _run_timers(self, core: Upper) -> None:
        now = self._world.now
        for _ in range(LIVELOCK_ROUNDS):
            deadline = core.next_deadline()
            if deadline is None or deadline > now:
                return
            core.handle_timer(now)
        raise Livelock(self.index, now)

    def _post(self, peer: AdnlId, payload: bytes, query: int | None, *, answer: bool) -> bool:
        leads, towards = self._acquaintance(peer).way(self._world.now)
        if leads:
            self._send(peer, Letter(self, payload, query, answer, None if answer else towards))
        return leads

    def _send(self, peer: AdnlId, letter: Letter) -> None:
        if self.up:
            self._acquaintance(peer).spoken = self._world.now
            self._world.post(self, peer, letter)

    def _lets_in(self, letter: Letter) -> bool:
        if letter.answer:
            return True
        if letter.towards is not None:
            return self.reachable and any(it in self.addresses.addrs for it in letter.towards.addrs)
        known = self._book.get(letter.sender.identity.id)
        hole = known is not None and known.spoken + HOLE_LIFE >= self._world.now
        return self.reachable or hole

    def _core(self, payload: bytes) -> Upper | None:
        return self._claims.get(payload[:4]) or self._claims.get(b"")

    def _acquaintance(self, peer: AdnlId) -> _Acquaintance:
        return self._book.setdefault(peer, _Acquaintance())


def address_of(index: int) -> AdnlAddressList:
    """The public address of a node: each in a /24 of its own, as 65,536 nodes may be."""
    ip = (0x2D << 24) | (index << 8) | 1
    return AdnlAddressList((AdnlAddressUdp(ip, 30_303),), 0, 0, 0, 0)
