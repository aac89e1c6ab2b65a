"""The face of `p2p.node.Node` with nothing behind it: calls and circuits, handed over whole.

Money moves over two seams of a node, calls between peers and circuits to an end; what stands on
them runs here unchanged, on trio under a virtual clock, and all that lies below is a delay and what
the faults of the run do to it. Calls are lost, doubled, reordered and damaged as datagrams are; a
circuit keeps its order and loses nothing, until a cut or a crash ends it for both sides.
"""

from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple, TypeAlias, final

import trio

from p2p import defaults
from p2p.calls import Query
from p2p.core import DATAGRAM
from p2p.errors import Timeout, Unreachable
from p2p.identity import AdnlId, Identity
from p2p.node import CircuitEvent
from p2p.onion.cell import CircuitId, Code
from p2p.onion.events import TIMED_OUT, Data, Ended, Failed, Incoming, Lost, Opened, Reset
from p2p.onion.handshake import Target
from p2p.onion.shaping import Shape
from p2p.overlay.advert import Role
from p2p.overlay.listing import Entry
from p2p.transport.fabric import Fabric
from p2p.wire import Link
from simulations.faults import Weather
from simulations.log import EventLog

NOTICED: Final = 10.0
"""seconds until a link that carries nothing any more is given up: the heartbeat's patience"""

RETRANSMIT: Final = 0.2
"""seconds until what was lost is sent again"""

RESET: Final = 1.0
"""seconds until those at the other ends of a crashed node's links hear of it"""

OPENING: Final = 10.0
"""seconds until a circuit that nobody answers has failed"""

WINDOW: Final = 64 * 1024
"""bytes that a circuit takes at a time"""

WAITING: Final = 256
"""calls, and circuits, that wait to be read"""

CallTap: TypeAlias = Callable[[float, int, int, bytes, bytes], None]
"""Shown each answered call on its way back: when, who asked whom, the request and the reply."""


class Passing(NamedTuple):
    """Something in a circuit, where it is sent or where it arrives."""

    at: float
    circuit: int
    """its number in the run"""
    src: int
    dst: int
    asks: bool
    """Whether it goes from who opened the circuit to its end."""
    arrives: bool
    event: CircuitEvent | Incoming


CircuitTap: TypeAlias = Callable[[Passing], None]
"""Shown all that passes through circuits."""


@final
class Board:
    """The directory that everybody holds: who is listed, whether up or not."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries: Mapping[AdnlId, Entry] = {entry.id: entry for entry in entries}

    def find(self, node: AdnlId) -> Entry | None:
        """As `Listing.find`."""
        return self._entries.get(node)

    def usable(self, role: Role, model: bytes | None = None) -> list[Entry]:
        """As `Listing.usable`."""
        return [one for one in self._entries.values() if role in one.advert.roles]


@final
class Faces:
    """All faces of a run, and what is on its way between them. `run` carries it."""

    def __init__(
        self,
        fabric: Fabric,
        weather: Weather,
        log: EventLog | None,
        now: Callable[[], float],
        board: Board,
    ) -> None:
        self.now = now
        self.board = board
        self.weather = weather
        self.call_taps: list[CallTap] = []
        self.circuit_taps: list[CircuitTap] = []
        self._fabric = fabric
        self._log = log
        self._up: dict[AdnlId, Face] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._entries = 0
        self.numbered = 0
        self._scope = trio.CancelScope()

    def face(self, identity: Identity, index: int) -> "Face":
        """A node's face from now on."""
        face = self._up[identity.id] = Face(self, identity, index)
        return face

    def up(self, node: AdnlId) -> "Face | None":
        """The face of a node that is up."""
        face = self._up.get(node)
        return face if face is not None and face.is_up else None

    async def run(self) -> None:
        """Carry, until cancelled."""
        while True:
            while self._heap and self._heap[0][0] <= self.now():
                heappop(self._heap)[2]()
            until = self._heap[0][0] - self.now() if self._heap else float("inf")
            with trio.CancelScope() as self._scope:
                await trio.sleep(max(0.0, until))

    def post(self, when: float, action: Callable[[], None]) -> None:
        """Do something at an instant that is not past."""
        heappush(self._heap, (when, self._entries, action))
        self._entries += 1
        if self._heap[0][2] is action:
            self._scope.cancel()

    def number(self) -> int:
        """Of the next circuit; `numbered` tells it again."""
        self.numbered += 1
        return self.numbered

    def copies(self, src: int, dst: int, size: int) -> list[float]:
        """seconds until each copy of a call or reply arrives; none if it is lost."""
        now = self.now()
        arrivals = self._fabric.route(now, src, dst, size)
        return [at - now + late for late in self.weather.copies(now, src, dst) for at in arrivals]

    def delay(self, src: int, dst: int, size: int) -> float:
        """seconds that something takes on a way that loses nothing: what is lost is sent again."""
        now, late = self.now(), 0.0
        while not (arrivals := self._fabric.route(now, src, dst, size)):
            late += RETRANSMIT
        return late + max(arrivals) - now

    def record(self, node: int, peer: int, data: bytes) -> None:
        """Something has arrived."""
        if self._log is not None:
            self._log.add(self.now(), node, DATAGRAM, peer, data)


