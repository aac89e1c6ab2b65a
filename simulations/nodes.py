"""A population of full nodes: their keys, their stacks, and all that happens round them."""

from dataclasses import dataclass
from typing import Final, final

from p2p.core import Event
from p2p.entropy import Entropy
from p2p.identity import Identity
from p2p.onion.core import Misbehaved
from p2p.overlay.advert import Fields, Model, Prices, Role
from p2p.overlay.bodies import Transport
from p2p.stack import Peer, Stack, StackConfig
from p2p.transport.fabric import EPOCH
from p2p.wire import Endpoint
from simulations.kem import StandInKem
from simulations.network.build import Ground, plain
from simulations.network.dialling import Dialling
from simulations.network.fabric import Network
from simulations.network.links import LinkNames
from simulations.network.nat import Nat
from simulations.workload import Echo
from simulations.world import Life, Stage

NETWORK: Final = -1
"""The network number of simulations: no real network has it."""

PORT: Final = 4001

HOME: Final = "192.168.1.2"
"""The address that a node behind a router has at home."""

MODEL: Final = Model(
    identity=bytes(32),
    quant=3,
    context=2_048,
    prompt_rate=256,
    answer_rate=128,
    slots=1,
    prices=Prices(0, 0),
    label="echo",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """How many of each: relays first, then workers, then clients. The first relay is bootstrap."""

    relays: int = 6
    workers: int = 3
    clients: int = 3

    @property
    def nodes(self) -> int:
        """All of them."""
        return self.relays + self.workers + self.clients

    def role(self, node: int) -> Role:
        """What a node offers."""
        if node < self.relays:
            return Role.RELAY
        return Role.WORKER if node < self.relays + self.workers else Role(0)


@final
class Town:
    """What a world of full nodes is made of: `cores`, `links`, `datagrams`, `names` and effects.

    It is the effects: it boots nodes, lets dials end, and hears what the others do not.
    """

    def __init__(
        self,
        census: Census,
        entropy: Entropy,
        ground: Ground | None = None,
        *,
        model: Model = MODEL,
    ) -> None:
        """`model`: what workers say that they serve."""
        self._model = model
        ground = ground or plain(entropy, Network(entropy.fork("udp")))
        self._census = census
        self._entropy = entropy
        self._boxes = ground.boxes
        self._lives = [0] * census.nodes
        self._identities = [
            Identity(entropy.fork(f"node/{node}").token(32)) for node in range(census.nodes)
        ]

        for node in range(census.nodes):
            nat = ground.nat(node) if node else Nat.OPEN
            there = address(node)
            home = there if nat in (Nat.OPEN, Nat.FIREWALL) else Endpoint(HOME, PORT)
            self._boxes.settle(node, nat, home, there.host)

        self.names = LinkNames([identity.id for identity in self._identities], self._boxes)
        self.links = ground.links
        self.datagrams = ground.datagrams
        self.echo = Echo(self.names, entropy)
        self.cores = [self.rebuild(node) for node in range(census.nodes)]
        self.misbehaved: list[tuple[int, Misbehaved]] = []
        """What nodes held against each other: honest ones nothing."""

        listening = {address(node): node for node in range(census.nodes) if self._listens(node)}
        self._dialling = Dialling(self.names, listening, self.links)

    def identity(self, node: int) -> Identity:
        """Who a node is."""
        return self._identities[node]

    def rebuild(self, node: int) -> Stack:
        """A node's stack as it is after a start: of its identity, and nothing else it knew."""
        life = self._lives[node]
        self._lives[node] += 1
        config = StackConfig(
            network=NETWORK,
            dev=True,
            udp=True,
            started_at=int(EPOCH) + self._lives[node],
            bootstrap=(Peer(self._identities[0].public, (address(0),)),),
            roles=self._census.role(node),
            kem=StandInKem(),
        )
        return Stack(self._identities[node], self._entropy.fork(f"node/{node}/{life}"), config)

    def handle(self, world: Stage[Stack], node: int, now: float, event: Event) -> None:
        """Act on an event of a node."""
        if isinstance(event, Life) and event.what in ("start", "restart"):
            world.at(now, node, "start", lambda core, when: self._boot(core, when, node))
        elif isinstance(event, Life):
            world.nodes[node].finish()
            self._told(world, node, now, event)
        elif isinstance(event, Misbehaved):
            self.misbehaved.append((node, event))
        else:
            self._told(world, node, now, event)

    def _told(self, world: Stage[Stack], node: int, now: float, event: Event) -> None:
        self._dialling.handle(world, node, now, event)
        self.echo.handle(world, node, now, event)

    def leave(self, core: Stack, now: float) -> None:
        """What a node does before a graceful stop."""
        core.withdraw(now)

    def _boot(self, core: Stack, now: float, node: int) -> None:
        role = self._census.role(node)
        listens = (address(node),) if self._listens(node) else ()
        waits = {Transport.UDP: PORT} if role and not listens else {}
        core.start(now, listens, listens, waits)
        if role:
            models = (self._model,) if Role.WORKER in role else ()
            core.publish(now, Fields(roles=role, models=models))

    def _listens(self, node: int) -> bool:
        """Whether it says where it is: who is behind a box waits for strangers to find out."""
        return bool(self._census.role(node)) and self._boxes.nat(node) is Nat.OPEN


def address(node: int) -> Endpoint:
    """Where others see a node, and reach it if it listens."""
    return Endpoint(f"10.{node >> 16 & 255}.{node >> 8 & 255}.{node & 255}", PORT)
