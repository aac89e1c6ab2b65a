"""A node of the DHT: finds and stores for the layers above, and, as a server, serves others.

It is spoken to as a `Handler` and speaks through a `Sender`, so it knows ids and never addresses
or packets. What takes several steps (`find_value`, `find_nodes`, `store`) is awaited as a procedure
of the stack. A client asks bare, answers nothing, and stands in nobody's table.
"""

import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, final

from p2p.core import Procedures
from p2p.dht import key as keys
from p2p.dht import node as nodes
from p2p.dht import value as values
from p2p.dht.answering import Answering
from p2p.dht.asking import Asking
from p2p.dht.counts import Count, Counts, Snapshot
from p2p.dht.lookup import Reply, Walk, together, walk
from p2p.dht.node import Node
from p2p.dht.publishing import Build, Publication, Publications
from p2p.dht.settings import DEFAULT, Settings
from p2p.dht.storage import Storage
from p2p.dht.table import ID_BITS, Table, TableStatistics
from p2p.dht.value import Freshness
from p2p.entropy import Entropy, choice, sample
from p2p.errors import DhtError, NoCapacity, RemoteError
from p2p.identity import AdnlId, Identity, short_id
from p2p.sender import Sender
from p2p.ton import AdnlAddressList, DhtKey, DhtNode, DhtValue

MAX_SEEDS: Final = 128
"""nodes to begin with that are remembered: those of a configuration, and 64 of before."""

MEET_AT_ONCE: Final = 6
"""of them that are asked at a time."""

KEPT_NODES: Final = 64
"""nodes that are worth keeping over a restart."""

MIN_REMAINING: Final = 60
"""seconds a value of another must still live to be stored again."""

_TURN: Final = (1.0, 30.0)
"""seconds between two looks at the values of others, at the least and at the most."""


class Seed(NamedTuple):
    """A node to begin with of which no signed record is at hand."""

    public: bytes
    addresses: AdnlAddressList


@dataclass(frozen=True, slots=True)
class Joined:
    """There is somebody to ask: so many nodes are active."""

    active: int


@dataclass(frozen=True, slots=True)
class Alone:
    """Nobody is left to ask; the nodes to begin with are tried until one answers."""


@dataclass(frozen=True, slots=True)
class Published:
    """An own value was stored by so many nodes."""

    name: str
    took: int


Question: TypeAlias = Callable[[Node, bytes], Coroutine[object, None, Reply | None]]
"""What `Asking` puts to a node about a key."""

DhtEvent: TypeAlias = Joined | Alone | Published


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtStatistics:
    """A snapshot."""

    serving: bool
    table: TableStatistics
    values: int
    published: int
    counts: Snapshot
    hops: Mapping[int, int]
    """How many lookups came to their value by so many hops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is worth keeping over a restart."""

    nodes: tuple[DhtNode, ...]
    values: tuple[DhtValue, ...]
    """Own ones, as they were stored last."""


