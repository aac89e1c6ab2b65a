"""The two ends of a circuit: who asks, and who answers.

The asker knows the whole path; the endpoint knows the link that the circuit came by, by number, and
nothing else of where it comes from.
"""

from collections.abc import Sequence
from typing import TypeAlias, final

from p2p import defaults
from p2p.core import Event
from p2p.entropy import Entropy
from p2p.errors import NoCapacity, OnionError
from p2p.identity import AdnlId
from p2p.onion.cell import Cell, CircuitId, Code, Command, DestroyReason, Hop, Kind, Layers
from p2p.onion.events import (
    BAD_REPLY,
    DESTROYED,
    GUARD_UNREACHABLE,
    TIMED_OUT,
    Data,
    Dial,
    Ended,
    Failed,
    Incoming,
    Lost,
    Opened,
    Pong,
    Reset,
)
from p2p.onion.handshake import Accepted, ClientHandshake, Refused, Target
from p2p.onion.handshake import Ended as EndCreate
from p2p.onion.link import LinkCore, Port, Side
from p2p.onion.links import Links
from p2p.onion.path import Guards
from p2p.onion.relay import Admission, House
from p2p.onion.streams import Streams
from p2p.onion.timers import Due, Key, Timers


@final
class ClientCircuit:
    """A circuit this node asked for: building until it has layers."""

    __slots__ = ("create", "guard", "half", "handshake", "layers", "port", "streams", "used")

    def __init__(self, guard: AdnlId, handshake: ClientHandshake, create: bytes) -> None:
        self.guard = guard
        self.handshake: ClientHandshake | None = handshake
        self.create = create
        self.port: Port | None = None
        self.half: bytes | None = None
        """The first frame of the CREATED."""
        self.layers: Layers | None = None
        self.streams = Streams(asker=True)
        self.used = 0.0
        """When a cell last came or went."""

    def seal(self, cell: Cell) -> bytes:
        """The body of a frame to the guard."""
        assert self.layers is not None, "only an open circuit sends"
        return self.layers.seal(cell.pack(self.layers.hops))

    def open(self, body: bytes) -> bytes:
        """The endpoint's text. Raises `OnionError`."""
        if self.layers is None:
            raise OnionError("a cell before the circuit is open")
        return self.layers.open(body)


@final
class EndCircuit:
    """A circuit that ends here: asked for until it has a hop's keys."""

    __slots__ = ("create", "hop", "port", "streams", "used")

    def __init__(self, port: Port, create: EndCreate) -> None:
        self.port = port
        self.create: EndCreate | None = create
        """The CREATE, until it is answered."""
        self.hop: Hop | None = None
        self.streams = Streams(asker=False)
        self.used = 0.0
        """When a cell last came or went."""

    def seal(self, cell: Cell) -> bytes:
        """The body of a frame to the last relay."""
        assert self.hop is not None, "only an open circuit sends"
        return self.hop.backward(cell.pack(self.hop.depth))

    def open(self, body: bytes) -> bytes:
        """The asker's text. Raises `OnionError`."""
        if self.hop is None:
            raise OnionError("a cell before the circuit is open")
        return self.hop.forward(body)


Circuit: TypeAlias = ClientCircuit | EndCircuit


