"""Pulses: 26 bytes that say a node is still there, open or busy, and that only it can make.

An advert names two anchors, each the end of a chain of hashes (Lamport, "Password authentication
with insecure communication", 1981) whose root only its node knows; each slot reveals one more link:

    H(x)            = SHA-256("tussah/pulse" | id | x)[0:16]
    root            = SHA-256("tussah/pulse/root" | identity seed | seq u64 | kind u8)[0:16]
    anchor          = H^160(root)
    value of slot s = H^(160 - s)(root), of which H^s is the anchor
    pulse           = id[0:8] | s u8 | kind u8 | value

Slots are directory epochs counted from the one that the advert was issued in. A step costs 0.45 us
where a signature would cost 42, and the pulse a fifth of its bytes.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from hashlib import sha256
from typing import Final, NamedTuple, final

from p2p import codec
from p2p.errors import CodecError
from p2p.identity import AdnlId, Identity

SLOTS: Final = 160
"""slots of a chain: more than the epochs that any advert lives."""

VALUE_SIZE: Final = 16
PREFIX_SIZE: Final = 8
PULSE_SIZE: Final = PREFIX_SIZE + 2 + VALUE_SIZE
ANCHORS_SIZE: Final = 2 * VALUE_SIZE
"""bytes of what an advert holds: the anchor of OPEN, then that of BUSY."""

MAX_IN_CAST: Final = 36
"""pulses in one cast: as many as an overlay message of 988 bytes holds."""

CAST_PULSES: Final = 16
"""First item of the body of a cast of pulses."""

SPREAD: Final = 0.8
"""share of an epoch over which the nodes' pulses are spread: the rest is for them to travel."""


class Kind(IntEnum):
    """What a pulse says."""

    OPEN = 0
    BUSY = 1
    """Still there, but takes no work."""


class Pulse(NamedTuple):
    """A pulse as it travels; believed only after `PulseBook.take`."""

    prefix: bytes
    """First 8 bytes of the node's id."""
    slot: int
    kind: Kind
    value: bytes


# --- time in slots ---


