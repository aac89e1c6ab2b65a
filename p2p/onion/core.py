"""The circuits of one node in all its roles: asker, relay and endpoint.

`OnionCore` follows `p2p/core.py`. A `Source` is a link; what it receives and sends on one is whole
frames of 1200 bytes, at most 54 at a time. `Dial` and `CloseLink` are events, answered by the
commands `link_up`, `dial_failed` and `link_down`. Links between two calls of `drain` are written to
once, so that frames share writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from p2p import defaults
from p2p.core import Event, Send, Source
from p2p.entropy import Entropy
from p2p.errors import OnionError
from p2p.identity import AdnlId, Identity
from p2p.kept import KeptGuard
from p2p.onion.cell import FRAME_SIZE, MAX_RELAYS, MORE, Command, DestroyReason, Frame
from p2p.onion.cell import CircuitId as CircuitId
from p2p.onion.circuit import CircuitCore
from p2p.onion.events import BAD_REPLY as BAD_REPLY
from p2p.onion.events import DESTROYED as DESTROYED
from p2p.onion.events import GUARD_UNREACHABLE as GUARD_UNREACHABLE
from p2p.onion.events import TIMED_OUT as TIMED_OUT
from p2p.onion.events import Broken as Broken
from p2p.onion.events import CloseLink as CloseLink
from p2p.onion.events import Data as Data
from p2p.onion.events import Dial as Dial
from p2p.onion.events import Ended as Ended
from p2p.onion.events import Failed as Failed
from p2p.onion.events import GuardsChanged as GuardsChanged
from p2p.onion.events import Incoming as Incoming
from p2p.onion.events import Lost as Lost
from p2p.onion.events import Misbehaved as Misbehaved
from p2p.onion.events import NotKept as NotKept
from p2p.onion.events import Opened as Opened
from p2p.onion.events import Pong as Pong
from p2p.onion.events import PuzzlesWanted as PuzzlesWanted
from p2p.onion.events import Reset as Reset
from p2p.onion.events import Resumed as Resumed
from p2p.onion.events import Tap
from p2p.onion.events import Unresumed as Unresumed
from p2p.onion.guards import Guards
from p2p.onion.handshake import Ended as EndCreate
from p2p.onion.handshake import Relayed, Target
from p2p.onion.link import LinkCore, Port, Side
from p2p.onion.links import Links
from p2p.onion.noise import Kem, MlKem768
from p2p.onion.overview import Overview as Overview
from p2p.onion.overview import guard_view
from p2p.onion.paces import Paces
from p2p.onion.path import DirectoryView, eligible, pick_path
from p2p.onion.relay import Admission, House, RelayCore
from p2p.onion.relay import OnionKeys as OnionKeys
from p2p.onion.shaping import Shape as Shape
from p2p.onion.timers import Due, Key, Timers


@dataclass(frozen=True, slots=True, kw_only=True)
class OnionConfig:
    """What a node does with circuits."""

    network: int
    """Network number of adverts; both ends of a link must agree."""
    relay: bool = False
    endpoint: bool = False
    allow_direct: bool = False
    """An endpoint takes circuits from anyone, not only from listed relays."""
    dev: bool = False
    always: bool = False
    """Keep the link to the first guard paced day and night: shaping level 2."""
    kem: Kem = field(default_factory=MlKem768)
    """Simulations put a seeded stand-in here."""
    tap: Tap | None = None
    """Shown every plaintext of this node's layers; nothing else depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnionStatistics:
    """A snapshot. No field can hold a peer, an address, a circuit's number or text."""

    links: int
    circuits: int
    """Begun or ending here, that stand or are being built."""
    broken: int
    """Those beside them that may be gone on with over another path."""
    resumed: int
    """Times that a circuit to this node was."""
    left: int
    """Those of them that go on for their shape alone."""
    passages: int
    """Relayed here."""
    cells_forward: int
    """Relayed towards endpoints."""
    cells_backward: int
    """Relayed towards askers."""
    cells_sent: int
    cells_received: int
    creates: Mapping[str, int]
    """CREATEs answered, by status, and "destroyed" for those that were given none."""
    destroys: Mapping[str, int]
    """DESTROYs sent, by reason."""
    strikes: int
    queue_bytes: int
    guard_tries: int
    """Paths tried through a guard of this node."""
    guard_passed: int
    """Those of them in which something came back from beyond it."""


