"""What goes wrong in a run, as data: numbered faults, each with a stream of its own.

A `Schedule` is drawn from a seed or written down; `keep` leaves some of its faults out, and moves
none of the others: not when they strike, not whom, not what they draw. That is what makes a failing
schedule shrinkable (`simulations/shrink.py`). `Weather` says what the faults of a schedule do to
messages, ways and clocks; who runs nodes, disks and chains asks the schedule for the rest.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, final

from p2p.entropy import Entropy, exponential, sample
from p2p.transport.fabric import Fabric


class Kind(StrEnum):
    """What a fault is."""

    DROP = "drop"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    DELAY = "delay"
    CORRUPT = "corrupt"
    TRUNCATE = "truncate"

    PARTITION = "partition"
    """its nodes and all others do not hear each other"""
    ONE_WAY = "one_way"
    """what its nodes send reaches nobody; they still hear"""
    GREY = "grey"
    """what passes between its nodes and the others is lost now and then, and late"""
    CLOG = "clog"
    """its nodes neither send nor hear"""
    SWIZZLE = "swizzle"
    """its nodes are clogged one after the other, and healed in another order"""

    CRASH = "crash"
    """gone at once, back with what is on its disk"""
    TEAR = "tear"
    """gone in the middle of a write, of which a part is on the disk"""
    ERASE = "erase"
    """gone, and its disk with it"""

    DISK_LOST = "disk_lost"
    """writes are not done, and nobody is told before the node goes down"""
    DISK_SHORT = "disk_short"
    """a write stops half way with an error, and then all is well"""
    DISK_FULL = "disk_full"
    """writes fail as long as it lasts"""

    SKEW = "skew"
    """a clock is wrong as long as it lasts"""
    JUMP = "jump"
    """a clock is set ahead for good, as after a sleep"""
    REBIND = "rebind"
    """its nodes' connections break, as when a NAT forgets its mappings"""
    SLOW = "slow"
    """a worker writes as if somebody else used its machine"""

    CHAIN_DROP = "chain_drop"
    CHAIN_DELAY = "chain_delay"
    CHAIN_DOUBLE = "chain_double"
    """what is sent to the chain is lost, taken blocks later, or delivered twice"""
    CHAIN_LAG = "chain_lag"
    """a server shows an old state"""


OF_MESSAGES: Final = (Kind.DROP, Kind.DUPLICATE, Kind.REORDER, Kind.DELAY)
OF_BYTES: Final = (Kind.CORRUPT, Kind.TRUNCATE)
OF_WAYS: Final = (Kind.PARTITION, Kind.ONE_WAY, Kind.GREY, Kind.CLOG, Kind.SWIZZLE)
OF_NODES: Final = (Kind.CRASH, Kind.TEAR, Kind.ERASE)
OF_DISKS: Final = (Kind.DISK_LOST, Kind.DISK_SHORT, Kind.DISK_FULL)
OF_CLOCKS: Final = (Kind.SKEW, Kind.JUMP)
OF_CHAINS: Final = (Kind.CHAIN_DROP, Kind.CHAIN_DELAY, Kind.CHAIN_DOUBLE, Kind.CHAIN_LAG)

LASTS: Final = 6.0
"""seconds that a drawn fault lasts on average"""

MOST: Final = 20.0
"""seconds of either at the most, so that a run has an end"""

AMOUNT: Final = 6.0
"""seconds: the mean of what a drawn fault delays by, or sets a clock wrong by"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong."""

    number: int
    kind: Kind
    at: float
    """seconds after the start of the run"""
    lasts: float
    """seconds; of a crash, until the node is back"""
    nodes: tuple[int, ...]
    share: float = 1.0
    """of the messages or writes that it hits, of those it could"""
    amount: float = 0.0
    """seconds of delay, or of a clock's error"""

    @property
    def end(self) -> float:
        """When it is over."""
        return self.at + self.lasts

    def __str__(self) -> str:
        nodes = ",".join(map(str, self.nodes))
        return f"#{self.number} {self.kind} of {nodes} at {self.at:.3f} for {self.lasts:.3f} s"


