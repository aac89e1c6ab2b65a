"""A node for callers on trio: join, see who is there, open circuits, ask peers, answer both."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar, final

import structlog
import trio

from p2p import stack
from p2p.adnl import events as adnl
from p2p.adnl.clocks import ClockOffset
from p2p.adnl.events import PeerSeen
from p2p.calls import Query, Replied, Unanswered
from p2p.core import Event
from p2p.dht import events as dht
from p2p.drive import Driver, DriverStatistics, SystemClock
from p2p.entropy import Entropy, SystemEntropy
from p2p.errors import LocalError, TussahError, only_one
from p2p.identity import AdnlId, Identity
from p2p.onion.cell import MAX_RELAYS
from p2p.onion.core import (
    Broken,
    CircuitId,
    Data,
    Ended,
    Failed,
    GuardsChanged,
    Incoming,
    Lost,
    Misbehaved,
    OnionStatistics,
    Opened,
    Overview,
    Pong,
    PuzzlesWanted,
    Reset,
    Resumed,
    Shape,
    Unresumed,
)
from p2p.onion.handshake import Target, solve_puzzle
from p2p.overlay import advert
from p2p.overlay.advert import Fields, Role
from p2p.overlay.announcer import NOBODY
from p2p.overlay.core import Statistics as OverlayStatistics
from p2p.overlay.listing import DirectoryStatus, Listing
from p2p.sending import Tap as UdpTap
from p2p.stack import Peer, Reachability, Stack, StackConfig, Transport
from p2p.store import Kept, KeptGuard, NodeStore
from p2p.transport.carrier import Carrier, CarrierStatistics, Meet, Tap
from p2p.transport.joint import JointTransport
from p2p.transport.libp2p import Libp2pCarrier
from p2p.transport.udp import UdpStatistics, UdpTransport
from p2p.wire import Endpoint, Link

CircuitEvent: TypeAlias = (
    Opened | Failed | Data | Ended | Reset | Pong | Broken | Resumed | Unresumed | Lost
)
"""What `Node.events` gives; `Failed` and `Lost` are the last of their circuit."""

OnionTap: TypeAlias = Callable[[str, bytes], None]

MeetUdp: TypeAlias = Callable[[AdnlId, Endpoint, Endpoint], None]
"""Told of a peer whose datagrams come from a new place: the peer, our socket, its endpoint."""

EVENTS: Final = 4_096
"""events of one circuit that wait for a reader: a whole upload of 4 MiB in cells."""

INCOMING: Final = 64
"""circuits that wait to be accepted; more are refused at once."""

KEEP_INTERVAL: Final = 60.0
"""seconds between two writes of what helps the next start."""

QUERIES: Final = 256
"""calls of peers that wait for a reader, 4 MiB at most; more are refused at once."""

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Who a node is, on which network, and where it listens."""

    identity: Identity
    network: int
    dev: bool = False
    bootstrap: tuple[Peer, ...] = ()
    listen: Endpoint | None = None
    """None: dial only; port 0: any free one."""
    udp: tuple[Endpoint, ...] = ()
    """Where the sockets of ADNL are bound, one a family; port 0: any free one. Empty: no UDP."""
    announce: tuple[Endpoint, ...] = ()
    """Where others can reach this node, if that is not where it listens; port 0: the same port."""
    store: NodeStore | None = None
    """What it keeps over restarts; None: nothing. Who has no role keeps its guards, and when it
    started last, alone."""
    judged: bool = True
    """Strangers find out whether it can be reached, if it has a role."""
    roles: Role = NOBODY
    allow_direct: bool = False
    always: bool = False
    """The link to the first guard carries frames at one rate day and night: shaping level 2."""
    entropy: Entropy = field(default_factory=SystemEntropy)
    tap: Tap | None = None
    onion_tap: OnionTap | None = None
    udp_tap: UdpTap | None = None
    meet: Meet | None = None
    meet_udp: MeetUdp | None = None


