"""The circuits that begin or end at a node: how they come to be, carry cells, and end.

Cells leave as `pump` finds credit for them; those of a shaped circuit wait for their slots besides,
and such a circuit outlives its caller until its shape is whole.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import final

from p2p import defaults
from p2p.core import Event
from p2p.entropy import Entropy
from p2p.errors import NoCapacity, OnionError
from p2p.identity import AdnlId
from p2p.onion.cell import Cell, CircuitId, Code, Command, DestroyReason, Kind
from p2p.onion.ends import Circuit, ClientCircuit, EndCircuit
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
from p2p.onion.guards import Guards
from p2p.onion.handshake import Accepted, ClientHandshake, Refused, Target
from p2p.onion.handshake import Ended as EndCreate
from p2p.onion.link import LinkCore, Port, Side
from p2p.onion.links import Links
from p2p.onion.relay import Admission, House
from p2p.onion.shaping import AskerShape, Shape
from p2p.onion.streams import Streams
from p2p.onion.timers import Due, Key, Timers


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
            "left": self.left,
        }

    @property
    def left(self) -> int:
        """Circuits whose callers have left, and whose shapes go on."""
        return sum(_is_left(circuit) for circuit in self._circuits.values())

    # --- set-up, asking ---

    def ask(self, now: float, path: Sequence[Target], request: bytes, rate: int) -> CircuitId:
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

        circuit = ClientCircuit(path[0].id, handshake, create, rate=rate)
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

    def accept(self, now: float, circuit_id: CircuitId, offer: bytes, rate: int) -> None:
        """The application says yes."""
        circuit = self._circuits.get(circuit_id)
        if not isinstance(circuit, EndCircuit) or circuit.create is None:
            return
        answered = circuit.create.accept(int(now), offer)
        circuit.create, circuit.hop = None, answered.hop
        if rate:
            circuit.shaped(rate)
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
        if circuit is None or not circuit.is_open or _is_left(circuit):
            return None
        return circuit.streams

    def end(self, now: float, circuit_id: CircuitId, stream: int) -> None:
        """Queue the END of a stream."""
        streams = self.streams(circuit_id)
        if streams is None:
            return
        streams.end(stream)
        shape = self._circuits[circuit_id].shape
        if isinstance(shape, AskerShape):
            shape.measure()
        self.pump(now, circuit_id)

    def shape(self, circuit_id: CircuitId) -> Shape | None:
        """What shows of a request of ours; None if it is not shaped, or nothing has come of it."""
        circuit = self._circuits.get(circuit_id)
        if circuit is None or not isinstance(circuit.shape, AskerShape):
            return None
        facts = circuit.shape.facts()
        link = None if circuit.port is None else self._links.numbered(circuit.port.link)
        return facts if facts is None or link is None else replace(facts, always=link.granted)

    def pump(self, now: float, circuit_id: int) -> None:
        """Seal what the credit of the circuit lets out, unless it waits for a slot."""
        circuit = self._circuits[circuit_id]
        port, shape = circuit.port, circuit.shape
        if port is None or not circuit.is_open:
            return
        while len(port.queue) < port.credit:
            cell = circuit.streams.next() if shape is None else shape.burst(now)
            if cell is None:
                break
            self._seal(now, circuit, port, cell)
        self._await_slot(circuit_id, circuit)

    def slot(self, now: float, circuit_id: CircuitId) -> None:
        """A slot of a shaped circuit: a cell leaves now, or none does."""
        circuit = self._circuits[circuit_id]
        port, shape = circuit.port, circuit.shape
        assert port is not None, "slots follow a cell"
        assert shape is not None, "slots are a shape's"
        cell = shape.slot(now, free=len(port.queue) < port.credit)
        if cell is not None:
            self._seal(now, circuit, port, cell)
        if isinstance(shape, AskerShape) and shape.silent:
            self._finish(now, circuit_id, DestroyReason.OTHER, killed=True)
        else:
            self._await_slot(circuit_id, circuit)

    def cell(self, now: float, port: Port, body: bytes) -> None:
        """Open a cell and say what is in it; a bad one ends the circuit."""
        circuit_id = CircuitId(port.number)
        circuit = self._circuits[circuit_id]
        try:
            text = circuit.open(body)
            if self._house.tap is not None:
                self._house.tap("opened", text)
            cell = Cell.unpack(text)
            said = circuit.streams.take(cell)
            if circuit.shape is not None:
                circuit.shape.hear(now, cell)
        except OnionError:
            self._break(now, circuit_id)
            return
        self.received += 1
        circuit.used = now
        self._links.consumed(port)
        if said is not None and not _is_left(circuit):
            self._tell(circuit_id, said)
        if isinstance(circuit, ClientCircuit) and circuit.shape is not None and circuit.shape.over:
            self._complete(now, circuit_id, circuit)
        else:
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
        self._guards.ended(now, circuit.guard, killed=failure.depth == 1)
        self._end(circuit_id, Lost(circuit_id, failure.depth - 1, failure.code))
        self._links.destroy(now, port, DestroyReason.OTHER)

    def lost(self, now: float, port: Port) -> None:
        """The link of a port is gone, and the port with it: the next guard is used from here on."""
        circuit = self._circuits[CircuitId(port.number)]
        if isinstance(circuit, ClientCircuit) and circuit.is_open:
            self._guards.unreachable(now, circuit.guard)
        self._gone(now, CircuitId(port.number), GUARD_UNREACHABLE, killed=True)

    def destroyed(self, now: float, port: Port) -> None:
        """DESTROY came in on a port."""
        self._links.ended(now, port)
        self._gone(now, CircuitId(port.number), DESTROYED, killed=True)

    def close(self, now: float, circuit_id: CircuitId) -> None:
        """The caller wants no more of it; a shape that has begun goes on without him."""
        circuit = self._circuits.get(circuit_id)
        if circuit is None:
            return
        if isinstance(circuit, ClientCircuit) and circuit.shape is not None and circuit.shape.begun:
            circuit.left = True
            circuit.shape.leave()
            self.pump(now, circuit_id)
            return
        if circuit.port is not None:
            self._links.destroy(now, circuit.port, DestroyReason.OTHER)
        self._over(now, circuit, killed=False)
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
        self._gone(now, CircuitId(port.number), DESTROYED, killed=False)

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

    def _seal(self, now: float, circuit: Circuit, port: Port, cell: Cell) -> None:
        if self._house.tap is not None:
            self._house.tap("sealed", cell.pack(1))
        self.sent += 1
        circuit.used = now
        self._links.send(now, port, Command.CELL, circuit.seal(cell))

    def _await_slot(self, circuit_id: int, circuit: Circuit) -> None:
        due = None if circuit.shape is None else circuit.shape.due
        if due is not None:
            self._timers.set(Key(Due.SLOT, circuit_id), due)

    def _complete(self, now: float, circuit_id: CircuitId, circuit: ClientCircuit) -> None:
        """The last cell of a shape has come, and with it the end of the circuit."""
        if circuit.port is None or not circuit.streams.is_closed:
            self._break(now, circuit_id)
            return
        self._links.destroy(now, circuit.port, DestroyReason.OTHER)
        self._over(now, circuit, killed=False)
        self._forget(circuit_id)

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
        self._gone(now, circuit_id, BAD_REPLY, killed=True)
        if port is not None:
            self._links.destroy(now, port, DestroyReason.PROTOCOL)

    def _finish(
        self, now: float, circuit_id: CircuitId, reason: DestroyReason, *, killed: bool = False
    ) -> None:
        port = self._circuits[circuit_id].port
        self._gone(now, circuit_id, DESTROYED, killed=killed)
        if port is not None:
            self._links.destroy(now, port, reason)

    def _gone(self, now: float, circuit_id: CircuitId, status: int, *, killed: bool) -> None:
        """Say the end that fits the state; whether it may have been the guard who ended it."""
        circuit = self._circuits[circuit_id]
        self._over(now, circuit, killed=killed)
        if isinstance(circuit, ClientCircuit) and circuit.layers is None:
            self._fail(now, circuit_id, status)
        else:
            self._end(circuit_id, Lost(circuit_id, None))

    def _over(self, now: float, circuit: Circuit, *, killed: bool) -> None:
        """A circuit that stood is over."""
        if isinstance(circuit, ClientCircuit) and circuit.is_open:
            self._guards.ended(now, circuit.guard, killed=killed)

    def _fail(self, now: float, circuit_id: CircuitId, status: int) -> None:
        circuit = self._circuits[circuit_id]
        assert isinstance(circuit, ClientCircuit), "only what was asked for can fail"
        if status == GUARD_UNREACHABLE:
            self._guards.unreachable(now, circuit.guard)
        else:
            self._guards.tried(now, circuit.guard, passed=False)
        self._end(circuit_id, Failed(circuit_id, None, status))

    def _end(self, circuit_id: CircuitId, event: Event) -> None:
        if not _is_left(self._forget(circuit_id)):
            self._events.append(event)

    def _forget(self, circuit_id: CircuitId) -> Circuit:
        circuit = self._circuits.pop(circuit_id)
        for due in (Due.OPEN, Due.ANSWER, Due.IDLE, Due.AGE, Due.SLOT):
            self._timers.clear(Key(due, circuit_id))
        if isinstance(circuit, ClientCircuit) and circuit.guard in self._waiting:
            waiting = self._waiting[circuit.guard]
            waiting.pop(circuit_id, None)
            if not waiting:
                del self._waiting[circuit.guard]
        return circuit


def _is_left(circuit: Circuit) -> bool:
    return isinstance(circuit, ClientCircuit) and circuit.left
