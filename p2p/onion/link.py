"""One link as circuits use it: the greeting, the circuits' turns, credits, writes and limits.

A link carries frames of 1200 bytes over an ordered, reliable, authenticated carrier. Each circuit
has a `Port` on it: a queue out, strictly first in first out because the counters of the layers are
implicit, and a `Meter` of what may still come in. The writer takes handshakes and credits first,
then one frame per circuit in turn, at most 54 to a write. A bucket of 100 writes/s delays smaller
writes only, and has 20 in hand, so the first cells of an answer never wait.
"""

import struct
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, NamedTuple, final

from p2p import defaults
from p2p.core import Source
from p2p.entropy import Entropy
from p2p.errors import OnionError
from p2p.identity import AdnlId
from p2p.onion.cell import BODY_SIZE, Command, Frame
from p2p.onion.shaping import Pacer

MAX_FRAMES = 54
"""frames in one write: 64,800 bytes, the most that py-libp2p writes without splitting."""

LISTED = 1
"""HELLO flag: the sender is in the directory."""

ASKS = 2
"""HELLO flag: the sender, who dialled, cannot be dialled, and asks for the link to be kept."""

KEEPS = 4
"""HELLO flag: the sender keeps it, so that circuits reach the other over it."""

DIALLER_BIT = 1 << 31
"""Set in the circuit numbers chosen by the side that dialled, so that both choose freely."""


# --- the bodies of a link's own frames ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first frame each way."""

    network: int
    unix: int
    """The sender's clock, in seconds."""
    flags: int = 0

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<4sHHiI")
    MAGIC: ClassVar[bytes] = b"TSLK"
    VERSION: ClassVar[int] = 1

    def pack(self) -> bytes:
        """16 bytes."""
        return self.LAYOUT.pack(self.MAGIC, self.VERSION, self.flags, self.network, self.unix)

    @classmethod
    def unpack(cls, body: bytes) -> "Hello":
        """Raises `OnionError` for another protocol or version."""
        if len(body) != cls.LAYOUT.size:
            raise OnionError("a HELLO of a wrong size")
        magic, version, flags, network, unix = cls.LAYOUT.unpack(body)
        if (magic, version) != (cls.MAGIC, cls.VERSION):
            raise OnionError("a HELLO of another version")
        return cls(network=network, unix=unix, flags=flags)


class Pace(NamedTuple):
    """Frames are asked for at a rate, or, by who was asked, granted: none if the rate is 0."""

    rate: int
    """tenths of a frame a second"""
    seconds: int
    """from now on"""

    def pack(self) -> bytes:
        """The body of a PACE frame."""
        return _PACE.pack(*self)

    @classmethod
    def unpack(cls, body: bytes) -> "Pace":
        """Raises `OnionError`."""
        if len(body) != _PACE.size:
            raise OnionError("a PACE of a wrong size")
        return cls(*_PACE.unpack(body))


_PACE = struct.Struct("<HI")


class Grant(NamedTuple):
    """So many cells more may be sent on a circuit."""

    circuit: int
    cells: int


MAX_GRANTS = BODY_SIZE // 6
"""grants in one CREDIT frame."""

_GRANT = struct.Struct("<IH")


def pack_grants(grants: Iterable[Grant]) -> bytes:
    """The body of a CREDIT frame, of at most `MAX_GRANTS`."""
    return b"".join(_GRANT.pack(*grant) for grant in grants)


def unpack_grants(body: bytes) -> list[Grant]:
    """The grants of a CREDIT frame. Raises `OnionError`."""
    if len(body) % _GRANT.size or not body:
        raise OnionError("a CREDIT of a wrong size")
    return [Grant(*fields) for fields in _GRANT.iter_unpack(body)]


# --- rates ---


@final
class Bucket:
    """At most `rate` takings a second in the long run, and `burst` at once."""

    __slots__ = ("_full", "_slack", "_step")

    def __init__(self, rate: float, burst: int) -> None:
        self._step = 1.0 / rate
        self._slack = (burst - 1) / rate
        self._full = 0.0
        """When the bucket is full again if nothing more is taken."""

    def ready(self) -> float:
        """From when one may be taken."""
        return self._full - self._slack

    def take(self, now: float) -> bool:
        """Take one if it may be."""
        if now < self._full - self._slack:
            return False
        self._full = max(self._full, now) + self._step
        return True


# --- one circuit on one link ---


