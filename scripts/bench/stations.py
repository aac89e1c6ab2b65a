"""Nodes of circuits alone, for benchmarks: no directory, DHT or service; in memory or libp2p."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, final

import trio

from p2p import wire
from p2p.core import Command, Event, Send, Source, step
from p2p.drive import Driver, SystemClock
from p2p.entropy import SystemEntropy
from p2p.identity import AdnlId, Identity
from p2p.onion.core import (
    CircuitId,
    CloseLink,
    Data,
    Dial,
    Incoming,
    OnionConfig,
    OnionCore,
    OnionKeys,
    Opened,
    Pong,
)
from p2p.onion.handshake import Target
from p2p.onion.relay import DAY
from p2p.onion.relays import RelayView, Role
from p2p.transport.libp2p import Libp2pCarrier
from p2p.wire import Endpoint, Kind, Link, Message

NETWORK: Final = -1

ROLES: Final = Role.RELAY | Role.WORKER | Role.DIALABLE

PATIENCE: Final = 60.0
"""seconds for anything that is waited for"""


@final
class Board:
    """A directory that its nodes write themselves."""

    def __init__(self) -> None:
        self.views: dict[AdnlId, RelayView] = {}
        self.places: dict[AdnlId, Endpoint] = {}

    def relay(self, peer: AdnlId, /) -> RelayView | None:
        """Any that is listed."""
        return self.views.get(peer)

    def relays(self) -> Sequence[RelayView]:
        """All of them."""
        return list(self.views.values())


@final
class Station:
    """One node's circuits, as a core whose data are messages of links."""

    def __init__(self, board: Board, *, listed: bool) -> None:
        entropy = SystemEntropy()
        self.identity = Identity(entropy.token(32))
        self.keys = OnionKeys(entropy)
        config = OnionConfig(
            network=NETWORK, relay=listed, endpoint=listed, allow_direct=True, dev=True
        )
        self.core = OnionCore(self.identity, self.keys, board, entropy, config)
        if listed:
            board.views[self.identity.id] = self._view()

    @property
    def target(self) -> Target:
        """As a hop."""
        return self._view().target

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Take a message."""
        self.core.receive(now, source, wire.unpack(datagram).payload)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self.core.handle_timer(now)

    def next_deadline(self) -> float | None:
        """When something is due."""
        return self.core.next_deadline()

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Messages for links, and events."""
        sends, events = self.core.drain()
        packed = [
            Send(send.to, wire.pack(Message(Kind.ONION, 0, bytes(send.data)))) for send in sends
        ]
        return packed, events

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return self.core.sizes()

    def _view(self) -> RelayView:
        id_ = self.identity.id
        return RelayView(
            id=id_,
            onion_key=self.keys.public(int(time.time()) // DAY),
            operator=id_,
            subnet=b"",
            roles=ROLES,
            stable=True,
            weight=1.0,
        )


# --- in memory ---


@dataclass(slots=True)
class Passed:
    """What a relay did, and in what time of its own."""

    cells: int
    seconds: float


def through_memory(cells: int) -> Passed:
    """Send an answer of so many cells through one relay; only the relay's time counts."""
    return _Pipe(cells).run()


@final
class _Pipe:
    """An asker, a relay, an endpoint; two links that take no time."""

    def __init__(self, cells: int) -> None:
        board = Board()
        self.asker, self.relay, self.end = (Station(board, listed=i > 0) for i in range(3))
        self.now = time.time()
        self.size = cells * 1_116
        self.seconds = 0.0
        self.heard = 0
        self.far: CircuitId | None = None
        near, far = Link(self.relay.identity.id, 1), Link(self.end.identity.id, 2)
        back, behind = Link(self.relay.identity.id, 4), Link(self.asker.identity.id, 3)
        self.routes = {
            (self.asker.identity.id, near): (self.relay, behind),
            (self.relay.identity.id, behind): (self.asker, near),
            (self.relay.identity.id, far): (self.end, back),
            (self.end.identity.id, back): (self.relay, far),
        }
        self.inboxes: dict[AdnlId, list[tuple[Source, bytes]]] = {
            station.identity.id: [] for station in (self.asker, self.relay, self.end)
        }
        for station, link, dialled in (
            (self.asker, near, True),
            (self.relay, behind, False),
            (self.relay, far, True),
            (self.end, back, False),
        ):
            station.core.link_up(self.now, link, link.peer, dialled=dialled)

    def run(self) -> Passed:
        path = [self.relay.target, self.end.target]
        self.asker.core.open(self.now, path, b"")
        while self.heard < self.size:
            self.now += 0.002
            for station in (self.asker, self.end, self.relay):
                self._step(station)
        return Passed(self.relay.core.statistics().cells_backward, self.seconds)

    def _step(self, station: Station) -> None:
        inbox, self.inboxes[station.identity.id] = self.inboxes[station.identity.id], []
        began = time.process_time()
        none: list[Command[Station]] = []
        sends, events = step(station, self.now, none, inbox)
        if station is self.relay:
            self.seconds += time.process_time() - began
        for send in sends:
            assert isinstance(send.to, Link)
            there, link = self.routes[station.identity.id, send.to]
            self.inboxes[there.identity.id].append((link, send.data))
        for event in events:
            self._hear(event)
        if station is self.end and self.far is not None:
            self._fill(self.far)

    def _hear(self, event: Event) -> None:
        match event:
            case Incoming(circuit):
                self.end.core.accept(self.now, circuit, b"")
                self.far = circuit
            case Opened(circuit):
                self.asker.core.send(self.now, circuit, 1, b"?")
            case Data(data=b"?"):
                self.heard = 1
            case Data(data=data):
                self.heard += len(data)
            case _:
                pass

    def _fill(self, circuit: CircuitId) -> None:
        core = self.end.core
        if self.heard and core.sizes()["circuits.unsent"] < 1_000_000:
            core.send(self.now, circuit, 1, bytes(500_000))


# --- over libp2p, on loopback ---


@dataclass(slots=True)
class Running:
    """A station over libp2p."""

    station: Station
    driver: Driver[Station]
    carrier: Libp2pCarrier
    events: trio.MemoryReceiveChannel[Event]


@final
class _Effects:
    """Dials what is wanted, and hands on the rest."""

    driver: Driver[Station]

    def __init__(
        self, carrier: Libp2pCarrier, board: Board, events: trio.MemorySendChannel[Event]
    ) -> None:
        self._carrier = carrier
        self._board = board
        self._events = events

    def handle(self, now: float, event: Event) -> None:
        match event:
            case Dial(peer):
                self._carrier.dial(peer, (self._board.places[peer],))
            case CloseLink(Link() as link, reason) if reason != "idle":
                self._carrier.close(link)
            case _:
                self._events.send_nowait(event)

    def link_up(self, link: Link, dialled: bool) -> None:
        self.driver.post(
            "link_up", lambda it, now: it.core.link_up(now, link, link.peer, dialled=dialled)
        )

    def link_down(self, link: Link) -> None:
        self.driver.post("link_down", lambda it, now: it.core.link_down(now, link))

    def dial_failed(self, peer: AdnlId) -> None:
        self.driver.post("dial_failed", lambda it, now: it.core.dial_failed(now, peer))


@asynccontextmanager
async def running(board: Board, *, listed: bool) -> AsyncIterator[Running]:
    """A station on a free port of loopback, until the block ends."""
    station, clock = Station(board, listed=listed), SystemClock()
    carrier = Libp2pCarrier(
        station.identity,
        network=NETWORK,
        listen=Endpoint("127.0.0.1", 0) if listed else None,
        entropy=SystemEntropy(),
    )
    send, receive = trio.open_memory_channel[Event](1_000_000)
    effects = _Effects(carrier, board, send)
    effects.driver = driver = Driver(station, carrier, effects, clock)
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(carrier.run, effects)
        if bound is not None:
            board.places[station.identity.id] = bound
        nursery.start_soon(driver.run)
        yield Running(station, driver, carrier, receive)
        nursery.cancel_scope.cancel()


@dataclass(slots=True)
class Line:
    """A circuit over so many relays, opened; `ping` and `answer` use it."""

    asker: Running
    end: Running
    near: CircuitId
    far: CircuitId
    relays: list[Running] = field(default_factory=list)

    async def ping(self) -> float:
        """Seconds to the endpoint and back."""
        began = trio.current_time()
        near = self.near
        self.asker.driver.call("ping", lambda it, now: it.core.ping(now, near))
        await self._until(Pong)
        return trio.current_time() - began

    async def answer(self, cells: int) -> float:
        """Cells of an answer of so many, a second of this process's time."""
        left, began, far = cells * 1_116, time.process_time(), self.far
        self.asker.driver.call("send", lambda it, now: it.core.send(now, self.near, 1, b"?"))
        async for event in self.end.events:
            if isinstance(event, Data):
                break
        heard = 0
        while heard < cells * 1_116:
            room = min(left, self.end.station.core.writable(far), 1_000_000)
            if room:
                left -= room
                self._say(bytes(room))
            event = await self.asker.events.receive()
            heard += len(event.data) if isinstance(event, Data) else 0
        return cells / (time.process_time() - began)

    def _say(self, data: bytes) -> None:
        far = self.far
        self.end.driver.call("send", lambda it, now: it.core.send(now, far, 1, data))

    async def _until(self, kind: type[Event]) -> None:
        async for event in self.asker.events:
            if isinstance(event, kind):
                return


@asynccontextmanager
async def line(relays: int) -> AsyncIterator[Line]:
    """A circuit over libp2p on loopback, all its nodes in this process."""
    board = Board()
    async with AsyncExitStack() as nodes:
        listed = [
            await nodes.enter_async_context(running(board, listed=True)) for _ in range(relays + 1)
        ]
        asker = await nodes.enter_async_context(running(board, listed=False))
        path = [each.station.target for each in listed]
        end = listed[-1]
        with trio.fail_after(PATIENCE):
            near = asker.driver.call("open", lambda it, now: it.core.open(now, path, b""))
            incoming = await end.events.receive()
            assert isinstance(incoming, Incoming)
            far = incoming.circuit
            end.driver.call("accept", lambda it, now: it.core.accept(now, far, b""))
            opened = await asker.events.receive()
            assert isinstance(opened, Opened), opened
        yield Line(asker, end, near, far, listed[:-1])