@final
class Face:
    """What is used of a `Node` by who asks, serves, pays and mints; until its node goes down."""

    def __init__(self, faces: Faces, identity: Identity, index: int) -> None:
        self.id = identity.id
        self.public = identity.public
        self.index = index
        self.is_up = True
        self.directory = faces.board
        self._incoming, self.incoming = trio.open_memory_channel[Incoming](WAITING)
        self._queries, self.queries = trio.open_memory_channel[Query](WAITING)
        self._faces = faces
        self._ends: dict[CircuitId, _End] = {}
        self._circuits = 0
        self._numbers = 0
        self._replies: dict[int, _Reply] = {}
        self._asked: dict[int, Callable[[bytes], None]] = {}

    def crash(self) -> None:
        """Be gone."""
        self.is_up = False
        for end in list(self._ends.values()):
            end.lose(RESET)
        self._ends.clear()

    def rebind(self) -> None:
        """Every link breaks, and both sides see it."""
        for end in list(self._ends.values()):
            end.lose(RESET)
            end.hear(Lost(end.circuit, None))

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {
            "circuits": len(self._ends),
            "calls": len(self._replies),
            "asked": len(self._asked),
        }

    async def joined(self) -> None:
        """As soon as it is up."""
        await trio.lowlevel.checkpoint()

    # --- calls ---

    async def query(self, peer: AdnlId, body: bytes) -> bytes:
        """As `Node.query`."""
        self._numbers += 1
        number = self._numbers
        reply = self._replies[number] = _Reply()
        try:
            self._ask(peer, number, body)
            with trio.move_on_after(defaults.CALL_TIMEOUT):
                await reply.there.wait()
        finally:
            del self._replies[number]
        if reply.body is None:
            raise Unreachable("nobody is there") if reply.there.is_set() else Timeout()
        return reply.body

    def answer(self, query: Query, body: bytes) -> None:
        """As `Node.answer`."""
        back = self._asked.pop(query.number, None)
        if back is not None and self.is_up:
            back(body)

    def _ask(self, peer: AdnlId, number: int, body: bytes) -> None:
        there = self._faces.up(peer)
        if there is None:
            delay = self._faces.delay(self.index, self.index, len(body))
            self._later(delay, lambda: self._hear_reply(number, None))
            return
        for late in self._faces.copies(self.index, there.index, len(body)):
            data = self._faces.weather.mangled(self._faces.now(), self.index, body)
            self._later(late, self._asking(there, number, data))

    def _asking(self, there: "Face", number: int, body: bytes) -> Callable[[], None]:
        return lambda: there.hear_query(self, number, body)

    def hear_query(self, asker: "Face", number: int, body: bytes) -> None:
        """A call arrives."""
        faces = self._faces
        if not self.is_up or faces.weather.cut(faces.now(), asker.index, self.index):
            return
        faces.record(self.index, asker.index, body)
        self._numbers += 1
        query = Query(asker.id, Link(asker.id, 0), self._numbers, body)
        self._asked[query.number] = lambda reply: self._reply(asker, number, body, reply)
        try:
            self._queries.send_nowait(query)
        except (trio.WouldBlock, trio.BrokenResourceError):
            del self._asked[query.number]

    def _reply(self, asker: "Face", number: int, body: bytes, reply: bytes) -> None:
        faces = self._faces
        for tap in faces.call_taps:
            tap(faces.now(), asker.index, self.index, body, reply)
        for late in faces.copies(self.index, asker.index, len(reply)):
            data = faces.weather.mangled(faces.now(), self.index, reply)
            self._later(late, self._replying(asker, number, data))

    def _replying(self, asker: "Face", number: int, reply: bytes) -> Callable[[], None]:
        def arrive() -> None:
            if not self._faces.weather.cut(self._faces.now(), self.index, asker.index):
                self._faces.record(asker.index, self.index, reply)
                asker._hear_reply(number, reply)  # noqa: SLF001 - of its own class

        return arrive

    def _hear_reply(self, number: int, body: bytes | None) -> None:
        reply = self._replies.get(number)
        if reply is not None and not reply.there.is_set() and self.is_up:
            reply.body = body
            reply.there.set()

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        self._faces.post(self._faces.now() + delay, action)

    # --- circuits ---

    def path(
        self, worker: AdnlId, relays: int = 0, suspects: Sequence[AdnlId] = ()
    ) -> list[Target]:
        """The end alone: the hops before it are part of the delay."""
        return [Target(id=worker, onion_key=bytes(32))]

    def open(
        self,
        path: Sequence[Target],
        request: bytes,
        *,
        rate: int = 0,
        resumable: bool = False,
    ) -> CircuitId:
        """As `Node.open`; cells are below this, and so is the shape of a request."""
        end = self._end()
        there = self._faces.up(path[-1].id)
        if there is not None:
            other = there.far_end(end)
            arrive = there.hearing_of(other, request)
            end.tap(Incoming(other.circuit, request), arrives=False)
            end.post(arrive, len(request))
        self._later(OPENING, lambda: end.failed(TIMED_OUT))
        return end.circuit

    def far_end(self, near: "_End") -> "_End":
        """The other end of a circuit that is being opened to this node."""
        end = self._end()
        end.other, near.other = near, end
        end.number, near.number = self._faces.number(), self._faces.numbered
        near.asks = True
        return end

    def hearing_of(self, end: "_End", request: bytes) -> Callable[[], None]:
        """What happens when a circuit's request arrives."""

        def arrive() -> None:
            try:
                self._incoming.send_nowait(Incoming(end.circuit, request))
            except (trio.WouldBlock, trio.BrokenResourceError):
                end.close()

        return arrive

    def events(self, circuit: CircuitId) -> "trio.MemoryReceiveChannel[CircuitEvent]":
        """As `Node.events`."""
        end = self._ends.get(circuit)
        return _ended() if end is None else end.events

    def accept(
        self, incoming: Incoming, offer: bytes, *, rate: int = 0, resumable: bool = False
    ) -> None:
        """As `Node.accept`."""
        end = self._ends.get(incoming.circuit)
        if end is not None and end.other is not None:
            end.say(Opened(end.other.circuit, offer, bytes(32)), len(offer))

    def refuse(self, incoming: Incoming, reason: bytes) -> None:
        """As `Node.refuse`."""
        end = self._ends.get(incoming.circuit)
        if end is not None and end.other is not None:
            end.say(Failed(end.other.circuit, 0, Code.REFUSED, reason), len(reason))
            self._ends.pop(incoming.circuit)

    def send(self, circuit: CircuitId, stream: int, data: bytes) -> None:
        """As `Node.send`."""
        end = self._ends.get(circuit)
        if end is not None and end.other is not None:
            end.say(Data(end.other.circuit, stream, data), len(data))

    def writable(self, circuit: CircuitId) -> int:
        """As `Node.writable`: nothing fills up here."""
        return WINDOW if circuit in self._ends else 0

    def shape(self, circuit: CircuitId) -> Shape | None:
        """None: nothing is shaped here."""
        return None

    def end(self, circuit: CircuitId, stream: int) -> None:
        """As `Node.end`."""
        end = self._ends.get(circuit)
        if end is not None and end.other is not None:
            end.say(Ended(end.other.circuit, stream), 0)

    def reset(self, circuit: CircuitId, stream: int, code: int) -> None:
        """As `Node.reset`."""
        end = self._ends.get(circuit)
        if end is not None and end.other is not None:
            end.say(Reset(end.other.circuit, stream, code), 0)

    def close(self, circuit: CircuitId) -> None:
        """As `Node.close`."""
        end = self._ends.get(circuit)
        if end is not None:
            end.close()

    def _end(self) -> "_End":
        self._circuits += 1
        end = _End(self._faces, self, CircuitId(self._circuits))
        self._ends[end.circuit] = end
        return end

    def drop(self, circuit: CircuitId) -> None:
        """An end is over."""
        self._ends.pop(circuit, None)