def epoch_of(now: float, epoch: float) -> int:
    """The number of the directory epoch of `epoch` seconds that `now` falls into."""
    return int(now // epoch)


def slot_of(now: float, issued: float, epoch: float) -> int:
    """The slot that `now` falls into, for an advert of that time of issue; 0 is its own epoch."""
    return epoch_of(now, epoch) - epoch_of(issued, epoch)


def offset_of(node: AdnlId, epoch: float) -> float:
    """When in a slot a node sends its pulse, in seconds from its begin: spread by its id."""
    return int.from_bytes(node[8:10], "little") / 65_536 * SPREAD * epoch


# --- chains ---


def walk(node: AdnlId, value: bytes, steps: int) -> bytes:
    """H^steps of a value of this node's chains, towards the anchor."""
    prefix = b"tussah/pulse" + node
    for _ in range(steps):
        value = sha256(prefix + value).digest()[:VALUE_SIZE]
    return value


@final
class PulseChain:
    """The values of one kind for one advert of our own, by slot; slot 0 is the anchor."""

    def __init__(self, identity: Identity, seq: int, kind: Kind) -> None:
        secret = b"tussah/pulse/root" + identity.seed + seq.to_bytes(8, "little") + bytes([kind])
        values = [sha256(secret).digest()[:VALUE_SIZE]]
        for _ in range(SLOTS):
            values.append(walk(identity.id, values[-1], 1))
        self._values = values[::-1]
        self._prefix, self._kind = identity.id[:PREFIX_SIZE], kind

    @property
    def anchor(self) -> bytes:
        """What the advert says of this chain."""
        return self._values[0]

    def pulse(self, slot: int) -> Pulse:
        """The pulse of a slot, 1..160: to be told to nobody before that slot."""
        if not 1 <= slot <= SLOTS:
            raise ValueError("a chain has no such slot")
        return Pulse(self._prefix, slot, self._kind, self._values[slot])


def anchors_of(identity: Identity, seq: int) -> bytes:
    """32 bytes for the advert of this seq: the anchors of its two chains."""
    return b"".join(PulseChain(identity, seq, kind).anchor for kind in Kind)


@final
class Heart:
    """When a node gives which pulse of its newest advert; a new advert needs a new heart.

    One pulse a slot, at the node's own offset; and BUSY at once when work must be refused, unless
    this slot has had it. The slot of the advert itself has none: being issued is being there.
    """

    def __init__(self, identity: Identity, seq: int, issued: float, epoch: float) -> None:
        self._chains = {kind: PulseChain(identity, seq, kind) for kind in Kind}
        self._first = epoch_of(issued, epoch)
        self._epoch = epoch
        self._offset = offset_of(identity.id, epoch)
        self._spoken = dict.fromkeys(Kind, 0)
        """The last slot in which each kind was given."""
        self._busy = False

    def busy(self, now: float) -> Pulse | None:
        """Work must be refused from now on; the pulse to send at once, if any."""
        self._busy = True
        slot = self._slot(now)
        if self._spoken[Kind.BUSY] >= slot or slot > SLOTS:
            return None
        return self._give(Kind.BUSY, slot)

    def refuse(self) -> None:
        """Work is not taken: the next slot's pulse says so, as the advert of this one may."""
        self._busy = True

    def free(self) -> None:
        """Work is taken again: the next slot's pulse says so."""
        self._busy = False

    def beat(self, now: float) -> Pulse | None:
        """The pulse that is due, once."""
        slot = self._slot(now)
        if max(self._spoken.values()) >= slot or slot > SLOTS or now < self._time_of(slot):
            return None
        return self._give(Kind.BUSY if self._busy else Kind.OPEN, slot)

    def next_deadline(self, now: float) -> float | None:
        """When the next pulse is due; None after the chain's end."""
        slot = max(1, self._slot(now), max(self._spoken.values()) + 1)
        return self._time_of(slot) if slot <= SLOTS else None

    def _slot(self, now: float) -> int:
        return epoch_of(now, self._epoch) - self._first

    def _time_of(self, slot: int) -> float:
        return (self._first + slot) * self._epoch + self._offset

    def _give(self, kind: Kind, slot: int) -> Pulse:
        self._spoken[kind] = slot
        return self._chains[kind].pulse(slot)


@final
class Gathering:
    """Pulses wait here for each other, so that one cast carries up to 36 of them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: list[Pulse] = []
        self.due: float | None = None
        """When those that wait have waited enough; None if none does."""

    def add(self, now: float, one: Pulse) -> bool:
        """Whether those that wait fill a cast, to be taken at once."""
        self._waiting.append(one)
        if self.due is None:
            self.due = now + self._seconds
        return len(self._waiting) >= MAX_IN_CAST

    def take(self) -> list[Pulse]:
        """All that wait."""
        waiting, self._waiting, self.due = self._waiting, [], None
        return waiting

    def __len__(self) -> int:
        return len(self._waiting)


# --- bytes ---


def pack_pulses(pulses: Iterable[Pulse]) -> bytes:
    """Any number of pulses, 26 bytes each."""
    return b"".join(
        pulse.prefix + bytes([pulse.slot, pulse.kind]) + pulse.value for pulse in pulses
    )


def read_pulses(buffer: bytes, most: int) -> list[Pulse]:
    """At most so many pulses. Raises `CodecError`, also for a slot or kind that there is not."""
    if len(buffer) % PULSE_SIZE or len(buffer) > most * PULSE_SIZE:
        raise CodecError("not whole pulses, or too many")
    return [_read(buffer[at : at + PULSE_SIZE]) for at in range(0, len(buffer), PULSE_SIZE)]


def _read(buffer: bytes) -> Pulse:
    slot, kind = buffer[PREFIX_SIZE], buffer[PREFIX_SIZE + 1]
    if not 1 <= slot <= SLOTS or kind > Kind.BUSY:
        raise CodecError("no pulse has this slot or kind")
    return Pulse(buffer[:PREFIX_SIZE], slot, Kind(kind), buffer[PREFIX_SIZE + 2 :])


def pack_cast(pulses: Sequence[Pulse]) -> bytes:
    """The body of a cast: `[16, bin n x 26]`, 1 <= n <= 36."""
    if not 1 <= len(pulses) <= MAX_IN_CAST:
        raise ValueError("a cast holds 1 to 36 pulses")
    return codec.pack([CAST_PULSES, pack_pulses(pulses)])


def read_cast(body: codec.Value) -> list[Pulse] | None:
    """The pulses of a cast, unpacked; None if it is of another kind. Raises `CodecError`."""
    match body:
        case (int(kind), bytes(buffer)) if kind == CAST_PULSES and buffer:
            return read_pulses(buffer, MAX_IN_CAST)
        case (int(kind), *_) if kind == CAST_PULSES:
            raise CodecError("a cast of pulses holds pulses and nothing else")
    return None
