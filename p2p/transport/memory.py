"""Transports without a network: ports on a `Fabric` for datagrams, and a carrier of links.

Both have the production shape, so that the trio driver cannot tell them from sockets. Ports live
in virtual time and one task moves everything: never a task per message. The carrier takes no time
at all; it is what `p2p/transport/libp2p.py` is measured against.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Final, final

import trio

from p2p.core import Source
from p2p.defaults import LINK_QUEUE
from p2p.drive import Clock
from p2p.entropy import Entropy
from p2p.errors import Closed, LocalError
from p2p.identity import AdnlId, Identity
from p2p.transport.carrier import CarrierStatistics, Listener, Tap
from p2p.transport.fabric import Datagram, Fabric, FabricStatistics, Naming, Timetable
from p2p.transport.frames import FROM_CORES
from p2p.wire import Endpoint, Kind, Link

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus


@final
class MemoryNetwork:
    """Ports joined by a fabric. `run` must be running for anything to arrive unasked."""

    def __init__(
        self, fabric: Fabric, naming: Naming, clock: Clock, *, datagrams: Fabric | None = None
    ) -> None:
        self._timetable = Timetable(fabric, naming, datagrams)
        self._clock = clock
        self._ports: dict[int, Port] = {}
        self._pump: trio.CancelScope | None = None

    def port(self, node: int) -> "Port":
        """Open the port of a node. Raises `ValueError` while it has one."""
        if node in self._ports:
            raise ValueError(f"node {node} has an open port")
        self._ports[node] = port = Port(self, node)
        return port

    def enter(
        self, when: float, node: int, turn: int, a: int, b: int, action: Callable[[], None]
    ) -> None:
        """Do something in the place that `Timetable` gives it among the arrivals."""
        self._timetable.enter(when, node, turn, a, b, action)
        self._hurry()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            self.deliver()
            with trio.CancelScope() as self._pump:
                self._hurry()
                await trio.sleep(math.inf)
            self._pump = None

    def deliver(self) -> None:
        """Hand over everything due. Called by whoever runs first at an instant, not the pump only.

        So one `take` gives all that the instant holds, whatever order trio runs its tasks in.
        """
        now, heap = self._clock.now(), self._timetable.heap
        while heap and heap[0][0] <= now:
            when, node, _, a, b, payload = heapq.heappop(heap)
            if isinstance(payload, Datagram):
                self._arrive(when, node, a, b, payload)
            elif payload is not None:
                payload()

    def send(self, now: float, node: int, to: Source, data: bytes) -> None:
        """What `Port.send` does."""
        self._timetable.send(now, node, to, data)
        self._hurry()

    def close(self, node: int) -> None:
        """What `Port.close` does."""
        self._ports.pop(node, None)

    def statistics(self) -> FabricStatistics:
        """A snapshot of the counters."""
        return self._timetable.statistics()

    def _arrive(self, when: float, node: int, src: int, number: int, datagram: Datagram) -> None:
        port = self._ports.get(node)
        if port is None:
            self._timetable.miss()
        elif self._timetable.admit(when, node, src, number, datagram):
            port.put(datagram.source, datagram.data)

    def _hurry(self) -> None:
        """Let the pump wake at the earliest entry."""
        if self._pump is not None and self._timetable.heap:
            when = self._clock.trio_time(self._timetable.heap[0][0])
            if when < self._pump.deadline:
                self._pump.deadline = when


@final
class Port:
    """The `Transport` of one node on a memory network.

    `take` knows no limit: what one instant holds is one step. So the inbox is as long as what
    arrives between two steps of its driver, which takes all of it each time.
    """

    def __init__(self, network: MemoryNetwork, node: int) -> None:
        self._network = network
        self._node = node
        self._inbox: list[tuple[Source, bytes]] = []
        self._stirred = trio.Event()
        self._open = True

    def take(self, limit: int = 64) -> list[tuple[Source, bytes]]:
        self._network.deliver()
        if not self._open:
            raise Closed("the port is closed")
        taken, self._inbox = self._inbox, []
        self._stirred = trio.Event()
        return taken

    async def wait(self) -> None:
        await self._stirred.wait()

    def send(self, now: float, to: Source, data: bytes) -> None:
        if self._open:
            self._network.send(now, self._node, to, data)

    def put(self, source: Source, data: bytes) -> None:
        """Add what has arrived."""
        self._inbox.append((source, data))
        self._stirred.set()

    def close(self) -> None:
        """Shut the port: what is under way to it is lost, and its driver meets `Closed`."""
        if self._open:
            self._open = False
            self._network.close(self._node)
            self._stirred.set()


# --- the carrier ---

_FIRST_PORT: Final = 49_152
"""The first of the ports that are given out where port 0 is asked for, as IANA has it."""

_links: Final = count(1)
"""Numbers of links, unique in this process."""


@final
class Ether:
    """What memory carriers share: who listens where."""

    def __init__(self) -> None:
        self._listening: dict[Endpoint, MemoryCarrier] = {}
        self._ports = count(_FIRST_PORT)

    def bind(self, endpoint: Endpoint, carrier: "MemoryCarrier") -> Endpoint:
        """Let a carrier listen. Raises `LocalError` if another one does there."""
        if endpoint.port == 0:
            endpoint = endpoint._replace(port=next(self._ports))
        if endpoint in self._listening:
            raise LocalError(f"port {endpoint.port} is taken: choose another port")
        self._listening[endpoint] = carrier
        return endpoint

    def release(self, endpoint: Endpoint) -> None:
        """Nobody listens there any more."""
        del self._listening[endpoint]

    def at(self, endpoint: Endpoint) -> "MemoryCarrier | None":
        """Who listens there."""
        return self._listening.get(endpoint)


@final
class _Inbox:
    """Messages of one link that have arrived; ONION goes ahead, as on a wire with a queue."""

    def __init__(self) -> None:
        self._onion: deque[bytes] = deque()
        self._rest: deque[bytes] = deque()
        self.bytes = 0

    def put(self, message: bytes) -> None:
        (self._onion if message[0] == Kind.ONION else self._rest).append(message)
        self.bytes += len(message)

    def pop(self) -> bytes:
        message = (self._onion or self._rest).popleft()
        self.bytes -= len(message)
        return message

    def clear(self) -> None:
        self._onion.clear()
        self._rest.clear()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._onion) + len(self._rest)


@final
class _End:
    """One end of a link: up, then over (only what has arrived is still taken), then gone."""

    def __init__(self, link: Link, *, dialled: bool) -> None:
        self.link = link
        self.dialled = dialled
        self.far: tuple[MemoryCarrier, _End] | None = None
        self.inbox = _Inbox()
        self.over = False
        self.gone = trio.Event()


@final
class MemoryCarrier:
    """The `Carrier` of one process: the same promises as libp2p's, and no bytes on any wire."""

    def __init__(
        self,
        identity: Identity,
        *,
        network: int,
        listen: Endpoint | None,
        entropy: Entropy,
        ether: Ether,
        tap: Tap | None = None,
    ) -> None:
        del entropy  # nothing here is random; the shape is that of the other carrier
        self.id = identity.id
        self.network = network
        self._listen = listen
        self._ether = ether
        self._tap = tap

        self._listener: Listener | None = None
        self._nursery: trio.Nursery | None = None
        self._ends: dict[Link, _End] = {}
        self._peers: dict[AdnlId, _End] = {}
        self._dialling: dict[AdnlId, trio.Event] = {}
        self._ready: deque[_End] = deque()
        self._stirred = trio.Event()
        self._ending = trio.Event()
        self._shut = False

        self._dials = self._dials_failed = self._refused = self._closed = self._dropped = 0
        self._sent = self._received = self._bytes_sent = self._bytes_received = 0

    async def run(
        self,
        listener: Listener,
        *,
        task_status: "TaskStatus[Endpoint | None]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; started with the bound endpoint, None for a dial-only node.

        All links are down when it ends. Raises `LocalError` if the endpoint is taken.
        """
        bound = None if self._listen is None else self._ether.bind(self._listen, self)
        self._listener = listener
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started(bound)
                await self._bury()
        finally:
            self._nursery = None
            if bound is not None:
                self._ether.release(bound)
            self._shut_down()

    # --- the driver's side: nothing here waits ---

    def dial(self, peer: AdnlId, endpoints: Sequence[Endpoint]) -> None:
        """Ask for a link; the listener hears `link_up` or `dial_failed` later."""
        end = self._peers.get(peer)
        if self._nursery is None or peer in self._dialling or (end is not None and not end.over):
            return
        self._dials += 1
        self._dialling[peer] = trio.Event()
        self._nursery.start_soon(self._dial, peer, tuple(endpoints))

    def knock(self, peer: AdnlId, endpoint: Endpoint) -> None:
        """Try one endpoint once, and tell nobody if no link comes of it."""
        end = self._peers.get(peer)
        if self._nursery is None or peer in self._dialling or (end is not None and not end.over):
            return
        self._nursery.start_soon(self._reach, peer, (endpoint,))

    def close(self, link: Link, *, dead: bool = False) -> None:
        """Close a link; the listener hears `link_down` later."""
        end = self._ends.get(link)
        if end is not None and not end.over:
            self._discard(end)
            self._end(end)

    def send(self, now: float, to: Source, data: bytes) -> None:
        """Give a message to the other end; it is dropped if the link is gone.

        Raises `LocalError` for what is no message for a link: our own bug.
        """
        if not isinstance(to, Link) or not data or data[0] not in FROM_CORES:
            raise LocalError("only messages of the seam go out, and only to links")
        end = self._ends.get(to)
        if end is None or end.over or end.far is None:
            self._dropped += 1
            return
        self._sent += 1
        self._bytes_sent += len(data)
        if self._tap is not None:
            self._tap(to, True, data)
        carrier, far = end.far
        carrier.receive(far, data)

    def take(self, limit: int = 64) -> list[tuple[Source, bytes]]:
        """What has arrived, a message a link in turn. Raises `Closed` after the run."""
        if self._shut:
            raise Closed("the carrier is shut")
        taken: list[tuple[Source, bytes]] = []
        while self._ready and len(taken) < limit:
            end = self._ready.popleft()
            taken.append((end.link, self._pop(end)))
        if not self._ready:
            self._stirred = trio.Event()
        return taken

    async def wait(self) -> None:
        """Return when `take` may have something to give, or to raise. A checkpoint always."""
        await self._stirred.wait()

    def statistics(self) -> CarrierStatistics:
        """A snapshot of the counters."""
        return CarrierStatistics(
            links=len(self._ends),
            dialling=len(self._dialling),
            inbox=sum(len(end.inbox) for end in self._ready),
            outbox=0,
            dials=self._dials,
            dials_failed=self._dials_failed,
            refused=self._refused,
            closed=self._closed,
            dropped=self._dropped,
            sent=self._sent,
            received=self._received,
            bytes_sent=self._bytes_sent,
            bytes_received=self._bytes_received,
        )

    # --- the other carriers' side ---

    def greet(self, caller: "MemoryCarrier", far: _End) -> _End | None:
        """Our end of a link that `caller` asks for; None if it is refused."""
        if caller.network != self.network or caller.id == self.id:
            self._refused += 1
            return None
        end = _End(Link(caller.id, next(_links)), dialled=False)
        end.far, far.far = (caller, far), (self, end)
        self.enter(end)
        return end

    def enter(self, end: _End) -> None:
        """A link is up."""
        self._ends[end.link] = self._peers[end.link.peer] = end
        if self._listener is not None:
            self._listener.link_up(end.link, end.dialled)

    def receive(self, end: _End, message: bytes) -> None:
        """A message has arrived; who reads too slowly loses the link."""
        if end.over:
            self._dropped += 1
            return
        if end.inbox.bytes + len(message) > LINK_QUEUE:
            self._closed += 1
            self._end(end)
            return
        self._received += 1
        self._bytes_received += len(message)
        if self._tap is not None:
            self._tap(end.link, False, message)
        if not end.inbox:
            self._ready.append(end)
        end.inbox.put(message)
        self._stirred.set()

    def hang_up(self, end: _End) -> None:
        """The other end is over: so is ours, once what has arrived is taken."""
        end.over = True
        self._ending.set()

    def cut_off(self, end: _End) -> None:
        """The other carrier has ended without a word: what was under way is lost."""
        self._discard(end)
        self.hang_up(end)

    async def dialled(self, peer: AdnlId) -> None:
        """Wait until no dial to the peer is under way: of two, the smaller id's makes the link."""
        while (dialling := self._dialling.get(peer)) is not None:
            await dialling.wait()

    async def left(self, peer: AdnlId) -> None:
        """Wait until no link to the peer is over and not yet gone."""
        while (end := self._peers.get(peer)) is not None and end.over:
            await end.gone.wait()

    # --- inside ---

    async def _dial(self, peer: AdnlId, endpoints: tuple[Endpoint, ...]) -> None:
        try:
            reached = await self._reach(peer, endpoints)
        finally:
            self._dialling.pop(peer).set()
        if not reached:
            self._dials_failed += 1
            if self._listener is not None:
                self._listener.dial_failed(peer)

    async def _reach(self, peer: AdnlId, endpoints: tuple[Endpoint, ...]) -> bool:
        await trio.lowlevel.checkpoint()
        await self.left(peer)
        for endpoint in endpoints:
            if peer in self._peers or await self._attempt(peer, self._ether.at(endpoint)):
                break
        return peer in self._peers

    async def _attempt(self, peer: AdnlId, carrier: "MemoryCarrier | None") -> bool:
        if carrier is None or carrier.id != peer:
            return False
        if peer < self.id:
            await carrier.dialled(self.id)
        await carrier.left(self.id)
        if peer in self._peers:
            return True
        end = _End(Link(peer, next(_links)), dialled=True)
        if carrier.greet(self, end) is None:
            return False
        self.enter(end)
        return True

    def _pop(self, end: _End) -> bytes:
        message = end.inbox.pop()
        if end.inbox:
            self._ready.append(end)
        elif end.over:
            self._ending.set()
        return message

    def _discard(self, end: _End) -> None:
        if end.inbox:
            self._dropped += len(end.inbox)
            self._ready.remove(end)
            end.inbox.clear()

    def _end(self, end: _End) -> None:
        """Make both ends over."""
        self.hang_up(end)
        if end.far is not None:
            carrier, far = end.far
            carrier.hang_up(far)

    async def _bury(self) -> None:
        """Let go of ends that are over once what they brought is taken."""
        while True:
            await self._ending.wait()
            self._ending = trio.Event()
            for end in [end for end in self._ends.values() if end.over and not end.inbox]:
                self._gone(end)

    def _gone(self, end: _End) -> None:
        if end.gone.is_set():
            return
        end.gone.set()
        self._discard(end)
        end.far = None
        del self._ends[end.link]
        if self._peers.get(end.link.peer) is end:
            del self._peers[end.link.peer]
        if self._listener is not None:
            self._listener.link_down(end.link)

    def _shut_down(self) -> None:
        for end in list(self._ends.values()):
            if end.far is not None:
                carrier, far = end.far
                carrier.cut_off(far)
            self._gone(end)
        self._shut = True
        self._stirred.set()