class Side(IntEnum):
    """What a circuit on a link is to this node."""

    BEHIND = 0
    """The client's side of a circuit relayed here."""
    AHEAD = 1
    """The endpoint's side of one."""
    ASKED = 2
    """A circuit of our own."""
    ANSWERED = 3
    """A circuit that ends here."""
    GONE = 4
    """Ended: the number is kept for a while, so that late frames are no offence."""


@final
class Meter:
    """Cells that may still come in on a circuit of a link, and those passed on since."""

    __slots__ = ("circuit", "due", "link", "room")

    def __init__(self, link: int, circuit: int) -> None:
        self.link = link
        self.circuit = circuit
        self.room = defaults.CREDIT_CELLS
        self.due = 0


@final
class Port:
    """A circuit on a link. It knows both by number, so nothing else is reached through it."""

    __slots__ = (
        "asked",
        "circuit",
        "credit",
        "feeds",
        "link",
        "meter",
        "number",
        "queue",
        "ready",
        "side",
        "since",
    )

    def __init__(self, link: int, circuit: int, *, side: Side, number: int) -> None:
        self.link = link
        """Number of the link within this node."""
        self.circuit = circuit
        """Number of the circuit within the link."""
        self.side = side
        self.number = number
        """Number of the circuit within this node, counted apart for relayed ones and our own."""
        self.asked = False
        """The peer asked for the circuit."""
        self.queue: deque[bytes] = deque()
        self.credit = defaults.CREDIT_CELLS
        self.meter = Meter(link, circuit)
        self.feeds: Meter | None = None
        """Where the cells sent here came in: sending them makes room there."""
        self.ready = False
        """Whether it stands in its link's line."""
        self.since = 0.0
        """Since when the first frame of the queue is the first."""


# --- the link ---


