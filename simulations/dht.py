"""A DHT of many nodes on the message seam: they join through the first one, store and find."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from p2p.dht.core import DhtCore
from p2p.dht.joining import Seed
from p2p.dht.settings import DEFAULT, Settings
from p2p.entropy import Entropy, choice
from p2p.errors import LocalError
from p2p.identity import Identity
from p2p.ton import DhtKey, DhtValue
from p2p.transport.fabric import Fabric
from simulations.messages import MessageWorld
from simulations.network.fabric import Network
from simulations.network.nat import Nat
from simulations.seat import Outcome, Seat

NETWORK: Final = 0x51A1
"""The number of simulated networks."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node: its core, and its place in the world."""

    core: DhtCore
    seat: Seat

    def find(self, key: DhtKey) -> Outcome[DhtValue | None]:
        """Begin to look for a value."""
        return self.seat.start(self.core.find_value(key))

    def store(self, value: DhtValue) -> Outcome[int]:
        """Begin to store a value."""
        return self.seat.start(self.core.store(value))


@dataclass(frozen=True, slots=True)
class Found:
    """How one lookup of a value ended."""

    value: DhtValue | None
    seconds: float


@final
class Town:
    """Nodes of one DHT in virtual time."""

    def __init__(
        self, entropy: Entropy, *, settings: Settings = DEFAULT, fabric: Fabric | None = None
    ) -> None:
        self.world = MessageWorld(entropy.fork("world"), fabric or Network(entropy.fork("network")))
        self.members: list[Member] = []
        self._entropy = entropy
        self._settings = settings

    def join(self, *, serving: bool = True, nat: Nat = Nat.OPEN, network: int = NETWORK) -> Member:
        """One more node, which knows the first one. It says that it can be reached if it serves."""
        identity = Identity(self._entropy.fork(f"identity/{len(self.members)}").token(32))
        seat = self.world.seat(identity, nat=nat)
        member = self._start(seat, network)
        if serving:
            seat.call(lambda now: member.core.serve(now, seat.addresses))
        if self.members:
            first = self.members[0].seat
            seeds = [Seed(first.identity.public, first.addresses)]
            seat.call(lambda now: member.core.bootstrap(now, seeds))
        self.members.append(member)
        return member

    def rejoin(self, gone: Member) -> Member:
        """A node that has crashed comes back as a server, at its place, and knows nobody."""
        seat = self.world.seat(gone.seat.identity)
        member = self._start(seat, NETWORK)
        seat.call(lambda now: member.core.serve(now, seat.addresses))
        self.members[self.members.index(gone)] = member
        return member

    def grow(self, count: int, *, pause: float) -> None:
        """So many servers more, one every `pause` seconds."""
        for _ in range(count):
            self.join()
            self.run(pause)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(self.world.now + seconds)

    def anyone(self) -> Member:
        """A random node that is up."""
        up = [member for member in self.members if member.seat.up]
        if not up:
            raise LocalError("nobody is up")
        return choice(self._entropy, up)

    def find_all(self, keys: Sequence[DhtKey], *, pause: float, within: float) -> list[Found]:
        """Look for each key from a random node, one every `pause` seconds, all `within` a time."""
        begun: list[tuple[float, Outcome[DhtValue | None]]] = []
        for key in keys:
            begun.append((self.world.now, self.anyone().find(key)))
            self.run(pause)
        return [
            Found(self.world.finish(outcome, within=within), outcome.ended - when)
            for when, outcome in begun
        ]

    def hops(self) -> Counter[int]:
        """How many lookups of all nodes came to their values by so many hops."""
        counted: Counter[int] = Counter()
        for member in self.members:
            counted.update(member.core.statistics().hops)
        return counted

    def _start(self, seat: Seat, network: int) -> Member:
        core = DhtCore(
            seat.identity,
            seat,
            seat.procedures,
            seat.entropy,
            started_at=self.world.now,
            network=network,
            settings=self._settings,
        )
        seat.attach(core)
        return Member(core, seat)