CarrierFactory: TypeAlias = Callable[[NodeConfig], Carrier]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatistics:
    """A snapshot of a node."""

    carrier: CarrierStatistics
    udp: UdpStatistics | None
    driver: DriverStatistics
    dht: dht.DhtStatistics
    overlay: OverlayStatistics
    directory: DirectoryStatus
    onion: OnionStatistics
    unread: int
    """circuits whose events are still given out"""
    misbehaved: int
    """times that a peer broke a rule"""
    sizes: dict[str, int]
    """length of every table and queue of the stack"""
    clock: ClockOffset | None = None
    """how far its clock is from those of peers; None if too few have told of late"""


class Announced(NamedTuple):
    """What a node says of where it is."""

    tcp: tuple[Endpoint, ...]
    """For links over libp2p."""
    udp: tuple[Endpoint, ...]
    """For ADNL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquaintances:
    """Peers by what a node has to do with them."""

    links: frozenset[AdnlId]
    dht: frozenset[AdnlId]
    """Active in its table: asked, and named to others."""
    members: frozenset[AdnlId]
    """Of the overlay, and have answered."""
    neighbours: frozenset[AdnlId]
    """Those of them who are told what comes."""


def over_libp2p(config: NodeConfig) -> Carrier:
    """The carrier of production."""
    return Libp2pCarrier(
        config.identity,
        network=config.network,
        listen=config.listen,
        entropy=config.entropy,
        tap=config.tap,
        meet=config.meet,
    )


@asynccontextmanager
async def open_node(
    config: NodeConfig, *, carrier: CarrierFactory = over_libp2p
) -> AsyncIterator["Node"]:
    """A running node; everything it started has ended when the block is left.

    Raises `LocalError` if it cannot listen. A core that raises is a bug: the block is cancelled and
    the exception leaves it.
    """
    with _opened(config.udp) as udp:
        try:
            async with trio.open_nursery() as nursery:
                node = Node(config, carrier(config), udp, nursery)
                try:
                    await node.start()
                    yield node
                finally:
                    node.finish()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise only_one(group) from None


@contextmanager
def _opened(endpoints: Sequence[Endpoint]) -> Iterator[UdpTransport | None]:
    if not endpoints:
        yield None
        return
    udp = UdpTransport(endpoints)
    try:
        yield udp
    finally:
        udp.close()


@final
class Node:
    """The face of a running node; `open_node` makes it. All but the `async` methods act at once."""

    def __init__(
        self,
        config: NodeConfig,
        carrier: Carrier,
        udp: UdpTransport | None,
        nursery: trio.Nursery,
    ) -> None:
        self._config = config
        self._carrier = carrier
        self._udp = udp
        self._nursery = nursery
        clock = self._clock = SystemClock()
        self._stack = Stack(config.identity, config.entropy, _stack_config(config, clock.now()))
        self._inside = _Inside(carrier, nursery, config.store)
        self._joint = None if udp is None else JointTransport(carrier, udp)
        self._driver = Driver(self._stack, self._joint or carrier, self._inside, clock)
        self._inside.driver = self._driver
        if udp is not None and config.meet_udp is not None:
            self._inside.seen = partial(_meet, config.meet_udp, udp.endpoints)

        self.id: AdnlId = config.identity.id
        self.public: bytes = config.identity.public
        self.endpoint: Endpoint | None = None
        """Where it listens for links."""
        self.udp: tuple[Endpoint, ...] = () if udp is None else udp.endpoints
        """Where its socket of ADNL is bound."""
        self.directory: Listing = self._stack.directory
        self.incoming: trio.MemoryReceiveChannel[Incoming] = self._inside.incoming
        """Circuits that end here: `accept` or `refuse` each within 6 s."""
        self.queries: trio.MemoryReceiveChannel[Query] = self._inside.queries
        """What peers ask over a link: `answer` each within 10 s. Unread ones become refusals."""

    async def start(self) -> None:
        """Listen, and begin to fetch the directory. `open_node` has called it."""
        self.endpoint = await self._nursery.start(self._carrier.run, self._inside)
        if self._joint is not None:
            await self._nursery.start(self._joint.run)
        await self._nursery.start(self._driver.run)
        if self._config.store is not None:
            self._nursery.start_soon(self._keep_on, self._config.store)
        addresses, udp = _dialable(self._config, self.endpoint), self._udp_addresses()
        ports = self._ports()
        self._driver.call("start", lambda core, now: core.start(now, addresses, udp, ports))
        log.info(
            "node.started",
            dialable=bool(addresses),
            udp=bool(udp),
            roles=int(self._config.roles),
        )

    def finish(self) -> None:
        """Keep what helps the next start, and give up what is under way."""
        self.keep()
        self._stack.finish()

    def keep(self) -> None:
        """Write down what helps the next start, if there is a place for it. Takes milliseconds."""
        if self._config.store is not None:
            _save(self._config.store, self._kept())

    def _kept(self) -> Kept:
        """Of who only asks nothing but its guards: the rest would tell whom it asked, and when."""
        return self._stack.kept() if self._config.roles else Kept(guards=self._stack.guards())

    async def _keep_on(self, store: NodeStore) -> None:
        limiter = trio.CapacityLimiter(1)
        while True:
            await trio.sleep(KEEP_INTERVAL)
            await trio.to_thread.run_sync(_save, store, self._kept(), limiter=limiter)

    def _udp_addresses(self) -> tuple[Endpoint, ...]:
        """Where others can send datagrams: a client says so to nobody."""
        if not self._config.roles:
            return ()
        return tuple(dict.fromkeys(a for e in self.udp for a in _dialable(self._config, e)))

    def _ports(self) -> dict[Transport, int]:
        """Where it listens, and so may be reached: a client wants nobody to try."""
        if not self._config.roles or not self._config.judged:
            return {}
        said = self._config.announce[0].port if self._config.announce else 0
        ports = {Transport.UDP: said or self.udp[0].port} if self.udp else {}
        if self.endpoint is not None:
            ports[Transport.TCP] = said or self.endpoint.port
        return ports

    def announced(self) -> Announced:
        """Where it tells others to reach it now; empty of who only asks."""
        if not self._config.roles:
            return Announced((), ())
        holds = self._stack.holds()
        return Announced(holds.tcp, holds.udp)

    def attachments(self) -> tuple[AdnlId, ...]:
        """The relays over whose links circuits reach it, if nobody can dial it."""
        return self._stack.attachments()

    def reach(self) -> list[Reachability]:
        """What strangers have found out of each transport; empty of who only asks."""
        return self._stack.reach()

    # --- who is there ---

    def acquaintances(self) -> Acquaintances:
        """The peers it deals with itself, rather than reads of in the directory."""
        stack = self._stack
        return Acquaintances(
            links=frozenset(stack.linked()),
            dht=frozenset(node.id for node in stack.dht.active()),
            members=frozenset(stack.overlay.members),
            neighbours=frozenset(stack.overlay.neighbours),
        )

    def overview(self) -> Overview:
        """What the node's owner may see of its circuits."""
        return self._stack.overview(self._clock.now())

    def guards(self) -> tuple[KeptGuard, ...]:
        """The first relays of its circuits, kept for weeks and over restarts."""
        return self._stack.guards()

    async def joined(self) -> None:
        """Wait until the directory has been fetched; the deadline is the caller's."""
        await self._inside.joined.wait()

    async def directory_changed(self) -> None:
        """Wait until the directory changes after this call."""
        await self._inside.changed.next()

    async def publish(self, fields: Fields) -> None:
        """Be listed, and stay so until `withdraw`; returns once a directory server holds that.

        Others use it from the next directory epoch on.

        Cancelled, it goes on trying to be listed. Raises `ValueError` for fields that nobody would
        take.
        """
        seq = self._driver.call("publish", lambda core, now: core.publish(now, fields))
        await self._inside.until_published(seq)

    async def withdraw(self) -> None:
        """Leave the list; returns once a directory server knows."""
        seq = self._driver.call("withdraw", lambda core, now: core.withdraw(now))
        await self._inside.until_published(seq)

    def is_busy(self, *, busy: bool) -> None:
        """Say that work is refused for now, or taken again; others draw somebody else meanwhile."""
        self._driver.call("is_busy", lambda core, now: core.is_busy(now, busy=busy))

    # --- calls: over a link, so that each side knows the other's address ---

    async def query(self, peer: AdnlId, body: bytes) -> bytes:
        """Ask a peer and wait for its answer, 10 s at most; both are maps of at most 16 KiB.

        Asked once: whether it was heard is unknown if there is no answer. Raises `Unreachable`,
        `Timeout` and `Closed` among it, `RemoteError` if the peer refuses (`Rejected`) or answers
        with what is none, `NoCapacity` while too many are outstanding. Cancelled, it is forgotten.
        """
        number = self._driver.call("query", lambda core, now: core.query(now, peer, body))
        try:
            outcome = await self._inside.replies.wait(number)
        except trio.Cancelled:
            self._driver.call("forget", lambda core, now: core.forget(now, number))
            raise
        if isinstance(outcome, Unanswered):
            raise outcome.error
        return outcome.body

    def answer(self, query: Query, body: bytes) -> None:
        """Answer what a peer asked; too late is no error."""
        self._driver.call("answer", lambda core, now: core.answer(now, query, body))

    # --- procedures of the stack ---

    async def run(self, name: str, make: Callable[[Stack], Coroutine[object, None, T]]) -> T:
        """Run a coroutine over the stack's DHT or overlay, and return what it returns.

        Raises what it raises. Cancelled, it is closed where it waits.
        """
        errand = _Errand[T]()
        procedure = self._driver.call(name, lambda core, now: core.run(now, errand.run(make(core))))
        try:
            await errand.done.wait()
        finally:
            self._driver.call("cancel", lambda core, now: procedure.cancel())
        return errand.outcome()

    # --- circuits that this node asks for ---

    def path(
        self, worker: AdnlId, relays: int = MAX_RELAYS, suspects: Sequence[AdnlId] = ()
    ) -> list[Target]:
        """Relays drawn by the path rules, then the worker. Raises `NoPath`.

        `suspects`, which have just failed a circuit, stand behind the guard only if they must.
        """
        return self._driver.call("path", lambda core, now: core.path(now, worker, relays, suspects))

    def open(
        self,
        path: Sequence[Target],
        request: bytes,
        *,
        rate: int = 0,
        resumable: bool = False,
    ) -> CircuitId:
        """Ask for a circuit: `events` gives `Opened` or `Failed` within 10 s.

        With a `rate` of `defaults.ANSWER_RATES`, which the endpoint must read in `request`, it is
        shaped: one request, whose texts do not show in its traffic. One that is `resumable`, of one
        request too, gives `Broken` if it ends in the middle of that.
        """
        circuit = self._driver.call(
            "open",
            lambda core, now: core.open(now, path, request, rate=rate, resumable=resumable),
        )
        self._inside.circuits.add(circuit)
        return circuit

    def resume(self, circuit: CircuitId, path: Sequence[Target]) -> None:
        """Go on with a circuit that is `Broken`: its `events` give `Resumed`, or `Unresumed`."""
        self._driver.call("resume", lambda core, now: core.resume(now, circuit, path))

    def events(self, circuit: CircuitId) -> trio.MemoryReceiveChannel[CircuitEvent]:
        """The events of one circuit, in order; the channel ends after the last. Call it once.

        Who does not read loses the circuit: it is closed, and `Lost` ends the channel.
        """
        return self._inside.circuits.take(circuit)

    # --- circuits that end here ---

    def accept(
        self, incoming: Incoming, offer: bytes, *, rate: int = 0, resumable: bool = False
    ) -> None:
        """Answer a circuit with yes, and what is asked on it at the rate that it asks for.

        If it is `resumable`, its asker may come by another way when it breaks.
        """
        circuit = incoming.circuit
        self._driver.call(
            "accept",
            lambda core, now: core.accept(now, circuit, offer, rate=rate, resumable=resumable),
        )

    def refuse(self, incoming: Incoming, reason: bytes) -> None:
        """Answer a circuit with no."""
        self._inside.refuse(incoming, reason)

    # --- circuits of both kinds ---

    def send(self, circuit: CircuitId, stream: int, data: bytes) -> None:
        """Queue bytes. Raises `NoCapacity` beyond `writable`."""
        self._driver.call("send", lambda core, now: core.send(now, circuit, stream, data))

    def writable(self, circuit: CircuitId) -> int:
        """Bytes that `send` takes now; 0 if the circuit is gone."""
        return self._stack.writable(circuit)

    def end(self, circuit: CircuitId, stream: int) -> None:
        """Nothing follows on the stream."""
        self._driver.call("end", lambda core, now: core.end(now, circuit, stream))

    def reset(self, circuit: CircuitId, stream: int, code: int) -> None:
        """Give a stream up, both ways."""
        self._driver.call("reset", lambda core, now: core.reset(now, circuit, stream, code))

    def ping(self, circuit: CircuitId) -> None:
        """Ask the endpoint for a sign of life: `Pong`."""
        self._driver.call("ping", lambda core, now: core.ping(now, circuit))

    def shape(self, circuit: CircuitId) -> Shape | None:
        """What a request shows on its links, once something of its answer has come."""
        return self._stack.shape(circuit)

    def close(self, circuit: CircuitId) -> None:
        """End a circuit; its channel ends at once.

        A shaped request that has begun goes on without its asker, to the end of its bucket; its
        endpoint works on unless there was a `reset`.
        """
        self._inside.close(circuit)

    def statistics(self) -> NodeStatistics:
        """A snapshot."""
        return NodeStatistics(
            carrier=self._carrier.statistics(),
            udp=None if self._udp is None else self._udp.statistics(),
            driver=self._driver.statistics(),
            dht=self._stack.dht.statistics(),
            overlay=self._stack.overlay.statistics(),
            directory=self.directory.status(),
            onion=self._stack.statistics(),
            unread=len(self._inside.circuits),
            misbehaved=self._inside.misbehaved,
            sizes=self._stack.sizes(),
            clock=self._stack.clock(),
        )


