"""A node of the DHT: finds and stores for the layers above, and, as a server, serves others.

It is spoken to as a `Handler` and speaks through a `UdpSender`: a node is asked at the address of
its record and nowhere else, since that is what the DHT is about. What takes several steps
(`find_value`, `find_nodes`, `store`) is awaited as a procedure of the stack. A client asks bare,
answers nothing, and stands in nobody's table.
"""

import math
from collections.abc import Iterable
from contextlib import suppress
from types import MappingProxyType
from typing import Final, final

from p2p import ton
from p2p.core import Procedures
from p2p.dht import key as keys
from p2p.dht import node as nodes
from p2p.dht import value as values
from p2p.dht.answering import Answering
from p2p.dht.asking import Asking
from p2p.dht.counts import Count, Counts
from p2p.dht.events import DhtEvent, DhtSnapshot, DhtStatistics, Published
from p2p.dht.joining import Joining
from p2p.dht.joining import Seed as Seed
from p2p.dht.known import Known
from p2p.dht.lookup import Walk
from p2p.dht.lookups import Lookups
from p2p.dht.node import Node
from p2p.dht.publishing import Build, Publication, Publications
from p2p.dht.settings import DEFAULT, Settings
from p2p.dht.storage import Storage
from p2p.dht.table import Table
from p2p.dht.tending import Tending
from p2p.dht.value import Freshness
from p2p.entropy import Entropy
from p2p.errors import NoCapacity, RemoteError
from p2p.identity import AdnlId, Identity
from p2p.sender import UdpSender
from p2p.ton import AdnlAddressList, DhtKey, DhtNode, DhtValue

PREFIXES: Final = tuple(
    constructor.tl.id
    for constructor in (
        ton.DhtPing,
        ton.DhtFindNode,
        ton.DhtFindValue,
        ton.DhtStore,
        ton.DhtGetSignedAddressList,
        ton.DhtRegisterReverseConnection,
        ton.DhtRequestReversePing,
        ton.DhtQuery,
        ton.DhtMessage,
    )
)
"""How payloads for a node of the DHT begin."""

KEPT_NODES: Final = 64
"""nodes that are worth keeping over a restart."""