@final
class OnionCore:
    """See the module. Commands on a circuit that is gone do nothing: its end may be on the way."""

    def __init__(
        self,
        identity: Identity,
        keys: OnionKeys,
        view: DirectoryView,
        entropy: Entropy,
        config: OnionConfig,
        guards: Sequence[KeptGuard] = (),
    ) -> None:
        house = _house(identity, config)
        self._now = 0.0
        self._me = identity.id
        self._dev = config.dev
        self._view = view
        self._entropy = entropy
        self._guards = Guards(entropy, guards)
        self._timers = Timers()
        self._links = Links(
            me=identity.id,
            network=config.network,
            listed=config.relay or config.endpoint,
            keeps=config.relay,
            view=view,
            timers=self._timers,
            entropy=entropy,
        )
        self._admission = Admission(house, keys, self._links, view, entropy)
        guard = self._first_guard if config.always else None
        self._paces = Paces(self._links, self._timers, guard, grants=config.relay)
        self._relay = RelayCore(self._links, self._timers, self._admission, config.tap)
        self._circuits = CircuitCore(
            house, self._links, self._timers, self._admission, entropy, self._guards
        )

    # --- links ---

    def link_up(self, now: float, link: Source, peer: AdnlId, *, dialled: bool) -> None:
        """A link is there; `dialled` if this node asked for it."""
        self._enter(now)
        up = self._links.up(now, link, peer, dialled=dialled)
        if up is None:
            self._links.events.append(CloseLink(link, "too many"))
            return
        self._relay.link_up(now, up)
        self._circuits.link_up(now, up)

    def link_down(self, now: float, link: Source) -> None:
        """A link is gone, and with it all its circuits."""
        self._enter(now)
        down = self._links.at(link)
        if down is not None:
            self._drop(now, down)

    def dial_failed(self, now: float, peer: AdnlId) -> None:
        """What `Dial` asked for cannot be had."""
        self._enter(now)
        self._relay.dial_failed(now, peer)
        self._circuits.dial_failed(now, peer)

    def keep_pace(self, now: float) -> None:
        """The directory is there, so that a guard can be drawn: pace the link to it from now on."""
        self._enter(now)
        self._paces.look(now)

    def attach(self, relays: Sequence[AdnlId], *, asks: bool) -> None:
        """These keep our links. It `asks` while nobody can dial us: `NotKept` tells who refused.

        Whom we dial is asked in our HELLO, so that a link that was there before is of use too.
        """
        self._links.attach(relays, asks=asks)

    # --- circuits ---

    def path(
        self,
        now: float,
        worker: AdnlId,
        relays: int = MAX_RELAYS,
        *,
        acquainted: Sequence[AdnlId] = (),
        suspects: Sequence[AdnlId] = (),
    ) -> list[Target]:
        """A path to `worker` through this node's guard. Raises `NoPath`.

        Relays that are `acquainted`, that know this node's address for another reason, are second
        or third only if no others can be; `suspects` only if there is no path without them.
        """
        self._enter(now)
        return pick_path(
            self._view,
            worker,
            relays,
            entropy=self._entropy,
            self_id=self._me,
            dev=self._dev,
            guards=self._guards,
            now=now,
            acquainted=acquainted,
            suspects=suspects,
        )

    def guards(self) -> tuple[KeptGuard, ...]:
        """The first relays of this node, as they are to be kept."""
        return tuple(guard.kept() for guard in self._guards.all())

    def overview(self, now: float) -> Overview:
        """What the node's owner may see of its circuits."""
        guards = tuple(guard_view(now, guard) for guard in self._guards.all())
        return Overview(circuits=self._circuits.views(now), guards=guards)

    def guard_age(self, now: float, guard: AdnlId) -> float | None:
        """Seconds that a relay has been a guard of this node, None if it is none."""
        return self._guards.age(now, guard)

    def open(
        self,
        now: float,
        path: Sequence[Target],
        request: bytes,
        *,
        rate: int = 0,
        resumable: bool = False,
    ) -> CircuitId:
        """Ask the last of 1-4 `path` through the others; ends in `Opened` or `Failed` in 10 s.

        `request` <= 512 bytes, and tells the endpoint the `rate` of `ANSWER_RATES`, if any: such a
        circuit is shaped, as `p2p.onion.shaping` says. One that is `resumable` carries one request,
        and ends in `Broken` while that is under way. Raises `NoCapacity` if this node has too many
        circuits.
        """
        self._enter(now)
        return self._circuits.ask(now, path, request, rate, resumable=resumable)

    def resume(self, now: float, circuit: CircuitId, path: Sequence[Target]) -> None:
        """Go on with a `Broken` circuit over another path to its endpoint: `Resumed`, `Unresumed`.

        Both directions go on at the right byte; what has come is not said again.
        """
        self._enter(now)
        self._circuits.resume(now, circuit, path)

    def solved(self, now: float, circuit: CircuitId, issued: int, nonces: Sequence[int]) -> None:
        """The answer to `PuzzlesWanted`: a nonce for each hop, 0 where none was wanted."""
        self._enter(now)
        self._circuits.solved(now, circuit, issued, nonces)

    def accept(
        self,
        now: float,
        circuit: CircuitId,
        offer: bytes,
        *,
        rate: int = 0,
        resumable: bool = False,
    ) -> None:
        """Answer an `Incoming` with yes, at the rate it asks for; `offer` <= 960 bytes.

        If it is `resumable`, what is said on it is kept for 30 s after it breaks: its asker may
        come by another way, of which nothing is told here. `Lost` then comes when nobody did.
        """
        self._enter(now)
        self._circuits.accept(now, circuit, offer, rate, resumable=resumable)

    def refuse(self, now: float, circuit: CircuitId, reason: bytes) -> None:
        """Answer an `Incoming` with no; `reason` <= 960 bytes."""
        self._enter(now)
        self._circuits.refuse(now, circuit, reason)

    def send(self, now: float, circuit: CircuitId, stream: int, data: bytes) -> None:
        """Queue bytes of a stream; the asker opens stream 1, 2 ... by sending on it.

        Raises `NoCapacity` beyond `writable`, and after 64 streams, or one if it is shaped.
        """
        self._enter(now)
        streams = self._circuits.streams(circuit)
        if streams is not None:
            streams.send(stream, data)
            self._circuits.pump(now, circuit)

    def writable(self, circuit: CircuitId) -> int:
        """Bytes that `send` would take now; 0 if the circuit is not open."""
        streams = self._circuits.streams(circuit)
        return 0 if streams is None else streams.writable

    def end(self, now: float, circuit: CircuitId, stream: int) -> None:
        """Nothing follows; the asker may still `send` until the answer has ended."""
        self._enter(now)
        self._circuits.end(now, circuit, stream)

    def reset(self, now: float, circuit: CircuitId, stream: int, code: int) -> None:
        """Give a stream up, both ways; what is queued of it is dropped. It keeps its shape."""
        self._enter(now)
        streams = self._circuits.streams(circuit)
        if streams is not None:
            streams.reset(stream, code)
            self._circuits.pump(now, circuit)

    def ping(self, now: float, circuit: CircuitId) -> None:
        """Ask the other end for a sign of life: `Pong`."""
        self._enter(now)
        streams = self._circuits.streams(circuit)
        if streams is not None:
            streams.ping()
            self._circuits.pump(now, circuit)

    def shape(self, circuit: CircuitId) -> Shape | None:
        """What a request of ours shows on its links, once something of its answer has come."""
        return self._circuits.shape(circuit)

    def close(self, now: float, circuit: CircuitId) -> None:
        """End a circuit; no event follows. At once, unless a shaped request has begun on it.

        Then what is queued leaves, and dummies follow to the end of the shape. The endpoint is told
        nothing: `reset` before, if it is to stop.
        """
        self._enter(now)
        self._circuits.close(now, circuit)

    # --- the core's contract ---

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Take whole frames from a link. Never raises because of what they are."""
        self._enter(now)
        link = self._links.at(source)
        if link is None:
            return
        link.heard = now
        if not datagram or len(datagram) % FRAME_SIZE:
            self._links.strike(link, "not whole frames")
        else:
            for start in range(0, len(datagram), FRAME_SIZE):
                self._take(now, link, datagram[start : start + FRAME_SIZE])
                if link.condemned:
                    break
        self._relieve(now)
        self._bury(now)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._enter(now)
        for key in self._timers.take(now):
            self._wake(now, key)
        self._bury(now)

    def next_deadline(self) -> float | None:
        """When something is due."""
        return self._timers.next()

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Writes, `Send.to` a link; and events."""
        sends = self._links.flush(self._now)
        events = self._links.events.copy()
        if self._guards.changed:
            self._guards.changed = False
            events.insert(0, GuardsChanged(self.guards()))
        self._links.events.clear()
        return sends, events

    def sizes(self) -> dict[str, int]:
        """The length of every table and queue."""
        sizes = {
            "timers": len(self._timers),
            "events": len(self._links.events),
            "guards": len(self._guards),
            "paced": len(self._paces),
        }
        parts = {
            "links": self._links.sizes(),
            "admission": self._admission.sizes(),
            "relay": self._relay.sizes(),
            "circuits": self._circuits.sizes(),
        }
        for part, own in parts.items():
            sizes |= {f"{part}.{name}": size for name, size in own.items()}
        return sizes

    def statistics(self) -> OnionStatistics:
        """What has happened so far."""
        return OnionStatistics(
            links=self._links.sizes()["links"],
            circuits=len(self._circuits) - self._circuits.broken,
            broken=self._circuits.broken,
            resumed=self._circuits.resumed,
            left=self._circuits.left,
            passages=len(self._relay),
            cells_forward=self._relay.forward,
            cells_backward=self._relay.backward,
            cells_sent=self._circuits.sent,
            cells_received=self._circuits.received,
            creates=dict(self._admission.counts),
            destroys=dict(self._links.destroys),
            strikes=self._links.strikes,
            queue_bytes=self._links.queued * FRAME_SIZE,
            guard_tries=self._guards.tries,
            guard_passed=self._guards.passed,
        )

    # --- frames ---

    def _enter(self, now: float) -> None:
        if now < self._now:
            raise ValueError("time does not run backwards")
        self._now = now
        self._admission.start(now)

    def _take(self, now: float, link: LinkCore, data: bytes) -> None:
        try:
            frame = Frame.unpack(data)
        except OnionError:
            self._links.strike(link, "frame")
            return
        if frame.command is Command.CELL and link.hello is not None:
            self._take_cell(now, link, frame)
        elif frame.command is Command.HELLO:
            self._take_hello(now, link, frame)
        elif link.hello is None:
            self._links.strike(link, "before HELLO")
        elif frame.circuit == 0:
            self._take_links(now, link, frame)
        else:
            self._take_circuits(now, link, frame)

    def _take_hello(self, now: float, link: LinkCore, frame: Frame) -> None:
        if link.hello is not None or frame.circuit != 0:
            self._links.strike(link, "HELLO")
        else:
            self._links.greeted(now, link, frame.body)
            self._paces.greeted(now, link)

    def _take_links(self, now: float, link: LinkCore, frame: Frame) -> None:
        """A frame about the link itself."""
        if frame.command is Command.CREDIT:
            for port in self._links.grant(link, frame.body):
                if port.side in _OWN:
                    self._circuits.pump(now, port.number)
        elif frame.command is Command.PACE:
            self._paces.take(now, link, frame.body)
        elif frame.command is not Command.PADDING:
            self._links.strike(link, "circuit 0")

    def _take_cell(self, now: float, link: LinkCore, frame: Frame) -> None:
        port = link.ports.get(frame.circuit)
        if port is None:
            self._links.strike(link, "unknown circuit")
            return
        if port.side is Side.GONE:
            return
        core = self._core_of(port)
        port.meter.room -= 1
        if port.meter.room < 0:
            self._links.strike(link, "more cells than credit")
            core.over_sent(now, port)
        else:
            core.cell(now, port, frame.body)

    def _take_circuits(self, now: float, link: LinkCore, frame: Frame) -> None:
        """A frame about a circuit that is no CELL."""
        if frame.command is Command.CREATE:
            self._take_create(now, link, frame)
            return
        port = link.ports.get(frame.circuit)
        if port is None:
            self._take_unknown(link, frame)
        elif port.side is not Side.GONE:
            self._take_known(now, link, port, frame)

    def _take_known(self, now: float, link: LinkCore, port: Port, frame: Frame) -> None:
        core = self._core_of(port)
        match frame.command:
            case Command.CREATED if not port.asked:
                core.created(now, port, frame.body, more=bool(frame.flags & MORE))
            case Command.FAIL:
                core.fail(now, port, frame.body)
            case Command.DESTROY if len(frame.body) == 1:
                core.destroyed(now, port)
            case _:
                self._links.strike(link, "frame of a circuit")

    def _take_unknown(self, link: LinkCore, frame: Frame) -> None:
        if frame.command is Command.DESTROY and frame.circuit in link.halves:
            del link.halves[frame.circuit]
            self._timers.clear(Key(Due.HALF, link.number, frame.circuit))
        else:
            self._links.strike(link, "unknown circuit")

    def _take_create(self, now: float, link: LinkCore, frame: Frame) -> None:
        circuit, more = frame.circuit, bool(frame.flags & MORE)
        port = link.ports.get(circuit)
        if port is not None and port.side is Side.GONE:
            return
        if port is not None or not link.peer_chose(circuit):
            self._links.strike(link, "circuit number")
        elif more == (circuit in link.halves):
            self._links.strike(link, "half a CREATE")
        elif not more:
            self._timers.clear(Key(Due.HALF, link.number, circuit))
            self._admit(now, link, circuit, link.halves.pop(circuit) + frame.body)
        elif len(link.halves) >= defaults.HALF_CREATES:
            self._links.turn_away(now, link, circuit, DestroyReason.LIMITS)
        else:
            link.halves[circuit] = frame.body
            when = now + defaults.HALF_CREATE_LIFE
            self._timers.set(Key(Due.HALF, link.number, circuit), when)

    def _admit(self, now: float, link: LinkCore, circuit: int, create: bytes) -> None:
        busy = len(self._relay) + len(self._circuits) >= defaults.CIRCUITS_NODE
        opened = self._admission.open(now, link, circuit, create, busy=busy)
        match opened:
            case Relayed():
                self._relay.begin(now, link, circuit, opened)
            case EndCreate():
                self._circuits.begin(now, link, circuit, opened)
            case None:
                pass

    def _core_of(self, port: Port) -> RelayCore | CircuitCore:
        return self._circuits if port.side in _OWN else self._relay

    # --- timers ---

    def _wake(self, now: float, key: Key) -> None:
        match key.due:
            case Due.BUILD:
                self._relay.overdue(now, key.of)
            case Due.LIFE:
                self._relay.expire(now, key.of)
            case Due.OPEN:
                self._circuits.overdue(now, CircuitId(key.of))
            case Due.ANSWER:
                self._circuits.unanswered(now, CircuitId(key.of))
            case Due.IDLE:
                self._circuits.idle(now, CircuitId(key.of))
            case Due.AGE:
                self._circuits.expire(now, CircuitId(key.of))
            case Due.PACE:
                self._paces.look(now)
            case Due.SLOT:
                self._circuits.slot(now, CircuitId(key.of))
            case Due.QUIET:
                self._circuits.quiet(now, CircuitId(key.of))
            case Due.BROKEN:
                self._circuits.give_up(now, CircuitId(key.of))
            case _:
                self._wake_link(now, key)

    def _wake_link(self, now: float, key: Key) -> None:
        link = self._links.numbered(key.of)
        assert link is not None, "a link takes its timers with it"
        match key.due:
            case Due.HELLO:
                self._links.condemn(link, "silent")
            case Due.WRITE:
                self._links.wake(link)
            case Due.PADDING:
                self._links.pad(now, link)
            case Due.REST:
                keep = link.peer in self._guards or self._links.is_of_use(link)
                self._links.idle(now, link, keep=keep)
            case Due.PACED:
                self._paces.expire(link)
            case Due.HALF:
                link.halves.pop(key.circuit)
            case Due.LANE:
                self._links.give_up(now, link, key.circuit)
            case _:
                self._links.expire(link, key.circuit)

    # --- ends ---

    def _relieve(self, now: float) -> None:
        """Above 64 MiB of queues the circuits with the oldest first cells end, down to 48."""
        if self._links.queued * FRAME_SIZE <= defaults.QUEUES_HIGH:
            return
        for port in self._links.oldest(defaults.QUEUES_LOW // FRAME_SIZE):
            if not port.queue:
                continue
            if port.side is Side.GONE:
                self._links.cut(now, port, DestroyReason.LIMITS)
            else:
                self._core_of(port).cut(now, port)

    def _bury(self, now: float) -> None:
        while self._links.condemned:
            link = self._links.condemned.pop()
            if self._links.at(link.source) is link:
                self._drop(now, link)

    def _first_guard(self, now: float) -> AdnlId | None:
        return self._guards.first(now, eligible(self._view, self._me, dev=self._dev))

    def _drop(self, now: float, link: LinkCore) -> None:
        self._paces.forget(link)
        for port in self._links.forget(link):
            if port.side is not Side.GONE:
                self._core_of(port).lost(now, port)


_OWN = (Side.ASKED, Side.ANSWERED)


def _house(identity: Identity, config: OnionConfig) -> House:
    return House(
        me=identity.id,
        network=config.network,
        relay=config.relay,
        endpoint=config.endpoint,
        allow_direct=config.allow_direct,
        kem=config.kem,
        tap=config.tap,
    )