@final
class _Inside:
    """What the stack's events do, and what the carrier tells the stack."""

    driver: Driver[Stack]

    def __init__(self, carrier: Carrier, nursery: trio.Nursery, store: NodeStore | None) -> None:
        self._store = store
        self._carrier = carrier
        self._nursery = nursery
        self.joined = trio.Event()
        self.changed = _Signal()
        self.circuits = _Circuits()
        self.replies = _Replies()
        self._queries, self.queries = trio.open_memory_channel[Query](QUERIES)
        self._incoming, self.incoming = trio.open_memory_channel[Incoming](INCOMING)
        self._published, self._listed = 0, _Signal()
        self.misbehaved = 0
        self.seen: Callable[[PeerSeen], None] = lambda event: None
        """Told of the places that datagrams come from."""

    # --- the carrier's listener: left for the next step, so that a bug ends the driver, not a task
    #     of the carrier's library ---

    def link_up(self, link: Link, dialled: bool) -> None:
        self.driver.post("link_up", lambda core, now: core.link_up(now, link, dialled))

    def link_down(self, link: Link) -> None:
        self.driver.post("link_down", lambda core, now: core.link_down(now, link))

    def dial_failed(self, peer: AdnlId) -> None:
        self.driver.post("dial_failed", lambda core, now: core.dial_failed(now, peer))

    # --- the driver's effects ---

    def handle(self, now: float, event: Event) -> None:
        match event:
            case Opened() | Failed() | Data() | Ended() | Reset() | Pong() | Lost():
                self._deliver(event)
            case Broken() | Resumed() | Unresumed():
                self._deliver(event)
            case Incoming():
                self._offer(event)
            case Replied() | Unanswered():
                self.replies.deliver(event)
            case Query():
                self._ask(event)
            case stack.Dial(peer, endpoints):
                self._carrier.dial(peer, endpoints)
            case stack.Knock(peer, endpoint):
                self._carrier.knock(peer, endpoint)
            case stack.HangUp(link, dead):
                self._carrier.close(link, dead=dead)
            case GuardsChanged(guards):
                self._keep(guards)
            case stack.WorkWanted(public, day):
                self._nursery.start_soon(self._work, public, day)
            case PuzzlesWanted():
                self._nursery.start_soon(self._solve, event)
            case _:
                self._note(event)

    def _keep(self, guards: Sequence[KeptGuard]) -> None:
        """Write guards down before any circuit goes through them: milliseconds, once in weeks."""
        if self._store is not None:
            with _warned():
                self._store.save_guards(guards)

    def _note(self, event: Event) -> None:
        """Events that ask for nothing."""
        match event:
            case stack.Joined():
                self.joined.set()
                log.info("directory.joined")
            case stack.DirectoryChanged():
                self.changed.send()
            case stack.Published(seq):
                self._published = max(self._published, seq)
                self._listed.send()
            case stack.Split():
                log.warning("directory.split")
            case stack.Contradiction():
                log.warning("directory.contradiction")
            case PeerSeen():
                self.seen(event)
            case adnl.NoAddress() | adnl.PeerReset() | dht.Joined() | dht.Alone() | dht.Published():
                log.debug("network.told", what=type(event).__name__)
            case Misbehaved(_, reason):
                self.misbehaved += 1
                log.debug("peer.misbehaved", reason=reason)
            case _:
                raise TypeError(f"nobody handles {type(event).__name__}")

    def _deliver(self, event: CircuitEvent) -> None:
        if not self.circuits.deliver(event):
            self.close(event.circuit)

    def _offer(self, incoming: Incoming) -> None:
        self.circuits.add(incoming.circuit)
        try:
            self._incoming.send_nowait(incoming)
        except trio.WouldBlock:
            self.refuse(incoming, b"")

    def _ask(self, query: Query) -> None:
        try:
            self._queries.send_nowait(query)
        except (trio.WouldBlock, trio.BrokenResourceError):
            self.driver.call("decline", lambda core, now: core.decline(now, query))

    async def _work(self, public: bytes, day: int) -> None:
        nonce = await trio.to_thread.run_sync(
            advert.solve, public, day, limiter=trio.CapacityLimiter(1)
        )
        self.driver.call("work", lambda core, now: core.work(now, day, nonce))

    async def _solve(self, wanted: PuzzlesWanted) -> None:
        """A hop is pressed hard: find what it asks for, up to a second of a core in a thread."""
        circuit, issued = wanted.circuit, wanted.issued
        nonces = await trio.to_thread.run_sync(_solutions, wanted, limiter=trio.CapacityLimiter(1))
        self.driver.call("solved", lambda core, now: core.solved(now, circuit, issued, nonces))

    # --- for the node ---

    def refuse(self, incoming: Incoming, reason: bytes) -> None:
        circuit = incoming.circuit
        self.circuits.drop(circuit)
        self.driver.call("refuse", lambda core, now: core.refuse(now, circuit, reason))

    def close(self, circuit: CircuitId) -> None:
        self.circuits.drop(circuit)
        self.driver.call("close", lambda core, now: core.close(now, circuit))

    async def until_published(self, seq: int) -> None:
        await trio.lowlevel.checkpoint()
        while self._published < seq:
            await self._listed.next()


