"""A world of seats that is stepped by hand: nodes are added, told and looked at as one goes.

It is a `World` of `Seat`s, with the same instants, order, log and life. What an experiment writes
down beforehand needs none of this: it gives seats to a world as any other core.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, final

from p2p.entropy import Entropy
from p2p.identity import AdnlId, Identity
from p2p.transport.fabric import Fabric
from simulations.log import EventLog
from simulations.network.nat import Boxes, Nat
from simulations.network.places import HOME, address_of, endpoint_of
from simulations.seat import Outcome, Seat
from simulations.world import NoEffects, World

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStatistics:
    """A snapshot of a world's counters."""

    sent: int
    """payloads sent: messages, queries and answers"""
    bytes_sent: int
    """their bytes, with what a packet adds"""
    lost: int
    """payloads that the fabric lost"""
    unheard: int
    """payloads that reached no node: gone, or behind a NAT, or never there"""


@final
class MessageWorld:
    """Runs the cores of its seats from instant to instant; reproducible from its entropy."""

    def __init__(
        self,
        entropy: Entropy,
        fabric: Fabric,
        *,
        boxes: Boxes | None = None,
        log: EventLog | None = None,
    ) -> None:
        self._entropy = entropy
        self._boxes = boxes or Boxes()
        self._world: World[Seat] = World([], fabric, log, NoEffects(), naming=self._boxes)
        self._indexes: dict[AdnlId, int] = {}

    @property
    def now(self) -> float:
        """Unix seconds of virtual time."""
        return self._world.now

    @property
    def seats(self) -> list[Seat]:
        """Every node's newest seat, in the order of their first."""
        return list(self._world.nodes)

    def seat(self, identity: Identity, *, nat: Nat = Nat.OPEN) -> Seat:
        """A place for a node, up at once; the former one of the same node goes down."""
        known = self._indexes.get(identity.id)
        index = len(self._indexes) if known is None else known
        if known is None:
            self._indexes[identity.id] = index
            settle(self._boxes, index, nat)
        else:
            self._world.nodes[index].crash()
        entropy = self._entropy.fork(f"node/{index}")
        seat = Seat(identity, index, entropy, address_of(index), self.now)
        self._world.settle(seat, known)
        seat.hand = self._world
        return seat

    def reaches(self, seat: Seat) -> bool:
        """Whether strangers reach a node where it says that it is."""
        return self._boxes.nat(seat.index) is Nat.OPEN

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at an instant that is not past."""
        self._world.do(when, action)

    def run(self, until: float) -> None:
        """Run to `until`, what happens then included. Raises what a core raises: a bug."""
        self._world.run(until)

    def finish(self, outcome: Outcome[T], *, within: float) -> T:
        """Run until a procedure has ended, `within` seconds at most, and give its result."""
        self._world.run(self.now + within, stop=lambda: outcome.done)
        return outcome.result()

    def sleep(self, seat: Seat) -> None:
        """Close the lid: nothing is heard, said or due, and nothing forgotten."""
        self._world.fell(seat.index)

    def wake(self, seat: Seat) -> None:
        """Open it again."""
        self._world.settle(seat, seat.index)

    def statistics(self) -> MessageStatistics:
        """A snapshot of the counters."""
        counted = self._world.statistics()
        return MessageStatistics(
            sent=counted.sent + counted.unknown,
            bytes_sent=counted.bytes_sent,
            lost=counted.lost,
            unheard=counted.unknown + counted.refused + counted.missed,
        )


def settle(boxes: Boxes, node: int, nat: Nat) -> None:
    """Put a node where `places` says that it is, behind its box."""
    there = endpoint_of(node)
    home = there if nat in (Nat.OPEN, Nat.FIREWALL) else HOME
    boxes.settle(node, nat, home, there.host)