@final
class CircuitCore:
    """The circuits that begin or end at this node. Ports name them by `CircuitId`."""

    def __init__(
        self,
        house: House,
        links: Links,
        timers: Timers,
        admission: Admission,
        entropy: Entropy,
        guards: Guards,
    ) -> None:
        self._house = house
        self._guards = guards
        self._links = links
        self._timers = timers
        self._admission = admission
        self._entropy = entropy
        self._events: list[Event] = links.events
        self._count = 0
        self._circuits: dict[int, Circuit] = {}
        self._waiting: dict[AdnlId, dict[CircuitId, None]] = {}
        self.sent = 0
        """Cells of our own circuits that were sealed."""
        self.received = 0
        """Cells of our own circuits that were opened."""

    def __len__(self) -> int:
        return len(self._circuits)

    def sizes(self) -> dict[str, int]:
        """The length of every table and queue."""
        return {
            "circuits": len(self._circuits),
            "waiting": sum(len(ids) for ids in self._waiting.values()),
            "unsent": sum(circuit.streams.queued for circuit in self._circuits.values()),
        }

    # --- set-up, asking ---

    def ask(self, now: float, path: Sequence[Target], request: bytes) -> CircuitId:
        """Build a circuit; `Opened` or `Failed` follows."""
        handshake = ClientHandshake(
            path, network=self._house.network, kem=self._house.kem, entropy=self._entropy
        )
        circuit_id = self._new_id()
        try:
            create = handshake.create(int(now), request)
        except OnionError:
            self._events.append(Failed(circuit_id, None, BAD_REPLY))
            return circuit_id

        circuit = ClientCircuit(path[0].id, handshake, create)
        self._circuits[circuit_id] = circuit
        self._timers.set(Key(Due.OPEN, circuit_id), now + defaults.OPEN_TIMEOUT)
        link = self._links.to(circuit.guard)
        if link is not None:
            self._send_create(now, circuit_id, circuit, link)
        else:
            self._waiting.setdefault(circuit.guard, {})[circuit_id] = None
            self._events.append(Dial(circuit.guard))
        return circuit_id

    def link_up(self, now: float, link: LinkCore) -> None:
        """A link to a guard that circuits may wait for."""
        for circuit_id in self._waiting.pop(link.peer, {}):
            circuit = self._circuits[circuit_id]
            assert isinstance(circuit, ClientCircuit), "only an asker waits for a link"
            self._send_create(now, circuit_id, circuit, link)

    def dial_failed(self, now: float, peer: AdnlId) -> None:
        """The guard of these cannot be reached."""
        for circuit_id in list(self._waiting.get(peer, ())):
            self._fail(now, circuit_id, GUARD_UNREACHABLE)

    def created(self, now: float, port: Port, body: bytes, *, more: bool) -> None:
        """One frame of a CREATED from the guard."""
        circuit_id = CircuitId(port.number)
        circuit = self._circuits[circuit_id]
        if (
            isinstance(circuit, EndCircuit)
            or circuit.handshake is None
            or more == (circuit.half is not None)
        ):
            self._break(now, circuit_id)
        elif more:
            circuit.half = body
        else:
            self._read_reply(now, circuit_id, circuit, (circuit.half or b"") + body)

    def overdue(self, now: float, circuit_id: CircuitId) -> None:
        """The path has not answered in time."""
        port = self._circuits[circuit_id].port
        self._fail(now, circuit_id, TIMED_OUT if port is not None else GUARD_UNREACHABLE)
        if port is not None:
            self._links.destroy(now, port, DestroyReason.OTHER)

    # --- set-up, answering ---

    def begin(self, now: float, link: LinkCore, circuit: int, create: EndCreate) -> None:
        """Show an admitted CREATE to the endpoint's application."""
        circuit_id = self._new_id()
        port = self._links.open(link, Side.ANSWERED, circuit_id, circuit)
        self._circuits[circuit_id] = EndCircuit(port, create)
        self._timers.set(Key(Due.ANSWER, circuit_id), now + defaults.ANSWER_TIME)
        self._events.append(Incoming(circuit_id, create.request))

    def accept(self, now: float, circuit_id: CircuitId, offer: bytes) -> None:
        """The application says yes."""
        circuit = self._circuits.get(circuit_id)
        if not isinstance(circuit, EndCircuit) or circuit.create is None:
            return
        answered = circuit.create.accept(int(now), offer)
        circuit.create, circuit.hop = None, answered.hop
        self._admission.counts["ok"] += 1
        self._timers.clear(Key(Due.ANSWER, circuit_id))
        self._timers.set(Key(Due.AGE, circuit_id), now + defaults.CIRCUIT_LIFE)
        self._links.send_handshake(circuit.port, Command.CREATED, answered.reply)

    def refuse(self, now: float, circuit_id: CircuitId, reason: bytes) -> None:
        """The application says no."""
        circuit = self._circuits.get(circuit_id)
        if not isinstance(circuit, EndCircuit) or circuit.create is None:
            return
        self._admission.refuse(now, circuit.port, circuit.create, Code.REFUSED, reason)
        self._forget(circuit_id)

    def unanswered(self, now: float, circuit_id: CircuitId) -> None:
        """The application says nothing."""
        self.refuse(now, circuit_id, b"")
        self._events.append(Lost(circuit_id, None))

    # --- streams ---

    def streams(self, circuit_id: CircuitId) -> Streams | None:
        """The streams of an open circuit; `pump` after queueing on them."""
        circuit = self._circuits.get(circuit_id)
        return None if circuit is None or not _is_open(circuit) else circuit.streams

    def pump(self, now: float, circuit_id: int) -> None:
        """Seal what the credit of the circuit lets out."""
        circuit = self._circuits[circuit_id]
        port = circuit.port
        if port is None or not _is_open(circuit):
            return
        while len(port.queue) < port.credit:
            cell = circuit.streams.next()
            if cell is None:
                return
            if self._house.tap is not None:
                self._house.tap("sealed", cell.pack(1))
            self.sent += 1
            circuit.used = now
            self._links.send(now, port, Command.CELL, circuit.seal(cell))

    def cell(self, now: float, port: Port, body: bytes) -> None:
        """Open a cell and say what is in it; a bad one ends the circuit."""
        circuit_id = CircuitId(port.number)
        circuit = self._circuits[circuit_id]
        try:
            text = circuit.open(body)
            if self._house.tap is not None:
                self._house.tap("opened", text)
            said = circuit.streams.take(Cell.unpack(text))
        except OnionError:
            self._break(now, circuit_id)
            return
        self.received += 1
        circuit.used = now
        self._links.consumed(port)
        if said is not None:
            self._tell(circuit_id, said)
        self.pump(now, circuit_id)

    # --- ends ---

    def fail(self, now: float, port: Port, body: bytes) -> None:
        """A relay's last word."""
        circuit_id = CircuitId(port.number)
        circuit = self._circuits[circuit_id]
        if isinstance(circuit, EndCircuit) or circuit.layers is None:
            self._break(now, circuit_id)
            return
        try:
            failure = circuit.layers.open_fail(body)
        except OnionError:
            self._break(now, circuit_id)
            return
        self._end(circuit_id, Lost(circuit_id, failure.depth - 1, failure.code))
        self._links.destroy(now, port, DestroyReason.OTHER)

    def lost(self, now: float, port: Port) -> None:
        """The link of a port is gone, and the port with it."""
        self._gone(now, CircuitId(port.number), GUARD_UNREACHABLE)

    def destroyed(self, now: float, port: Port) -> None:
        """DESTROY came in on a port."""
        self._links.ended(now, port)
        self._gone(now, CircuitId(port.number), DESTROYED)

    def close(self, now: float, circuit_id: CircuitId) -> None:
        """The caller wants no more of it."""
        circuit = self._circuits.get(circuit_id)
        if circuit is None:
            return
        if circuit.port is not None:
            self._links.destroy(now, circuit.port, DestroyReason.OTHER)
        self._forget(circuit_id)

    def idle(self, now: float, circuit_id: CircuitId) -> None:
        """A circuit of ours may not have been used for long."""
        used = self._circuits[circuit_id].used
        if used + defaults.CIRCUIT_IDLE > now:
            self._timers.set(Key(Due.IDLE, circuit_id), used + defaults.CIRCUIT_IDLE)
        else:
            self._finish(now, circuit_id, DestroyReason.OTHER)

    def expire(self, now: float, circuit_id: CircuitId) -> None:
        """A circuit has lived as long as any may."""
        self._finish(now, circuit_id, DestroyReason.LIFETIME)

    def over_sent(self, now: float, port: Port) -> None:
        """The peer sent more cells than it had credit for."""
        self._finish(now, CircuitId(port.number), DestroyReason.LIMITS)

    def cut(self, now: float, port: Port) -> None:
        """End a circuit at once, with what it has queued: memory is short."""
        self._links.cut(now, port, DestroyReason.LIMITS)
        self._gone(now, CircuitId(port.number), DESTROYED)

    # --- inside ---

    def _new_id(self) -> CircuitId:
        if len(self._circuits) >= defaults.CIRCUITS_NODE:
            raise NoCapacity("too many circuits")
        self._count += 1
        return CircuitId(self._count)

    def _send_create(
        self, now: float, circuit_id: CircuitId, circuit: ClientCircuit, link: LinkCore
    ) -> None:
        circuit.port = self._links.open(link, Side.ASKED, circuit_id)
        self._links.send_handshake(circuit.port, Command.CREATE, circuit.create)
        circuit.create = b""

    def _read_reply(
        self, now: float, circuit_id: CircuitId, circuit: ClientCircuit, reply: bytes
    ) -> None:
        assert circuit.handshake is not None, "a reply is read once"
        try:
            answer = circuit.handshake.read(reply)
        except OnionError:
            self._break(now, circuit_id)
            return
        match answer:
            case Accepted():
                self._opened(now, circuit_id, circuit, answer)
            case Refused():
                self._refused(now, circuit_id, circuit, answer)

    def _opened(
        self, now: float, circuit_id: CircuitId, circuit: ClientCircuit, answer: Accepted
    ) -> None:
        if self._house.tap is not None:
            self._house.tap("offer", answer.offer)
        circuit.handshake = circuit.half = None
        circuit.layers = answer.layers
        circuit.used = now
        self._guards.tried(now, circuit.guard, passed=True)
        self._timers.clear(Key(Due.OPEN, circuit_id))
        self._timers.set(Key(Due.IDLE, circuit_id), now + defaults.CIRCUIT_IDLE)
        self._timers.set(Key(Due.AGE, circuit_id), now + defaults.CIRCUIT_LIFE)
        self._events.append(Opened(circuit_id, answer.offer, answer.session))

    def _refused(
        self, now: float, circuit_id: CircuitId, circuit: ClientCircuit, answer: Refused
    ) -> None:
        assert circuit.port is not None, "who refused was asked"
        code = answer.status.code
        self._guards.tried(now, circuit.guard, passed=answer.depth > 1)
        self._end(circuit_id, Failed(circuit_id, answer.depth - 1, code, answer.reason))
        # Relays before the one that refused hold the circuit open: they could not read its reply.
        self._links.destroy(now, circuit.port, DestroyReason.OTHER)

    def _tell(self, circuit_id: CircuitId, cell: Cell) -> None:
        if cell.kind is Kind.PONG:
            self._events.append(Pong(circuit_id))
        elif cell.kind is Kind.RESET:
            self._events.append(Reset(circuit_id, cell.stream, cell.data[0]))
        elif cell.data:
            self._events.append(Data(circuit_id, cell.stream, cell.data))
        if cell.kind is Kind.END:
            self._events.append(Ended(circuit_id, cell.stream))

    def _break(self, now: float, circuit_id: CircuitId) -> None:
        """The peer, or someone on the path, broke a rule."""
        port = self._circuits[circuit_id].port
        self._gone(now, circuit_id, BAD_REPLY)
        if port is not None:
            self._links.destroy(now, port, DestroyReason.PROTOCOL)

    def _finish(self, now: float, circuit_id: CircuitId, reason: DestroyReason) -> None:
        port = self._circuits[circuit_id].port
        self._gone(now, circuit_id, DESTROYED)
        if port is not None:
            self._links.destroy(now, port, reason)

    def _gone(self, now: float, circuit_id: CircuitId, status: int) -> None:
        """Say the end that fits the state."""
        circuit = self._circuits[circuit_id]
        if isinstance(circuit, ClientCircuit) and circuit.layers is None:
            self._fail(now, circuit_id, status)
        else:
            self._end(circuit_id, Lost(circuit_id, None))

    def _fail(self, now: float, circuit_id: CircuitId, status: int) -> None:
        circuit = self._circuits[circuit_id]
        assert isinstance(circuit, ClientCircuit), "only what was asked for can fail"
        if status == GUARD_UNREACHABLE:
            self._guards.unreachable(now, circuit.guard)
        else:
            self._guards.tried(now, circuit.guard, passed=False)
        self._end(circuit_id, Failed(circuit_id, None, status))

    def _end(self, circuit_id: CircuitId, event: Event) -> None:
        self._forget(circuit_id)
        self._events.append(event)

    def _forget(self, circuit_id: CircuitId) -> None:
        circuit = self._circuits.pop(circuit_id)
        for due in (Due.OPEN, Due.ANSWER, Due.IDLE, Due.AGE):
            self._timers.clear(Key(due, circuit_id))
        if isinstance(circuit, ClientCircuit) and circuit.guard in self._waiting:
            waiting = self._waiting[circuit.guard]
            waiting.pop(circuit_id, None)
            if not waiting:
                del self._waiting[circuit.guard]


def _is_open(circuit: Circuit) -> bool:
    if isinstance(circuit, ClientCircuit):
        return circuit.layers is not None
    return circuit.hop is not None