def _solutions(wanted: PuzzlesWanted) -> list[int]:
    """A nonce for each hop; 0 where none is wanted."""
    return [
        solve_puzzle(hop, ephemeral, wanted.issued, bits) if bits else 0
        for hop, ephemeral, bits in wanted.puzzles
    ]


@final
class _Signal:
    """Wakes everybody who waits for the next time."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def send(self) -> None:
        event, self._event = self._event, trio.Event()
        event.set()

    async def next(self) -> None:
        await self._event.wait()


@final
class _Circuits:
    """A bounded channel for the events of each circuit."""

    def __init__(self) -> None:
        self._senders: dict[CircuitId, trio.MemorySendChannel[CircuitEvent]] = {}
        self._untaken: dict[CircuitId, trio.MemoryReceiveChannel[CircuitEvent]] = {}

    def add(self, circuit: CircuitId) -> None:
        """Make the channel, unless the circuit's first event has."""
        if circuit not in self._senders and circuit not in self._untaken:
            sender, receiver = trio.open_memory_channel[CircuitEvent](EVENTS + 1)
            self._senders[circuit], self._untaken[circuit] = sender, receiver

    def take(self, circuit: CircuitId) -> trio.MemoryReceiveChannel[CircuitEvent]:
        """Give the channel to its reader. Raises `KeyError` the second time."""
        return self._untaken.pop(circuit)

    def deliver(self, event: CircuitEvent) -> bool:
        """Put an event; False if nobody reads, for lack of time or of interest."""
        if isinstance(event, (Opened, Failed)):
            self.add(event.circuit)
        sender = self._senders.get(event.circuit)
        if sender is None:
            return True
        is_full = sender.statistics().current_buffer_used >= EVENTS
        try:
            sender.send_nowait(Lost(event.circuit, None) if is_full else event)
        except trio.BrokenResourceError:
            is_full = True
        if is_full or isinstance(event, (Failed, Lost)):
            self._senders.pop(event.circuit).close()
        return not is_full

    def drop(self, circuit: CircuitId) -> None:
        """The circuit is closed: its reader finds the end after what is there."""
        sender = self._senders.pop(circuit, None)
        if sender is not None:
            sender.close()
        self._untaken.pop(circuit, None)

    def __len__(self) -> int:
        return len(self._senders)


