"""Overlays of many nodes in virtual time, each of whom does what its test tells it."""

from dataclasses import replace

from p2p.entropy import seeded
from p2p.errors import Unreachable
from p2p.identity import Identity, short_id
from p2p.overlay.core import PREFIXES, Broadcast, Cast, NeighboursChanged, OverlayCore, Pulses
from p2p.overlay.settings import DEFAULT
from p2p.sender import MAX_DATAGRAM_PAYLOAD
from p2p.transport.fabric import Constant
from simulations.messages import MessageWorld
from simulations.network.fabric import Network
from simulations.network.nat import Nat

NETWORK = 7


class Found:
    """A sender that knows where everybody is: in a real stack the DHT is asked for addresses."""

    def __init__(self, seat, village):
        self._seat = seat
        self._village = village
        self._known = set()

    def send(self, peer, payload):
        self._find(peer)
        self._seat.send(peer, payload)

    async def query(self, peer, payload, *, timeout, max_answer=MAX_DATAGRAM_PAYLOAD):  # noqa: ASYNC109
        self._find(peer)
        return await self._seat.query(peer, payload, timeout=timeout, max_answer=max_answer)

    def learn(self, public, addresses):
        self._seat.learn(public, addresses)

    def _find(self, peer):
        if peer not in self._known and peer in self._village.seats:
            self._known.add(peer)
            seat = self._village.seats[peer]
            self._seat.learn(seat.identity.public, seat.addresses)


class Directory:
    """Records in a DHT that is always there, and tells at most five."""

    def __init__(self):
        self.records = {}
        self.found = self.stored = 0
        self.down = False

    async def find(self, name):
        self.found += 1
        if self.down:
            raise Unreachable
        return list(self.records.values())[-5:]

    async def store(self, name, record):
        self.stored += 1
        if self.down:
            raise Unreachable
        self.records.pop(short_id(record.id.key), None)
        self.records[short_id(record.id.key)] = record


class Villager:
    """A node: its core, and what has come out of it. Accepts every broadcast unless told not to."""

    def __init__(self, village, identity, *, settings, nat, records):
        self.identity, self.id = identity, identity.id
        self.seat = village.world.seat(identity, nat=nat)
        village.seats[self.id] = self.seat
        self.accepts = True
        self.broadcasts, self.pulses, self.casts, self.neighbours = [], [], [], []
        self.calls = []
        self.core = OverlayCore(
            identity,
            Found(self.seat, village),
            self.seat.procedures,
            self.seat.entropy.fork("overlay"),
            network=NETWORK,
            settings=settings,
            records=records,
        )
        self.core.attach(self)
        self.seat.attach(self, *PREFIXES)

    # what a stack does around each call into the core

    def message(self, now, peer, payload):
        self.core.message(now, peer, payload)
        self.settle(now)

    def query(self, now, peer, payload):
        answer = self.core.query(now, peer, payload)
        self.settle(now)
        return answer

    def handle_timer(self, now):
        self.core.handle_timer(now)
        self.settle(now)

    def next_deadline(self):
        return self.core.next_deadline()

    def call(self, now, peer, body):
        self.calls.append((peer, body))
        return None if body == b"hush" else body[::-1]

    def do(self, action):
        self.seat.call(lambda now: (action(self.core, now), self.settle(now)))

    def settle(self, now):
        for event in self.core.drain():
            match event:
                case Broadcast(id=identity):
                    self.broadcasts.append(event)
                    (self.core.accept if self.accepts else self.core.refuse)(now, identity)
                case Pulses(pulses=pulses):
                    self.pulses += pulses
                case Cast():
                    self.casts.append(event)
                case NeighboursChanged(neighbours=neighbours):
                    self.neighbours.append(neighbours)


class Village:
    """A world of villagers; `loss` is of every message, query and answer."""

    def __init__(self, seed=1, loss=0.0, delay=None, settings=DEFAULT):
        entropy = seeded(seed)
        fabric = Constant(delay) if delay else Network(entropy.fork("net"), loss=loss)
        self.world = MessageWorld(entropy.fork("world"), fabric)
        self.settings = settings
        self.seats = {}
        self.villagers = []

    @property
    def now(self):
        return self.world.now

    def settle_one(self, number=None, *, nat=Nat.OPEN, records=None, **changes):
        number = len(self.villagers) if number is None else number
        villager = Villager(
            self,
            Identity(number.to_bytes(32, "big")),
            settings=replace(self.settings, **changes),
            nat=nat,
            records=records,
        )
        self.villagers.append(villager)
        return villager

    def settle_many(self, count, bootstraps=3, every=0.0):
        """Members that join one after the other by the first few."""
        many = [self.settle_one() for _ in range(count)]
        names = [one.id for one in many[:bootstraps]]
        for one in many:
            one.do(lambda core, now: core.join(now, names, serve=True))
            self.run(every)
        return many

    def run(self, seconds):
        self.world.run(self.now + seconds)