@final
class DhtCore:
    """See the module. Whoever calls it runs `procedures` afterwards, as a stack does.

    It begins as a client, whose network is `network` (None: TON's, whose records name none);
    `serve` makes it a server. `known` may be shared by nodes of one network in one process.
    """

    def __init__(
        self,
        identity: Identity,
        sender: UdpSender,
        procedures: Procedures,
        entropy: Entropy,
        *,
        started_at: float,
        network: int | None,
        settings: Settings = DEFAULT,
        known: Known | None = None,
    ) -> None:
        self._identity = identity
        self._procedures = procedures
        self._entropy = entropy
        self._network = network
        self._settings = settings

        self._counts = counts = Counts()
        self._table = table = Table(identity.id, settings)
        self._storage = storage = Storage(identity.id, settings, entropy)
        if known is None:
            known = Known(network, private=settings.private_addresses)
        self._asking = asking = Asking(
            identity.id, sender, table, entropy, settings, counts, started_at, known
        )
        self._lookups = lookups = Lookups(table, storage, asking, procedures, settings, counts)
        self._joining = Joining(
            identity.id, table, asking, lookups.find_nodes, procedures, entropy, settings
        )
        self._tending = tending = Tending(
            table, storage, lookups.store, procedures, settings, counts
        )
        self._answering = Answering(table, storage, asking, tending, settings, counts)
        self._publications = Publications(settings, entropy)

        self._version = 0
        self._turn_at = math.inf
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
        self._answering.serve(record)
        self._asking.introduce_by(record)
        self._turn_at = math.inf if record is None else now
        if record is None:
            self._storage.clear()
        self._joining.seek(now)

    def bootstrap(self, now: float, seeds: Iterable[DhtNode | Seed]) -> None:
        """Begin with these nodes, of which some are asked for whom they know. Bad ones are left."""
        self._asking.now = now
        self._joining.add(seeds)
        self._joining.seek(now)

    def assume(self, now: float, known: Iterable[tuple[float, Node]]) -> None:
        """Take it that each of these nodes answered at its time, our neighbours among them.

        For who starts in the middle of things, as simulations do; none is sought or asked.
        """
        self._asking.now = now
        self._table.assume(known)
        self._joining.settle(now)

    def publish(self, now: float, name: str, build: Build) -> None:
        """Store what `build` makes, and again before it is forgotten, until `withdraw`.

        `name` is for `Published` and `withdraw`. Raises `NoCapacity`.
        """
        self._publications.add(now, name, build)

    def withdraw(self, name: str) -> None:
        """Store it no longer."""
        self._publications.remove(name)

    def snapshot(self) -> DhtSnapshot:
        """What to give to `restore` after a restart."""
        known = self._table.proven()[:KEPT_NODES]
        return DhtSnapshot(
            nodes=tuple(node.record for node in known), values=self._publications.values()
        )

    def restore(self, now: float, kept: DhtSnapshot) -> None:
        """Begin with the nodes of before, and store own values of before until they expire."""
        self.bootstrap(now, kept.nodes)
        for value in filter(self._is_live, kept.values):
            name = f"restored {keys.key_id(value.key.key).hex()}"
            with suppress(NoCapacity):
                self._publications.add(now, name, _until_expired(value, self._settings.value_life))

    # --- procedures ---

    async def find_value(self, key: DhtKey) -> DhtValue | None:
        """The value of a key, checked; None if none was found. Raises `DhtError` for no key."""
        keys.check_key(key)
        return await self.find_under(keys.key_id(key))

    async def find_under(self, where: bytes) -> DhtValue | None:
        """As `find_value`, by the 32 bytes of the key's id alone."""
        return await self._lookups.find_under(where)

    async def find_nodes(self, target: bytes) -> list[DhtNode]:
        """The k nodes nearest to an id of 32 bytes that answer, nearest first."""
        return await self._lookups.find_nodes(target)

    async def walk_to_value(self, where: bytes) -> Walk:
        """How a lookup of a key's id went; who only wants the value takes `find_under`."""
        return await self._lookups.to_value(where)

    async def walk_to_nodes(self, target: bytes) -> Walk:
        """How a lookup of the nodes nearest to an id went; see `find_nodes`."""
        return await self._lookups.to_nodes(target)

    async def store(self, value: DhtValue) -> int:
        """Store a value at the k nodes nearest to its key; how many of them took it.

        A server that is as near keeps it too, uncounted. Raises `DhtError` and `BadSignature` for
        a value that nobody would take.
        """
        return await self._lookups.store(value)

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
        if self._joining.neighbours_known:
            for publication in self._publications.due(now):
                self._procedures.start(self._publish(publication))
        if self._joining.due is not None and self._joining.due <= now:
            self._joining.due = None
            self._procedures.start(self._joining.fill(now))
        if self._turn_at <= now:
            self._turn_at = now + self._tending.turn(now)

    def next_deadline(self) -> float | None:
        """When something is due."""
        soonest = self._turn_at
        for when in (self._table.next_due(), self._joining.due, self._publishing_due()):
            if when is not None and when < soonest:
                soonest = when
        return None if soonest == math.inf else soonest

    def _publishing_due(self) -> float | None:
        ready = len(self._publications) and self._joining.neighbours_known
        return self._publications.next_due() if ready else None

    # --- what is told ---

    def drain(self) -> list[DhtEvent]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        noticed = self._joining.notice()
        return events if noticed is None else [noticed, *events]

    def record(self) -> DhtNode | None:
        """Our own record, while we serve."""
        return self._answering.record

    def active(self) -> list[Node]:
        """The nodes that are asked and named to others."""
        return self._table.active()

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        parts = (self._table, self._storage, self._asking, self._answering)
        sizes = {"dht_seeds": len(self._joining), "dht_published": len(self._publications)}
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
            hops=MappingProxyType(dict(self._lookups.hops)),
        )

    # --- inside ---

    async def _publish(self, publication: Publication) -> None:
        assert publication.value is not None
        try:
            took = await self.store(publication.value)
        except RemoteError:  # what was built of others' records, and nobody would take
            self._counts.add(Count.BAD_VALUE)
            took = 0
        self._publications.stored(self._asking.now, publication, took)
        self._events.append(Published(publication.name, took))

    def _is_live(self, value: DhtValue) -> bool:
        try:
            return values.check(value, self._asking.now) is Freshness.LIVE
        except RemoteError:
            return False


def _until_expired(value: DhtValue, life: int) -> Build:
    def build(expires: int) -> DhtValue | None:
        return value if value.ttl > expires - life else None

    return build