@final
class _Errand(Generic[T]):
    """A coroutine that the stack steps, and what became of it."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self._value: list[T] = []
        self._error: TussahError | None = None

    async def run(self, coroutine: Coroutine[object, None, T]) -> None:
        try:
            self._value.append(await coroutine)
        except TussahError as error:
            self._error = error
        finally:
            self.done.set()

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value[0]


@dataclass(slots=True)
class _Reply:
    """What a caller waits for; an outcome may come while it is still asking."""

    came: trio.Event = field(default_factory=trio.Event)
    outcome: Replied | Unanswered | None = None


@final
class _Replies:
    """The outcomes of our own calls, each for the one task that asked."""

    def __init__(self) -> None:
        self._by_number: dict[int, _Reply] = {}

    def deliver(self, outcome: Replied | Unanswered) -> None:
        """Wake the task; one is there or is about to be, as a call forgotten has no outcome."""
        reply = self._by_number.setdefault(outcome.number, _Reply())
        reply.outcome = outcome
        reply.came.set()

    async def wait(self, number: int) -> Replied | Unanswered:
        """The outcome of a call. Wait for it once."""
        reply = self._by_number.setdefault(number, _Reply())
        try:
            await reply.came.wait()
        finally:
            del self._by_number[number]
        assert reply.outcome is not None  # set before the event
        return reply.outcome

    def __len__(self) -> int:
        return len(self._by_number)


def _meet(meet: MeetUdp, sockets: Sequence[Endpoint], event: PeerSeen) -> None:
    is_v6 = ":" in event.endpoint.host
    for socket in sockets:
        if (":" in socket.host) is is_v6:
            meet(event.peer, socket, event.endpoint)


def _save(store: NodeStore, kept: Kept) -> None:
    with _warned():
        store.save(kept)


@contextmanager
def _warned() -> Iterator[None]:
    """A disk that is full or gone costs the next start something, and this node nothing."""
    try:
        yield
    except LocalError as error:
        log.warning("store.failed", reason=str(error))


def _stack_config(config: NodeConfig, now: float) -> StackConfig:
    store = config.store if config.roles else None
    return StackConfig(
        started_at=int(now) if config.store is None else config.store.start(now),
        seq=0 if store is None else store.next_seq(now),
        kept=_loaded(config),
        udp=bool(config.udp),
        udp_tap=config.udp_tap,
        network=config.network,
        dev=config.dev,
        bootstrap=config.bootstrap,
        roles=config.roles,
        allow_direct=config.allow_direct,
        always=config.always,
        tap=config.onion_tap,
    )


def _loaded(config: NodeConfig) -> Kept:
    if config.store is None:
        return Kept()
    return config.store.load() if config.roles else Kept(guards=config.store.guards())


def _dialable(config: NodeConfig, bound: Endpoint | None) -> tuple[Endpoint, ...]:
    """Where others can dial this node; nowhere if it listens where the network does not reach."""
    if bound is None:
        return config.announce
    if config.announce:
        return tuple(Endpoint(host, port or bound.port) for host, port in config.announce)
    host = ip_address(bound.host)
    is_reached = host.is_global or (config.dev and not host.is_unspecified)
    return (bound,) if is_reached else ()
