"""A network in memory, as data: what is to happen when, in one canonical order. Pure.

The discrete-event world and the memory transport under trio both draw from a `Timetable`, so both
see the same instants in the same order:

1. Every instant lies on a grid of 2^-20 s. On it sums and differences of floats are exact, so a
   virtual clock lands on a deadline and not one ulp beside it.
2. Entries are ordered by (time, node, turn, a, b). What decides `a` and `b` is known to the node
   that causes the entry alone, never the order in which two nodes happened to run at one instant.
3. Nothing sent at t arrives at t: the least delay is one step of the grid.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias, final

from p2p.core import Source
from p2p.wire import Endpoint

EPOCH: Final = 1_800_000_000.0
"""Unix seconds at which virtual time starts: 15 January 2027, 08:00 UTC."""

GRID: Final = 2.0**-20
"""seconds: the distance of virtual instants; 2^31 s at 20 bits is 51 of a float's 53."""

LIFE_TURN, WAKE_TURN, COMMAND_TURN, DATAGRAM_TURN = range(-1, 3)
"""What comes first for one node at one instant."""


def on_grid(when: float) -> float:
    """The first instant of the grid that is not before `when`."""
    return math.ceil(when * 2.0**20) * GRID


class Fabric(Protocol):
    """Decides when what is sent arrives. Draws from the sender's randomness alone."""

    def route(self, now: float, src: int, dst: int, size: int) -> tuple[float, ...]:
        """The instants of arrival: none if it is lost, two if it is doubled."""

    def admit(self, now: float, src: int, dst: int, size: int) -> float | None:
        """On arrival: None = refused, later than `now` = it queues until then (asked once)."""


@final
class Constant:
    """A fabric on which everything takes equally long and nothing is lost."""

    def __init__(self, delay: float = 0.001) -> None:
        self._delay = delay

    def route(self, now: float, src: int, dst: int, size: int) -> tuple[float, ...]:
        return (now + self._delay,)

    def admit(self, now: float, src: int, dst: int, size: int) -> float | None:
        return now


class Naming(Protocol):
    """How nodes name each other: an index, an endpoint, or a link between two of them."""

    def reach(self, now: float, node: int, to: Source) -> tuple[int, Source] | None:
        """Whom `node` means by `to`, and what that one calls `node`; None if nobody is meant."""

    def admits(self, now: float, node: int, to: Source, source: Source) -> bool:
        """On arrival at `node`: whether who is called `source` gets in where `to` leads."""


@final
class Indexes:
    """Nodes that name each other by their indexes."""

    def reach(self, now: float, node: int, to: Source) -> tuple[int, Source] | None:
        return (to, node) if isinstance(to, int) else None

    def admits(self, now: float, node: int, to: Source, source: Source) -> bool:
        return True


@final
class Endpoints:
    """Nodes that name each other by where they listen: the endpoint of a node is at its index."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)
        self._nodes = {endpoint: node for node, endpoint in enumerate(endpoints)}

    def reach(self, now: float, node: int, to: Source) -> tuple[int, Source] | None:
        found = self._nodes.get(to) if isinstance(to, Endpoint) else None
        return None if found is None else (found, self._endpoints[node])

    def admits(self, now: float, node: int, to: Source, source: Source) -> bool:
        return True


class Datagram(NamedTuple):
    """Bytes under way."""

    source: Source
    to: Source
    """What their sender called their receiver."""
    data: bytes
    queued: bool
    """Whether the receiver's side has let them queue."""


Payload: TypeAlias = Datagram | Callable[[], None] | None
"""A datagram, what a life or command entry does, or nothing for a wake."""

Entry: TypeAlias = tuple[float, int, int, int, int, Payload]
"""(time, node, turn, a, b, payload); for a datagram `a` is the sender, `b` its send number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricStatistics:
    """A snapshot of a timetable's counters; the counts run since the start."""

    pending: int
    """entries that are still to come"""
    sent: int
    """datagrams sent"""
    lost: int
    """datagrams that arrive nowhere"""
    refused: int
    """datagrams refused on arrival"""
    missed: int
    """datagrams that found their node down"""
    unknown: int
    """datagrams to nobody"""
    bytes_sent: int
    """of all these"""


@final
class Timetable:
    """Everything that is still to happen, earliest first.

    Nodes that have links as well as sockets give `datagrams`, which then carries what goes to an
    `Endpoint`; `fabric` carries the rest.
    """

    def __init__(self, fabric: Fabric, naming: Naming, datagrams: Fabric | None = None) -> None:
        self.heap: list[Entry] = []
        self._fabric = fabric
        self._datagrams = fabric if datagrams is None else datagrams
        self._naming = naming
        self._numbers: dict[int, int] = {}
        self._sent = self._lost = self._refused = self._missed = self._unknown = self._bytes = 0

    def enter(
        self, when: float, node: int, turn: int, a: int, b: int, action: Callable[[], None]
    ) -> None:
        """Enter what a life or command entry does."""
        heapq.heappush(self.heap, (when, node, turn, a, b, action))

    def send(self, now: float, src: int, to: Source, data: bytes) -> None:
        """Enter the arrivals of a datagram."""
        self._bytes += len(data)
        reached = self._naming.reach(now, src, to)
        if reached is None:
            self._unknown += 1
            return
        dst, source = reached
        number = self._numbers[src] = self._numbers.get(src, -1) + 1

        arrivals = self._carries(to).route(now, src, dst, len(data))
        self._sent += 1
        self._lost += not arrivals
        for arrival in arrivals:
            when = max(on_grid(arrival), now + GRID)
            datagram = Datagram(source, to, data, False)
            heapq.heappush(self.heap, (when, dst, DATAGRAM_TURN, src, number, datagram))

    def admit(self, when: float, dst: int, src: int, number: int, datagram: Datagram) -> bool:
        """Whether a datagram that has arrived is handed over now."""
        if datagram.queued:
            return True
        verdict = self._verdict(when, dst, src, datagram)
        if verdict is None:
            self._refused += 1
            return False
        if verdict <= when:
            return True
        later = datagram._replace(queued=True)
        heapq.heappush(self.heap, (on_grid(verdict), dst, DATAGRAM_TURN, src, number, later))
        return False

    def miss(self) -> None:
        """Count a datagram that has found its node down."""
        self._missed += 1

    def _verdict(self, when: float, dst: int, src: int, datagram: Datagram) -> float | None:
        if not self._naming.admits(when, dst, datagram.to, datagram.source):
            return None
        carrier = self._carries(datagram.source)
        return carrier.admit(when, src, dst, len(datagram.data))

    def _carries(self, end: Source) -> Fabric:
        return self._datagrams if isinstance(end, Endpoint) else self._fabric

    def statistics(self) -> FabricStatistics:
        """A snapshot of the counters."""
        return FabricStatistics(
            pending=len(self.heap),
            sent=self._sent,
            lost=self._lost,
            refused=self._refused,
            missed=self._missed,
            unknown=self._unknown,
            bytes_sent=self._bytes,
        )
