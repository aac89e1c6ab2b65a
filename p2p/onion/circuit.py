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
    SILENT,
    TIMED_OUT,
    Broken,
    Data,
    Dial,
    Ended,
    Failed,
    Incoming,
    Lost,
    Opened,
    Pong,
    Puzzle,
    PuzzlesWanted,
    Reset,
    Resumed,
    Unresumed,
)
from p2p.onion.guards import Guards
from p2p.onion.handshake import (
    MAX_PUZZLE,
    Accepted,
    Answered,
    ClientHandshake,
    Refused,
    Target,
)
from p2p.onion.handshake import Ended as EndCreate
from p2p.onion.keeping import Keeping
from p2p.onion.link import LinkCore, Port, Side
from p2p.onion.links import Links
from p2p.onion.overview import CircuitView, circuit_view
from p2p.onion.relay import Admission, House
from p2p.onion.resuming import STREAM, Claim, Grant
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
        self._keeping = Keeping()
        self.sent = 0
        """Cells of our own circuits that were sealed."""
        self.received = 0
        """Cells of our own circuits that were opened."""
        self.resumed = 0
        """Circuits to us that were gone on with over another path."""

    def __len__(self) -> int:
        return len(self._circuits)

    def sizes(self) -> dict[str, int]:
        """The length of every table and queue."""
        return {
            "circuits": len(self._circuits),
            "waiting": sum(len(ids) for ids in self._waiting.values()),
            "unsent": sum(circuit.streams.queued for circuit in self._circuits.values()),
            "left": self.left,
            "broken": self.broken,
            "sessions": len(self._keeping),
            "kept": sum(circuit.streams.kept for circuit in self._circuits.values()),
        }

    def views(self, now: float) -> tuple[CircuitView, ...]:
        """The circuits that this node asked for, as their owner may see them."""
        return tuple(
            circuit_view(now, CircuitId(number), circuit, self.shape(CircuitId(number)))
            for number, circuit in self._circuits.items()
            if isinstance(circuit, ClientCircuit)
        )

    @property
    def broken(self) -> int:
        """Circuits that may be gone on with over another path."""
        return sum(circuit.broken for circuit in self._circuits.values())

    @property
    def left(self) -> int:
        """Circuits whose callers have left, and whose shapes go on."""
        return sum(_is_left(circuit) for circuit in self._circuits.values())

    # --- set-up, asking ---

    def ask(
        self, now: float, path: Sequence[Target], request: bytes, rate: int, *, resumable: bool
    ) -> CircuitId:
        """Build a circuit; `Opened` or `Failed` follows."""
        circuit_id = self._new_id()
        circuit = ClientCircuit(now, path, request, rate=rate, resumable=resumable)
        try:
            circuit.write(int(now), self._handshake(path))
        except OnionError:
            self._events.append(Failed(circuit_id, None, BAD_REPLY))
            return circuit_id
        self._circuits[circuit_id] = circuit
        self._build(now, circuit_id, circuit, defaults.OPEN_TIMEOUT)
        return circuit_id

    def resume(self, now: float, circuit_id: CircuitId, path: Sequence[Target]) -> None:
        """Go on with a broken circuit over another path; `Resumed` or `Unresumed` follows."""
        circuit = self._circuits.get(circuit_id)
        if not isinstance(circuit, ClientCircuit) or not circuit.broken or circuit.handshake:
            return
        circuit.reroute(path)
        try:
            circuit.write(int(now), self._handshake(path))
        except OnionError:
            self._events.append(Unresumed(circuit_id, None, BAD_REPLY))
            return
        self._build(now, circuit_id, circuit, defaults.RESUME_OPEN)

    def solved(self, now: float, circuit_id: CircuitId, issued: int, nonces: Sequence[int]) -> None:
        """What hops wanted found is found: send the CREATE that shows it."""
        circuit = self._circuits.get(circuit_id)
        if not isinstance(circuit, ClientCircuit) or circuit.handshake is None or circuit.create:
            return
        circuit.write(issued, circuit.handshake, nonces)
        wait = defaults.RESUME_OPEN if circuit.broken else defaults.OPEN_TIMEOUT
        self._build(now, circuit_id, circuit, wait)

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
        circuit = self._circuits[circuit_id]
        port = circuit.port
        is_waiting = isinstance(circuit, ClientCircuit) and circuit_id in self._waiting.get(
            circuit.guard, ()
        )
        self._fail(now, circuit_id, GUARD_UNREACHABLE if is_waiting else TIMED_OUT)
        if port is not None:
            self._links.destroy(now, port, DestroyReason.OTHER)

    # --- set-up, answering ---

    def begin(self, now: float, link: LinkCore, circuit: int, create: EndCreate) -> None:
        """Show an admitted CREATE to the endpoint's application, unless it goes on with another."""
        claim = Claim.unpack(create.request)
        if claim is not None:
            self._go_on(now, link, circuit, create, claim)
            return
        circuit_id = self._new_id()
        port = self._links.open(link, Side.ANSWERED, circuit_id, circuit)
        self._circuits[circuit_id] = EndCircuit(port, create)
        self._timers.set(Key(Due.ANSWER, circuit_id), now + defaults.ANSWER_TIME)
        self._events.append(Incoming(circuit_id, create.request))

    def accept(
        self, now: float, circuit_id: CircuitId, offer: bytes, rate: int, *, resumable: bool
    ) -> None:
        """The application says yes."""
        circuit = self._circuits.get(circuit_id)
        if not isinstance(circuit, EndCircuit) or circuit.create is None:
            return
        assert circuit.port is not None, "what waits for an answer has not gone"
        if resumable:
            circuit.keep()
        if rate:
            circuit.shaped(rate)
        self._timers.clear(Key(Due.ANSWER, circuit_id))
        self._stand(now, circuit_id, circuit, circuit.port, circuit.create.accept(int(now), offer))

    def refuse(self, now: float, circuit_id: CircuitId, reason: bytes) -> None:
        """The application says no."""
        circuit = self._circuits.get(circuit_id)
        if not isinstance(circuit, EndCircuit) or circuit.create is None:
            return
        assert circuit.port is not None, "what waits for an answer has not gone"
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
        if circuit is None or not (circuit.is_open or circuit.broken) or _is_left(circuit):
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
        free = len(port.queue) < port.credit
        if isinstance(shape, AskerShape):
            cell = shape.slot(now, free=free, waits=self._is_paced(port) and bool(port.queue))
        else:
            cell = shape.slot(now, free=free)
        if cell is not None:
            self._seal(now, circuit, port, cell)
        if isinstance(shape, AskerShape) and shape.silent:
            self._hush(now, circuit_id)
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
        if isinstance(circuit, ClientCircuit):
            circuit.looks = 0
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
        self._over(now, circuit, killed=failure.depth == 1)
        self._part(now, circuit_id, circuit, failure.depth - 1, failure.code)
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
        shape = circuit.shape
        if isinstance(circuit, ClientCircuit) and isinstance(shape, AskerShape):
            circuit.left = circuit.is_open and shape.begun
        if isinstance(shape, AskerShape) and _is_left(circuit):
            shape.leave()
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

    # --- going on over another circuit ---

    def give_up(self, now: float, circuit_id: CircuitId) -> None:
        """A broken circuit has waited long enough."""
        port = self._circuits[circuit_id].port
        if port is not None:
            self._links.destroy(now, port, DestroyReason.OTHER)
        self._end(circuit_id, Lost(circuit_id, None))

    def quiet(self, now: float, circuit_id: CircuitId) -> None:
        """Look whether the endpoint is still there; while something of ours waits, nobody knows.

        Looks are counted, not seconds: a machine that slept has looked once.
        """
        circuit = self._circuits[circuit_id]
        assert isinstance(circuit, ClientCircuit), "an endpoint only waits"
        port = circuit.port
        assert port is not None, "a circuit that stands has a link"
        if circuit.streams.queued or port.queue or not circuit.streams.can_go_on:
            circuit.looks = -1
        circuit.looks += 1
        if circuit.looks == LOOKS:
            self._hush(now, circuit_id)
            return
        if circuit.looks == LOOKS // 2:
            circuit.streams.ping()
            self.pump(now, circuit_id)
        self._timers.set(Key(Due.QUIET, circuit_id), now + LOOK)

    def _go_on(
        self, now: float, link: LinkCore, number: int, create: EndCreate, claim: Claim
    ) -> None:
        """An asker comes by another way. Who cannot prove that is told no more than strangers."""
        circuit_id = self._keeping.find(claim.session)
        circuit = None if circuit_id is None else self._circuits[circuit_id]
        key = _NOBODY if circuit is None or circuit.secrets is None else circuit.secrets.key
        port = self._links.open(link, Side.ANSWERED, circuit_id or 0, number)
        grant = None
        is_proved = claim.is_proved(key, create.ephemeral) and claim.stream == STREAM
        if is_proved and isinstance(circuit, EndCircuit):
            grant = self._granted(circuit, claim)
        if grant is None:
            self._admission.refuse(now, port, create, Code.REFUSED)
            return
        assert isinstance(circuit, EndCircuit)
        assert circuit_id is not None
        if circuit.port is not None:
            self._links.destroy(now, circuit.port, DestroyReason.OTHER)
        self._timers.clear(Key(Due.BROKEN, circuit_id))
        self._stand(now, circuit_id, circuit, port, create.accept(int(now), grant.pack()))
        if circuit.shape is not None:
            circuit.shape.resumed()
        self.resumed += 1
        self.pump(now, circuit_id)

    def _granted(self, circuit: EndCircuit, claim: Claim) -> Grant | None:
        """Go back to where the asker is; None if that cannot be."""
        try:
            circuit.streams.rewind(claim.received, ended=False)
        except OnionError:
            return None
        return Grant(*circuit.streams.heard)

    def _taken_up(self, now: float, circuit: ClientCircuit, offer: bytes) -> bool:
        """Go back to where the endpoint is, by its word; False if that cannot be."""
        try:
            grant = Grant.unpack(offer)
            circuit.streams.rewind(grant.received, ended=grant.ended)
        except OnionError:
            return False
        if circuit.shape is not None:
            circuit.shape.resumed(now, ended=grant.ended)
        return True

    def _stand(
        self,
        now: float,
        circuit_id: CircuitId,
        circuit: EndCircuit,
        port: Port,
        answered: Answered,
    ) -> None:
        """A circuit to us stands over this link."""
        before = None if circuit.secrets is None else circuit.secrets.session
        circuit.opened(port, answered)
        self._keeping.stands(circuit_id, circuit, before)
        self._admission.counts["ok"] += 1
        self._timers.set(Key(Due.AGE, circuit_id), now + defaults.CIRCUIT_LIFE)
        self._links.send_handshake(port, Command.CREATED, answered.reply)

    def _hush(self, now: float, circuit_id: CircuitId) -> None:
        """Nothing comes any more of what is owed: somebody on the way is gone without a word."""
        port = self._circuits[circuit_id].port
        self._gone(now, circuit_id, DESTROYED, killed=True, code=SILENT)
        if port is not None:
            self._links.destroy(now, port, DestroyReason.OTHER)
            self._links.doubt(now, port)

    def _is_paced(self, port: Port) -> bool:
        link = self._links.numbered(port.link)
        return link is not None and link.pacer is not None

    # --- inside ---

    def _new_id(self) -> CircuitId:
        if len(self._circuits) >= defaults.CIRCUITS_NODE:
            raise NoCapacity("too many circuits")
        self._count += 1
        return CircuitId(self._count)

    def _handshake(self, path: Sequence[Target]) -> ClientHandshake:
        house = self._house
        return ClientHandshake(path, network=house.network, kem=house.kem, entropy=self._entropy)

    def _build(
        self, now: float, circuit_id: CircuitId, circuit: ClientCircuit, wait: float
    ) -> None:
        """Send the CREATE as soon as there is a link to the guard."""
        self._timers.set(Key(Due.OPEN, circuit_id), now + wait)
        link = self._links.to(circuit.guard)
        if link is not None:
            self._send_create(now, circuit_id, circuit, link)
        else:
            self._waiting.setdefault(circuit.guard, {})[circuit_id] = None
            self._events.append(Dial(circuit.guard))

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
        was_broken = circuit.broken
        if was_broken and not self._taken_up(now, circuit, answer.offer):
            self._break(now, circuit_id)
            return
        circuit.opened(now, answer)
        self._guards.tried(now, circuit.guard, passed=True)
        self._timers.clear(Key(Due.OPEN, circuit_id))
        self._timers.clear(Key(Due.BROKEN, circuit_id))
        self._timers.set(Key(Due.IDLE, circuit_id), now + defaults.CIRCUIT_IDLE)
        self._timers.set(Key(Due.AGE, circuit_id), now + defaults.CIRCUIT_LIFE)
        if circuit.streams.keeps and circuit.shape is None:  # the slots of a shape count for it
            self._timers.set(Key(Due.QUIET, circuit_id), now + LOOK)
        if was_broken:
            self._events.append(Resumed(circuit_id))
            self.pump(now, circuit_id)
        else:
            self._events.append(Opened(circuit_id, answer.offer, answer.session))

    def _refused(
        self, now: float, circuit_id: CircuitId, circuit: ClientCircuit, answer: Refused
    ) -> None:
        assert circuit.port is not None, "who refused was asked"
        code, port = answer.status.code, circuit.port
        self._guards.tried(now, circuit.guard, passed=answer.depth > 1)
        # Relays before the one that refused hold the circuit open: they could not read its reply.
        self._links.destroy(now, port, DestroyReason.OTHER)
        if self._is_soluble(circuit, answer):
            self._want_solved(now, circuit_id, circuit, answer)
            return
        failed = Failed(circuit_id, answer.depth - 1, code, answer.reason)
        self._unbuilt(circuit_id, circuit, failed)

    def _is_soluble(self, circuit: ClientCircuit, answer: Refused) -> bool:
        """Whether a hop wants a puzzle that we are ready to solve, and have not solved for it."""
        status, place = answer.status, answer.depth - 1
        asks = status.code is Code.BUSY and 0 < status.detail <= MAX_PUZZLE
        return asks and place not in circuit.puzzles

    def _want_solved(
        self, now: float, circuit_id: CircuitId, circuit: ClientCircuit, answer: Refused
    ) -> None:
        """The same path again, with a fresh handshake over which the puzzles are."""
        circuit.puzzles[answer.depth - 1] = answer.status.detail
        circuit.cease()
        circuit.handshake = handshake = self._handshake(circuit.path)
        self._timers.set(Key(Due.OPEN, circuit_id), now + defaults.OPEN_TIMEOUT)
        puzzles = tuple(
            Puzzle(hop.id, ephemeral, circuit.puzzles.get(place, 0))
            for place, (hop, ephemeral) in enumerate(
                zip(circuit.path, handshake.ephemerals, strict=True)
            )
        )
        self._events.append(PuzzlesWanted(circuit_id, int(now), puzzles))

    def _seal(self, now: float, circuit: Circuit, port: Port, cell: Cell) -> None:
        if self._house.tap is not None:
            self._house.tap("sealed", cell.pack(1))
        self.sent += 1
        circuit.used = now
        self._links.send(now, port, Command.CELL, circuit.seal(cell))
        if circuit.streams.keeps and isinstance(circuit, EndCircuit):
            self._keeping.grew(len(cell.data), self._circuits.values())

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

    def _gone(
        self, now: float, circuit_id: CircuitId, status: int, *, killed: bool, code: int = 0
    ) -> None:
        """Say the end that fits the state; whether it may have been the guard who ended it."""
        circuit = self._circuits[circuit_id]
        self._over(now, circuit, killed=killed)
        if isinstance(circuit, ClientCircuit) and circuit.handshake is not None:
            self._fail(now, circuit_id, status)
        else:
            self._part(now, circuit_id, circuit, None, code)

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
        self._unbuilt(circuit_id, circuit, Failed(circuit_id, None, status))

    def _unbuilt(self, circuit_id: CircuitId, circuit: ClientCircuit, failed: Failed) -> None:
        """A path came to nothing; with it the circuit, unless it had stood before."""
        if not circuit.broken:
            self._end(circuit_id, failed)
            return
        self._timers.clear(Key(Due.OPEN, circuit_id))
        self._unwait(circuit_id, circuit)
        circuit.cease()
        self._events.append(Unresumed(circuit_id, failed.hop, failed.status))

    def _part(
        self, now: float, circuit_id: CircuitId, circuit: Circuit, hop: int | None, code: int
    ) -> None:
        """A circuit that stood is gone, for good unless a request on it can be gone on with."""
        if circuit.broken or _is_left(circuit) or not circuit.streams.can_go_on:
            self._end(circuit_id, Lost(circuit_id, hop, code))
            return
        for due in (Due.IDLE, Due.AGE, Due.SLOT, Due.QUIET):
            self._timers.clear(Key(due, circuit_id))
        self._timers.set(Key(Due.BROKEN, circuit_id), now + defaults.RESUME_TIME)
        circuit.cease()
        circuit.broken = True
        if isinstance(circuit, ClientCircuit):
            self._events.append(Broken(circuit_id, hop, code))
        elif (oldest := self._keeping.waits(circuit_id)) is not None:
            self._end(oldest, Lost(oldest, None))

    def _end(self, circuit_id: CircuitId, event: Event) -> None:
        if not _is_left(self._forget(circuit_id)):
            self._events.append(event)

    def _forget(self, circuit_id: CircuitId) -> Circuit:
        circuit = self._circuits.pop(circuit_id)
        for due in _DUES:
            self._timers.clear(Key(due, circuit_id))
        if isinstance(circuit, ClientCircuit):
            self._unwait(circuit_id, circuit)
        else:
            self._keeping.forget(circuit_id, circuit)
        return circuit

    def _unwait(self, circuit_id: CircuitId, circuit: ClientCircuit) -> None:
        waiting = self._waiting.get(circuit.guard)
        if waiting is not None:
            waiting.pop(circuit_id, None)
            if not waiting:
                del self._waiting[circuit.guard]


LOOKS = 5
"""in a silence that breaks a circuit: at half of them the endpoint is asked for a sign"""

LOOK = defaults.CIRCUIT_QUIET / (LOOKS - 1)
"""seconds from one to the next, so that the silence has at least its length at the last"""

_DUES = (
    Due.OPEN,
    Due.ANSWER,
    Due.IDLE,
    Due.AGE,
    Due.SLOT,
    Due.QUIET,
    Due.BROKEN,
)
"""Timers of one circuit."""

_NOBODY = bytes(32)
"""The key that a proof for an unknown session is held against, for the time it takes."""


def _is_left(circuit: Circuit) -> bool:
    return isinstance(circuit, ClientCircuit) and circuit.left