@final
class Schedule:
    """The faults of a run, and the seed of their streams."""

    def __init__(self, entropy: Entropy, faults: Iterable[Fault] = ()) -> None:
        self._entropy = entropy
        self.faults = tuple(faults)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the faults that are there."""
        return tuple(fault.number for fault in self.faults)

    @property
    def end(self) -> float:
        """seconds after the start when the last of them is over; 0 if there are none"""
        return max((fault.end for fault in self.faults), default=0.0)

    def keep(self, numbers: Iterable[int]) -> "Schedule":
        """The same without the others."""
        kept = frozenset(numbers)
        return Schedule(self._entropy, (one for one in self.faults if one.number in kept))

    def among(self, nodes: int) -> "Schedule":
        """The same in a smaller world: faults of nodes that are not there are left out."""
        return Schedule(self._entropy, (one for one in self.faults if max(one.nodes) < nodes))

    def of(self, *kinds: Kind) -> list[Fault]:
        """Those of some kinds, in their order."""
        return [fault for fault in self.faults if fault.kind in kinds]

    def stream(self, fault: Fault) -> Entropy:
        """What a fault draws from, from its beginning; the same whatever else goes wrong."""
        return self._entropy.fork(f"fault/{fault.number}/draws")

    def __len__(self) -> int:
        return len(self.faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.faults)


def draw(
    entropy: Entropy,
    *,
    nodes: Sequence[int],
    until: float,
    rate: float,
    kinds: Sequence[Kind],
    begin: float = 0.0,
) -> Schedule:
    """Faults at random moments from `begin` to `until`, `rate` of them in a second on average."""
    moments = entropy.fork("fault/moments")
    faults: list[Fault] = []
    at = begin + exponential(moments, 1.0 / rate) if rate else until
    while at < until:
        faults.append(_drawn(entropy, len(faults), at, nodes, kinds))
        at += exponential(moments, 1.0 / rate)
    return Schedule(entropy, faults)


def _drawn(
    entropy: Entropy, number: int, at: float, nodes: Sequence[int], kinds: Sequence[Kind]
) -> Fault:
    stream = entropy.fork(f"fault/{number}")
    kind = kinds[stream.below(len(kinds))]
    many = kind in (Kind.PARTITION, Kind.SWIZZLE)
    hit = sample(stream, nodes, 1 + stream.below(max(1, len(nodes) // 2)) if many else 1)
    return Fault(
        number=number,
        kind=kind,
        at=at,
        lasts=min(MOST, exponential(stream, LASTS)),
        nodes=tuple(sorted(hit)),
        share=0.2 + 0.8 * stream.uniform(),
        amount=min(MOST, exponential(stream, AMOUNT)),
    )


# --- what the faults do to messages and clocks ---


@final
class Weather:
    """What a schedule does to what nodes send, and to their clocks; `start` is the run's.

    Each draw is of the fault's own stream, in the order in which messages meet that fault.
    """

    def __init__(self, schedule: Schedule, start: float) -> None:
        self._start = start
        self._schedule = schedule
        self._streams: Mapping[int, Entropy] = {
            fault.number: schedule.stream(fault) for fault in schedule
        }
        self._messages = schedule.of(*OF_MESSAGES, Kind.GREY)
        self._bytes = schedule.of(*OF_BYTES)
        self._ways = schedule.of(*OF_WAYS)
        self._clocks = schedule.of(*OF_CLOCKS)
        self._slow = schedule.of(Kind.SLOW)
        self._disks = schedule.of(*OF_DISKS)
        self._chains = schedule.of(*OF_CHAINS)

    def copies(self, now: float, src: int, dst: int) -> list[float]:
        """How late each copy of a message is: one of 0 if nothing happens to it, none if lost."""
        late = [0.0]
        for fault in self._active(self._messages, now):
            if (src in fault.nodes or self._greys(fault, src, dst)) and self._hits(fault):
                late = self._treat(fault, late)
        return late

    def ordered(self, now: float, src: int, dst: int) -> float:
        """How late a message is on a way that loses nothing and keeps its order."""
        return max(self.copies(now, src, dst), default=AMOUNT)

    def mangled(self, now: float, src: int, data: bytes) -> bytes:
        """The bytes as they arrive."""
        for fault in self._active(self._bytes, now):
            if src in fault.nodes and data and self._hits(fault):
                at = self._streams[fault.number].below(len(data))
                if fault.kind is Kind.TRUNCATE:
                    data = data[:at]
                else:
                    flip = 1 << self._streams[fault.number].below(8)
                    data = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
        return data

    def cut(self, now: float, src: int, dst: int) -> bool:
        """Whether nothing passes from one to the other at this moment; asked on arrival."""
        return any(self._cuts(fault, now, src, dst) for fault in self._active(self._ways, now))

    def ahead(self, now: float, node: int) -> float:
        """seconds that a node's clock is wrong by."""
        skews = (one for one in self._active(self._clocks, now) if one.kind is Kind.SKEW)
        jumps = (one for one in self._clocks if one.kind is Kind.JUMP and self._began(one, now))
        wrong = sum(
            (one.amount if one.number % 2 else -one.amount) for one in skews if node in one.nodes
        )
        return wrong + sum(one.amount for one in jumps if node in one.nodes)

    def slowed(self, now: float, node: int) -> float:
        """Times as long as otherwise that a node's engine takes."""
        slow = (one for one in self._active(self._slow, now) if node in one.nodes)
        return max((1.0 + one.amount for one in slow), default=1.0)

    def disk(self, now: float, node: int) -> Kind | None:
        """What happens to a write of a node at this moment."""
        for fault in self._active(self._disks, now):
            if node in fault.nodes and (fault.kind is Kind.DISK_FULL or self._hits(fault)):
                return fault.kind
        return None

    def disk_fails(self, now: float, node: int) -> bool:
        """Whether a node's disk may fail at this moment; draws nothing."""
        return any(node in fault.nodes for fault in self._active(self._disks, now))

    def chain(self, now: float, node: int, kind: Kind) -> float | None:
        """Whether, and by how many seconds, a node's dealing with the chain meets a fault."""
        for fault in self._active(self._chains, now):
            if fault.kind is kind and node in fault.nodes and self._hits(fault):
                return fault.amount
        return None

    def _active(self, faults: Sequence[Fault], now: float) -> Iterator[Fault]:
        at = now - self._start
        return (fault for fault in faults if fault.at <= at < fault.end)

    def _began(self, fault: Fault, now: float) -> bool:
        return fault.at <= now - self._start

    def _hits(self, fault: Fault) -> bool:
        return self._streams[fault.number].uniform() < fault.share

    def _greys(self, fault: Fault, src: int, dst: int) -> bool:
        return fault.kind is Kind.GREY and (src in fault.nodes) != (dst in fault.nodes)

    def _treat(self, fault: Fault, late: list[float]) -> list[float]:
        match fault.kind:
            case Kind.DROP:
                return []
            case Kind.DUPLICATE:
                return late + [one + fault.amount for one in late]
            case Kind.REORDER:
                return [one + fault.amount * self._streams[fault.number].uniform() for one in late]
            case Kind.GREY if self._streams[fault.number].uniform() < 0.5:
                return []
            case _:
                return [one + fault.amount for one in late]

    def _cuts(self, fault: Fault, now: float, src: int, dst: int) -> bool:
        match fault.kind:
            case Kind.PARTITION:
                return (src in fault.nodes) != (dst in fault.nodes)
            case Kind.ONE_WAY:
                return src in fault.nodes
            case Kind.CLOG:
                return src in fault.nodes or dst in fault.nodes
            case Kind.SWIZZLE:
                return any(self._clogged(fault, now, node) for node in (src, dst))
            case _:
                return False

    def _clogged(self, fault: Fault, now: float, node: int) -> bool:
        """Clogged in the order of their numbers, during its first half; healed in another."""
        if node not in fault.nodes:
            return False
        place, count = fault.nodes.index(node), len(fault.nodes)
        step = fault.lasts / (2 * count)
        healed = (place * 7 + fault.number) % count
        at = now - self._start - fault.at
        return place * step <= at < fault.lasts / 2 + (healed + 1) * step


@final
class Troubled:
    """A `Fabric` under the faults of a schedule: `route` and `admit` of another, made worse."""

    def __init__(self, fabric: Fabric, weather: Weather) -> None:
        self._fabric = fabric
        self._weather = weather

    def route(self, now: float, src: int, dst: int, size: int) -> tuple[float, ...]:
        """The instants of arrival of every copy."""
        copies = self._weather.copies(now, src, dst)
        arrivals = self._fabric.route(now, src, dst, size)
        return tuple(arrival + late for late in copies for arrival in arrivals)

    def admit(self, now: float, src: int, dst: int, size: int) -> float | None:
        """Refused while a cut lies between the two."""
        if self._weather.cut(now, src, dst):
            return None
        return self._fabric.admit(now, src, dst, size)
