"""Many nodes of one DHT: who they are, where, and what each knows when it starts.

Warm nodes know whom nodes of a converged network know, and each of these answered at some moment
of the last minute. Cold ones know the first few, and those that come back whom they knew.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, final

from p2p.dht.core import DhtCore
from p2p.dht.events import DhtSnapshot
from p2p.dht.joining import Seed
from p2p.dht.known import Known
from p2p.dht.node import Node
from p2p.dht.settings import Settings
from p2p.entropy import Entropy
from p2p.identity import AdnlId, Identity
from p2p.transport.fabric import EPOCH
from simulations.ids import Ids
from simulations.messages import settle
from simulations.network.build import Ground
from simulations.network.nat import Nat
from simulations.network.places import address_of
from simulations.seat import Seat, Upper

NETWORK: Final = 0x51A1
"""The number of simulated networks."""

GOLDEN: Final = 0.618_033_988_749_895
"""of a round, from one to the next: so many spread evenly, with no draw for each"""

STABLE: Final = 3
"""nodes that others begin with, which are always there and behind nothing"""


@final
@dataclass(frozen=True, slots=True)
class Member:
    """One life of a node."""

    seat: Seat
    core: DhtCore


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A node in an attacker's hands."""

    identity: Identity
    """that it has drawn for itself"""
    around: Callable[[DhtCore], Upper]
    """what answers in the place of its core"""


@final
class Population:
    """Builds lives of nodes. Those behind a box are clients, but for a `boastful` share of them."""

    def __init__(
        self,
        count: int,
        entropy: Entropy,
        ground: Ground,
        settings: Settings,
        *,
        boastful: float = 0.0,
        holds: Mapping[int, Hold] | None = None,
    ) -> None:
        self._holds = holds or {}
        self._entropy = entropy
        self._settings = settings
        self._records = Known(NETWORK, private=settings.private_addresses, size=2 * count)
        self._identities = [
            self._holds[node].identity if node in self._holds else identity_of(entropy, node)
            for node in range(count)
        ]
        self._nodes = {identity.id: node for node, identity in enumerate(self._identities)}
        self._lives = [0] * count

        self._reached: list[bool] = []
        self._serves: list[bool] = []
        for node in range(count):
            nat = ground.nat(node) if node >= STABLE else Nat.OPEN
            settle(ground.boxes, node, nat)
            boasts = entropy.fork(f"boasts/{node}").uniform() < boastful
            self._reached.append(nat is Nat.OPEN)
            self._serves.append(nat is Nat.OPEN or boasts)

        self.ids = Ids(
            {node: self.id(node) for node, is_reached in enumerate(self._reached) if is_reached}
        )
        """Of those that can be reached."""
        self.members = [self._life(node, EPOCH) for node in range(count)]

    def __len__(self) -> int:
        return len(self._identities)

    def id(self, node: int) -> AdnlId:
        """Who a node is."""
        return self._identities[node].id

    def node(self, peer: AdnlId) -> int:
        """The node of an id."""
        return self._nodes[peer]

    def identity(self, node: int) -> Identity:
        """The key of a node."""
        return self._identities[node]

    def reached(self, node: int) -> bool:
        """Whether strangers reach it."""
        return self._reached[node]

    def start(self, *, warm: bool) -> None:
        """What all know in their first life."""
        if not warm:
            for member in self.members:
                self._meet(member, EPOCH)
            return
        records = {node: self._node(node) for node, one in enumerate(self._reached) if one}
        for node in range(len(self)):
            self._know(node, list(self._known(node, records)))

    def again(self, node: int, now: float) -> Seat:
        """Another life of a node, which remembers some of those whom it knew."""
        kept = self.members[node].core.snapshot()
        self.members[node].seat.close()
        member = self.members[node] = self._life(node, now)
        if kept.nodes:
            seeds = DhtSnapshot(nodes=kept.nodes, values=())
            member.seat.do(now, lambda when: member.core.restore(when, seeds))
        else:
            self._meet(member, now)
        return member.seat

    # --- one life ---

    def _life(self, node: int, now: float) -> Member:
        life = self._lives[node]
        self._lives[node] += 1
        entropy = self._entropy.fork(f"node/{node}/{life}")
        identity = self._identities[node]
        seat = Seat(identity, node, entropy, address_of(node), now)
        core = DhtCore(
            identity,
            seat,
            seat.procedures,
            entropy.fork("dht"),
            started_at=now,
            network=NETWORK,
            settings=self._settings,
            known=self._records,
        )
        hold = self._holds.get(node)
        seat.attach(core if hold is None else hold.around(core))
        if self._serves[node]:
            seat.do(now, lambda when: core.serve(when, seat.addresses))
        return Member(seat, core)

    def _meet(self, member: Member, now: float) -> None:
        first = [
            Seed(self._identities[node].public, address_of(node))
            for node in range(min(STABLE, len(self)))
        ]
        member.seat.do(now, lambda when: member.core.bootstrap(when, first))

    def _know(self, node: int, known: list[tuple[float, Node]]) -> None:
        member = self.members[node]
        member.seat.do(EPOCH, lambda now: member.core.assume(now, known))

    def _node(self, node: int) -> Node:
        record = self.members[node].core.record()
        found = None if record is None else self._records.check(record)
        assert found is not None
        return found

    def _known(self, node: int, records: dict[int, Node]) -> Iterator[tuple[float, Node]]:
        draws = self._entropy.fork(f"warm/{node}")
        phase = draws.uniform()
        for other in self.ids.acquaintances(self.id(node), self._settings.k, draws):
            phase = (phase + GOLDEN) % 1.0
            yield EPOCH - self._settings.ping_interval * phase, records[other]


def identity_of(entropy: Entropy, node: int) -> Identity:
    """The key of an honest node."""
    return Identity(entropy.fork(f"identity/{node}").token(32))