@final
class LinkCore:
    """The state of one link: `urge` and `push` queue frames, `write` takes them as they are due."""

    def __init__(
        self, number: int, source: Source, peer: AdnlId, *, dialled: bool, entropy: Entropy
    ) -> None:
        self.number = number
        self.source = source
        self.peer = peer
        self.dialled = dialled
        self.ports: dict[int, Port] = {}
        self.halves: dict[int, bytes] = {}
        """First frames of CREATEs whose second has not come."""
        self.open = 0
        """Ports that are not GONE."""
        self.asked = 0
        """Those of them that the peer asked for."""
        self.greeted = False
        """Our HELLO is queued or sent: nothing goes before it."""
        self.hello: Hello | None = None
        """The peer's."""
        self.strikes = 0
        self.asks = False
        """We have asked the peer to keep the link."""
        self.is_attachment = False
        """The peer has asked for that, and we do."""
        self.condemned = False
        """It will be closed; nothing more is read from it."""
        self.counted_listed = False
        """How it was counted among the node's links when it came up."""
        self.creates_unlisted = Bucket(*defaults.CREATES_UNLISTED)
        self.creates_listed = Bucket(*defaults.CREATES_LISTED)
        self.fair_unlisted = Bucket(*defaults.FAIR_UNLISTED)
        self.fair_listed = Bucket(*defaults.FAIR_LISTED)
        self.written = 0.0
        """When the last write left."""
        self.heard = 0.0
        """When anything last came."""
        self.silence = 0.0
        """Seconds without a write until PADDING."""
        self.pacer: Pacer | None = None
        """Frames leave in its slots alone, and one in each: shaping level 2."""
        self.pace_until = 0.0
        """When it ends, if the peer does not ask anew."""
        self.granted = False
        """The peer sends at that pace, too, as we asked."""
        self._entropy = entropy
        self._bucket = Bucket(float(defaults.WRITES_PER_SECOND), defaults.WRITE_BURST)
        self._urgent: deque[bytes] = deque()
        self._line: deque[Port] = deque()
        self._owing: list[Meter] = []
        self._held: list[bytes] = []

    @property
    def claims_listing(self) -> bool:
        """The peer says that it is in the directory; look there before believing it."""
        return self.hello is not None and bool(self.hello.flags & LISTED)

    @property
    def write_at(self) -> float:
        """When a write of what waits may leave."""
        return self._bucket.ready() if self.pacer is None else self.pacer.due

    def free_number(self) -> int:
        """A number for a new circuit of ours."""
        top = DIALLER_BIT if self.dialled else 0
        while True:
            low = int.from_bytes(self._entropy.token(4), "little") & (DIALLER_BIT - 1)
            if low and top | low not in self.ports:
                return top | low

    def peer_chose(self, circuit: int) -> bool:
        """Whether the number is one that the peer may choose."""
        return bool(circuit & DIALLER_BIT) != self.dialled and circuit & (DIALLER_BIT - 1) != 0

    # --- queueing ---

    def greet(self, hello: Hello) -> None:
        """Queue our HELLO in front of everything."""
        self._urgent.appendleft(self._pack(Frame(0, Command.HELLO, 0, hello.pack())))
        self.greeted = True

    def urge(self, frame: Frame) -> None:
        """Queue a frame that waits for no circuit's turn: of a handshake, or of the link itself."""
        self._urgent.append(self._pack(frame))

    def push(self, now: float, port: Port, frame: Frame) -> None:
        """Queue a frame of a circuit behind those it has."""
        if not port.queue:
            port.since = now
        port.queue.append(self._pack(frame))
        self._line_up(port)

    def grant(self, port: Port, cells: int) -> bool:
        """The peer lets the circuit send more; whether it could mean it."""
        port.credit += cells
        self._line_up(port)
        return port.credit <= defaults.CREDIT_CELLS

    def owe(self, meter: Meter) -> bool:
        """A cell of a circuit was passed on; whether enough were for a CREDIT."""
        meter.due += 1
        if meter.due == defaults.CREDIT_DUE:
            self._owing.append(meter)
        return meter.due >= defaults.CREDIT_DUE

    # --- writing ---

    def write(self, now: float) -> tuple[bytes, list[Meter], int]:
        """The next write, empty if none may leave; meters of the cells taken; frames of circuits.

        A frame counts as passed on once it is chosen for a write, which follows within 10 ms.
        """
        if not self.greeted:
            return b"", [], 0
        passed: list[Meter] = []
        if self.pacer is not None:
            return self._write_slot(now, self.pacer, passed)
        taken = self._fill(now, passed, MAX_FRAMES)
        if not self._held or (len(self._held) < MAX_FRAMES and not self._bucket.take(now)):
            return b"", passed, taken
        data, self._held = b"".join(self._held), []
        self.written = now
        return data, passed, taken

    def _write_slot(
        self, now: float, pacer: Pacer, passed: list[Meter]
    ) -> tuple[bytes, list[Meter], int]:
        """One frame in each slot, PADDING where nothing waits."""
        if not pacer.take(now):
            return b"", passed, 0
        taken = 0 if self._held else self._fill(now, passed, 1)
        frame = self._held.pop(0) if self._held else self._pack(PADDING)
        self.written = now
        return frame, passed, taken

    @property
    def waiting(self) -> bool:
        """Whether frames wait for the bucket, or the next slot for a frame."""
        return bool(self._held) or self.pacer is not None

    @property
    def queued_apart(self) -> int:
        """Frames that wait here and not in a circuit's queue."""
        return len(self._urgent) + len(self._held)

    def _fill(self, now: float, passed: list[Meter], most: int) -> int:
        held, taken = self._held, 0
        self._credit_due()
        while self._urgent and len(held) < most:
            held.append(self._urgent.popleft())
        while self._line and len(held) < most:
            port = self._line.popleft()
            if self._blocked(port):
                port.ready = False
                continue
            held.append(self._next(now, port, passed))
            taken += 1
            port.ready = bool(port.queue)
            if port.ready:
                self._line.append(port)
        return taken

    def _next(self, now: float, port: Port, passed: list[Meter]) -> bytes:
        frame = port.queue.popleft()
        port.since = now
        if frame[_COMMAND_AT] == Command.CELL:
            port.credit -= 1
            if port.feeds is not None:
                passed.append(port.feeds)
        return frame

    def _blocked(self, port: Port) -> bool:
        """Nothing to send, or a cell first and no credit: only CELL uses credit."""
        if not port.queue:
            return True
        return port.credit <= 0 and port.queue[0][_COMMAND_AT] == Command.CELL

    def _credit_due(self) -> None:
        for start in range(0, len(self._owing), MAX_GRANTS):
            grants = []
            for meter in self._owing[start : start + MAX_GRANTS]:
                grants.append(Grant(meter.circuit, meter.due))
                meter.room += meter.due
                meter.due = 0
            self._urgent.append(self._pack(Frame(0, Command.CREDIT, 0, pack_grants(grants))))
        self._owing.clear()

    def _line_up(self, port: Port) -> None:
        if port.queue and not port.ready:
            port.ready = True
            self._line.append(port)

    def _pack(self, frame: Frame) -> bytes:
        return frame.pack(self._entropy)


PADDING = Frame(0, Command.PADDING, 0, b"")
"""A frame that says nothing."""

_COMMAND_AT = 4
"""Where a packed frame has its command."""