@final
class DhtCore:
    """See the module. Whoever calls it runs `procedures` afterwards, as a stack does.

    It begins as a client, whose network is `network` (None: TON's, whose records name none);
    `serve` makes it a server.
    """

    def __init__(
        self,
        identity: Identity,
        sender: Sender,
        procedures: Procedures,
        entropy: Entropy,
        *,
        started_at: float,
        network: int | None,
        settings: Settings = DEFAULT,
    ) -> None:
        self._identity = identity
        self._procedures = procedures
        self._entropy = entropy
        self._network = network
        self._settings = settings

        self._counts = Counts()
        self._table = Table(identity.id, settings)
        self._storage = Storage(settings, entropy)
        self._asking = Asking(
            identity.id, network, sender, self._table, entropy, settings, self._counts
        )
        self._answering = Answering(
            self._table, self._storage, self._asking, settings, self._counts
        )
        self._publications = Publications(settings, entropy)
        self._asking.now = started_at

        self._seeds: dict[AdnlId, Seed] = {}
        self._version = 0
        self._fill_at: float | None = None
        self._turn_at = math.inf
        self._republishing = 0
        self._filling = False
        self._neighbours_known = False
        """Whether a lookup of our own id has been answered since we began, or began to serve.

        Before that nothing is published: it would stand with whoever was met first.
        """
        self._joined = False
        self._hops: dict[int, int] = {}
        self._events: list[DhtEvent] = []

    # --- commands ---

    def serve(self, now: float, addresses: AdnlAddressList | None) -> None:
        """Be a server at these addresses from now on, or, with None, a client.

        Raises `DhtError` if none of them can be reached from outside.
        """
        self._asking.now = now
        record = None
        if addresses is not None:
            private = self._settings.private_addresses
            nodes.reachable_addresses(addresses, private=private)
            self._version = max(int(now), self._version + 1)
            record = nodes.build(self._identity, addresses, self._version, self._network)
        self._answering.record = record
        self._asking.introduce_by(record)
        self._turn_at = math.inf if record is None else now
        if record is None:
            self._storage.clear()
        self._join(now)

    def bootstrap(self, now: float, seeds: Iterable[DhtNode | Seed]) -> None:
        """Begin with these nodes, of which some are asked for whom they know. Bad ones are left."""
        self._asking.now = now
        for seed in seeds:
            found = self._seed(seed)
            if found is not None and len(self._seeds) < MAX_SEEDS:
                self._seeds[short_id(found.public)] = found
        self._join(now)

    def publish(self, now: float, name: str, build: Build) -> None:
        """Store what `build` makes, and again before it is forgotten, until `withdraw`.

        `name` is for `Published` and `withdraw`. Raises `NoCapacity`.
        """
        self._publications.add(now, name, build)

    def withdraw(self, name: str) -> None:
        """Store it no longer."""
        self._publications.remove(name)

    def snapshot(self) -> Kept:
        """What to give to `restore` after a restart."""
        known = self._table.proven()[:KEPT_NODES]
        return Kept(nodes=tuple(node.record for node in known), values=self._publications.values())

    def restore(self, now: float, kept: Kept) -> None:
        """Begin with the nodes of before, and store own values of before until they expire."""
        self.bootstrap(now, kept.nodes)
        for value in filter(self._is_live, kept.values):
            name = f"restored {keys.key_id(value.key.key).hex()}"
            self._publications.add(now, name, _until_expired(value, self._settings.value_life))

    # --- procedures ---

    async def find_value(self, key: DhtKey) -> DhtValue | None:
        """The value of a key, checked; None if none was found. Raises `DhtError` for no key."""
        keys.check_key(key)
        where = keys.key_id(key)
        ended = await self._walk(where, self._asking.value)
        own = self._storage.get(self._asking.now, where)
        found = ended.value or own
        self._counts.add(Count.MISSING if found is None else Count.FOUND)
        if ended.value is not None:
            self._hops[ended.hops] = self._hops.get(ended.hops, 0) + 1
        return found

    async def find_nodes(self, target: bytes) -> list[DhtNode]:
        """The k nodes nearest to an id of 32 bytes that answer, nearest first."""
        ended = await self._walk(target, self._asking.nodes)
        return [node.record for node in ended.nearest]

    async def store(self, value: DhtValue) -> int:
        """Store a value at the k nodes nearest to its key; how many of them took it.

        A server that is as near keeps it too, uncounted. Raises `DhtError` and `BadSignature` for
        a value that nobody would take.
        """
        if values.check(value, self._asking.now) is Freshness.EXPIRED:
            raise DhtError("a value that has expired")
        where = keys.key_id(value.key.key)
        ended = await self._walk(where, self._asking.nodes)
        self._keep(value, where)
        stores = [self._asking.store(node, value) for node in ended.nearest]
        return sum(await together(self._procedures, stores))

    # --- Handler ---

    def query(self, now: float, peer: AdnlId, payload: bytes) -> bytes | None:
        """See `Handler`."""
        self._asking.now = now
        return self._answering.query(now, peer, payload)

    def message(self, now: float, peer: AdnlId, payload: bytes) -> None:
        """See `Handler`."""
        self._asking.now = now
        self._answering.message(now, peer, payload)

    # --- time ---

    def handle_timer(self, now: float) -> None:
        """Ping, fill buckets, publish and republish what is due."""
        self._asking.now = now
        for node in self._table.due(now):
            self._procedures.start(self._asking.ping(node))
        if self._neighbours_known:
            for publication in self._publications.due(now):
                self._procedures.start(self._publish(publication))
        if self._fill_at is not None and self._fill_at <= now:
            self._fill_at = now + self._between(self._settings.bucket_fill)
            self._procedures.start(self._fill())
        if self._turn_at <= now:
            self._turn_at = now + self._take_turns(now)
        self._notice()

    def next_deadline(self) -> float | None:
        """When something is due."""
        turn = None if self._turn_at == math.inf else self._turn_at
        publish = self._publications.next_due() if self._neighbours_known else None
        times = (self._table.next_due(), publish, self._fill_at, turn)
        return min((when for when in times if when is not None), default=None)

    # --- what is told ---

    def drain(self) -> list[DhtEvent]:
        """What has happened since the last call."""
        self._notice()
        events, self._events = self._events, []
        return events

    def record(self) -> DhtNode | None:
        """Our own record, while we serve."""
        return self._answering.record

    def active(self) -> list[Node]:
        """The nodes that are asked and named to others."""
        return self._table.active()

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        parts = (self._table, self._storage, self._asking, self._answering)
        sizes = {"dht_seeds": len(self._seeds), "dht_published": len(self._publications)}
        for part in parts:
            sizes |= part.sizes()
        return sizes

    def statistics(self) -> DhtStatistics:
        """A snapshot of the counters."""
        return DhtStatistics(
            serving=self._answering.record is not None,
            table=self._table.statistics(),
            values=len(self._storage),
            published=len(self._publications),
            counts=self._counts.snapshot(),
            hops=MappingProxyType(dict(self._hops)),
        )

    # --- lookups ---

    async def _walk(self, target: bytes, ask: Question) -> Walk:
        count = 2 * self._settings.k
        start = self._table.nearest(target, count) or self._table.reserve(target, count)
        ended = await walk(
            target, start, lambda node: ask(node, target), self._procedures, self._settings
        )
        self._counts.add(Count.LOOKUPS)
        return ended

    def _keep(self, value: DhtValue, where: bytes) -> None:
        serving = self._answering.record is not None
        if serving and self._table.nearer(where) < self._settings.k:
            with suppress(NoCapacity):
                self._storage.put(self._asking.now, value)

    # --- joining ---

    def _seed(self, seed: DhtNode | Seed) -> Seed | None:
        if not isinstance(seed, Seed):
            node = self._asking.believe(seed)
            if node is None:
                return None
            seed = Seed(node.public, node.addresses)
        return seed if short_id(seed.public) != self._identity.id else None

    def _join(self, now: float) -> None:
        """Let our neighbours be looked for: to know them and, as a server, to be known."""
        self._neighbours_known = False
        self._fill_at = now

    async def _fill(self) -> None:
        """Meet somebody if nobody is known; look for our neighbours, and later fill a bucket."""
        if self._filling:
            return
        self._filling = True
        try:
            if not self._table.active_count:
                await self._meet()
            if self._neighbours_known:
                place = choice(self._entropy, self._table.with_room())
                await self.find_nodes(self._target_in(place))
            elif await self.find_nodes(self._identity.id):
                self._neighbours_known = True
                for place in self._table.with_room()[:-1]:
                    await self.find_nodes(self._target_in(place))
        finally:
            self._filling = False

    async def _meet(self) -> None:
        seeds = sample(self._entropy, list(self._seeds.values()), MEET_AT_ONCE)
        await together(self._procedures, [self._asking.meet(*seed) for seed in seeds])

    def _target_in(self, place: int) -> bytes:
        """A random id that shares exactly so many bits with ours."""
        low = ID_BITS - place - 1
        own = int.from_bytes(self._identity.id, "big") >> low ^ 1
        rest = int.from_bytes(self._entropy.token(ID_BITS // 8), "big") & ((1 << low) - 1)
        return (own << low | rest).to_bytes(ID_BITS // 8, "big")

    def _notice(self) -> None:
        active = self._table.active_count
        if active and not self._joined:
            self._joined = True
            self._events.append(Joined(active))
        elif self._joined and not active:
            self._joined = False
            self._events.append(Alone())

    # --- storing again ---

    async def _publish(self, publication: Publication) -> None:
        assert publication.value is not None
        took = 0
        try:
            took = await self.store(publication.value)
        finally:
            self._publications.stored(self._asking.now, publication, took)
        self._events.append(Published(publication.name, took))

    def _take_turns(self, now: float) -> float:
        """Look at as many values of others as this turn has; seconds until the next."""
        self._storage.expire(now)
        count = len(self._storage)
        pause = min(max(_TURN[0], self._settings.rounds / max(count, 1)), _TURN[1])
        for _ in range(math.ceil(count * pause / self._settings.rounds)):
            where = self._storage.turn()
            if where is not None:
                self._look_after(now, where)
        return pause

    def _look_after(self, now: float, where: bytes) -> None:
        """Drop a value that is others' to keep; store it again if we are nearest and nobody does.

        Only what its owner has signed: the rest is its owner's to bring again, whose silence says
        that it has left.
        """
        value = self._storage.get(now, where)
        if value is None:
            return
        if not self._answering.keeps(where):
            self._storage.drop(where)
            return
        lonely = self._storage.heard(where) + self._settings.publish[1] < now
        lives = value.ttl > now + MIN_REMAINING
        room = self._republishing < self._settings.max_republishing
        if values.is_signed(value) and lonely and lives and room and not self._table.nearer(where):
            self._storage.touch(now, where)
            self._procedures.start(self._republish(value))

    async def _republish(self, value: DhtValue) -> None:
        self._republishing += 1
        try:
            await self.store(value)
        finally:
            self._republishing -= 1
        self._counts.add(Count.REPUBLISHED)

    def _is_live(self, value: DhtValue) -> bool:
        try:
            return values.check(value, self._asking.now) is Freshness.LIVE
        except RemoteError:
            return False

    def _between(self, bounds: tuple[float, float]) -> float:
        shortest, longest = bounds
        return shortest + (longest - shortest) * self._entropy.uniform()


def _until_expired(value: DhtValue, life: int) -> Build:
    def build(expires: int) -> DhtValue | None:
        return value if value.ttl > expires - life else None

    return build