@final
class _Reply:
    """What comes of a call; no body: nobody was there."""

    def __init__(self) -> None:
        self.there = trio.Event()
        self.body: bytes | None = None


@final
class _End:
    """One node's end of a circuit."""

    def __init__(self, faces: Faces, face: Face, circuit: CircuitId) -> None:
        self.circuit = circuit
        self.face = face
        self.other: _End | None = None
        self.number = 0
        self.asks = False
        self._put, self.events = trio.open_memory_channel[CircuitEvent](float("inf"))
        self._faces = faces
        self._is_answered = False
        self._is_over = False
        self._latest = 0.0

    def say(self, event: CircuitEvent, size: int) -> None:
        """Send to the other end, behind what was sent before."""
        other = self.other
        if other is None or not self.face.is_up or self._is_over:
            return
        self.tap(event, arrives=False)
        self.post(lambda: self._arrive(other, event), size)

    def post(self, arrive: Callable[[], None], size: int) -> None:
        """Have something arrive, unless the way is cut by then: that ends the circuit."""
        other = self.other
        assert other is not None
        now, ways = self._faces.now(), (self.face.index, other.face.index)
        late = self._faces.weather.ordered(now, *ways)
        self._latest = max(self._latest, now + late + self._faces.delay(*ways, size))

        def deliver() -> None:
            if self._faces.weather.cut(self._faces.now(), *ways) or not other.face.is_up:
                self.lose(NOTICED)
                self._later(NOTICED, lambda: self.hear(Lost(self.circuit, None)))
            else:
                arrive()

        self._faces.post(self._latest, deliver)

    def hear(self, event: CircuitEvent) -> None:
        """Something arrives."""
        if self._is_over or not self.face.is_up:
            return
        self._is_answered = self._is_answered or isinstance(event, Opened)
        try:
            self._put.send_nowait(event)
        except trio.BrokenResourceError:
            self._over()
            return
        if isinstance(event, Lost | Failed):
            self._over()

    def failed(self, status: int) -> None:
        """Nobody has answered."""
        if not self._is_answered and not self._is_over:
            self.hear(Failed(self.circuit, None, status))
            self.lose(RESET)

    def close(self) -> None:
        """End it here, and tell the other side."""
        if self.other is not None and not self._is_over:
            self.say(Lost(self.other.circuit, None), 0)
        self._over()

    def lose(self, after: float) -> None:
        """The other side finds out by and by."""
        other = self.other
        if other is not None:
            self._later(after, lambda: other.hear(Lost(other.circuit, None)))

    def _arrive(self, other: "_End", event: CircuitEvent) -> None:
        data = event.data if isinstance(event, Data) else type(event).__name__.encode()
        self._faces.record(other.face.index, self.face.index, data)
        self.tap(event, arrives=True)
        other.hear(event)

    def tap(self, event: CircuitEvent | Incoming, *, arrives: bool) -> None:
        """Show it to who watches."""
        assert self.other is not None
        ways = self.face.index, self.other.face.index
        for tap in self._faces.circuit_taps:
            tap(Passing(self._faces.now(), self.number, *ways, self.asks, arrives, event))

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        self._faces.post(self._faces.now() + delay, action)

    def _over(self) -> None:
        self._is_over = True
        self._put.close()
        self.face.drop(self.circuit)


def _ended() -> "trio.MemoryReceiveChannel[CircuitEvent]":
    """The events of a circuit that is gone."""
    sender, receiver = trio.open_memory_channel[CircuitEvent](0)
    sender.close()
    return receiver
