"""A DHT of real cores on the message seam: nodes look up, store, come and go.

Every node looks something up `lookups_per_node_s` times a second. Where `publishes_per_s` values
are published by random nodes of the whole network, it is one of these; where none are, it is the
node nearest to a random id. Measured are seconds, queries and hops of lookups, whether they came to
what an oracle knows to be right, how much of the tables is alive, and what is sent.

Adversaries:

- `boastful`: a `share` of the nodes behind NATs say that they can be reached
- `eclipse`: nodes round the key of a `victim`, which is published first; lookups of it are labelled
  `eclipsed`, and lookup_false says how many ended with what nobody published
- `flooder`: each sends `rate` queries a second to one node; flood_answered says how many it answers
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, final

from p2p.dht import key as keys
from p2p.dht import value as values
from p2p.dht.lookup import Walk
from p2p.dht.settings import DEFAULT, Settings
from p2p.entropy import Entropy, exponential, sample
from p2p.errors import TussahError
from p2p.identity import AdnlId
from p2p.ton import DhtKey
from p2p.transport.fabric import EPOCH
from simulations import knobs
from simulations.adversary.eclipse import Eclipse, Ring, grind
from simulations.adversary.flooder import Flooder, lookup
from simulations.bounds import within
from simulations.experiment import Adversary, Experiment
from simulations.ids import BITS
from simulations.network.build import ground
from simulations.population import STABLE, Hold, Population, identity_of
from simulations.reading import WrongExperiment, read, unknown
from simulations.scenarios import Setting, Violation
from simulations.scenarios.comings import churn_of
from simulations.scenarios.traffic import Traffic
from simulations.scenarios.weather import under_weather
from simulations.seat import QUERIES_PENDING, Seat
from simulations.trioworld import TrioWorld
from simulations.world import Life, Stage, World, uncollected

KNOBS: Final = ("dht",)

NAME: Final = b"sim"

CONTENT: Final = 256
"""bytes of a published value"""

LIFE: Final = 3_000
"""seconds that it lives"""

SETTLED: Final = 2.0
"""seconds after its publication from which a value is looked for"""

SAMPLE: Final = 50
"""nodes whose tables are looked at, for how much of them is alive and how long they are: I10"""

FLOOD_PATIENCE: Final = 0.5
"""seconds that a flooder waits for an answer, to be counted: it has no use for one"""

Looking: TypeAlias = Callable[[Seat, float], object]


def build(setting: Setting) -> "Dht":
    """The network at its start."""
    with uncollected():
        return Dht(setting)


@final
class Dht:
    """A `Scenario`, and the effects of its world."""

    def __init__(self, setting: Setting) -> None:
        exp, entropy = setting.exp, setting.entropy
        land = ground(exp.network, entropy.fork("network"), whole=True)
        self._exp = exp
        self._meter = setting.meter
        self._audit = setting.audit
        self._until = EPOCH + exp.run.until
        self.log = setting.log
        if self.log is not None:
            self.log.resolve = land.boxes.index

        settings = knobs.apply(DEFAULT, "dht", exp.protocol)
        self._bounds = _bounds(settings)
        attack = _attack(exp, entropy)
        self._victim = None if attack is None else attack.victim
        self._people = Population(
            exp.run.nodes,
            entropy,
            land,
            settings,
            boastful=_boastful(exp),
            holds={} if attack is None else attack.holds,
        )
        self._flooders = _flooders(exp, entropy)
        self._contents: dict[int, bytes] = {}
        self._people.start(warm=exp.nodes.start == "warm")
        kind = setting.world or (World[Seat] if exp.run.level == "L1" else TrioWorld[Seat])
        self._world = kind(
            [member.seat for member in self._people.members],
            under_weather(exp, entropy, land.datagrams),
            self.log,
            self,
            naming=land.boxes,
        )
        self._lives = [0] * exp.run.nodes
        self._desks = [entropy.fork(f"workload/{node}") for node in range(exp.run.nodes)]
        self._published = _publications(exp, entropy.fork("publications"))
        if self._victim is not None:
            self._published.insert(0, (EPOCH, self._victim))
        self._traffic = Traffic(setting.meter, "dht")
        self._enter(entropy)

    # --- Scenario ---

    @property
    def now(self) -> float:
        """See `Scenario`."""
        return self._world.now

    @property
    def nodes(self) -> Sequence[object]:
        """See `Scenario`."""
        return [member.core for member in self._people.members]

    def run(self, until: float, max_records: int | None = None) -> bool:
        """See `Scenario`."""
        return self._world.run(until, max_records)

    def sizes(self, node: int) -> Mapping[str, int]:
        """See `Scenario`."""
        member = self._people.members[node]
        return {**member.seat.sizes(), **member.core.sizes()}

    # --- effects ---

    def handle(self, world: Stage[Seat], node: int, now: float, event: object) -> None:
        """Begin what a node is there for when it comes up."""
        if isinstance(event, Life):
            self._lives[node] += 1
            if event.what in ("start", "restart"):
                self._look_later(world, node, now)
                self._flood_later(world, node, now)

    def leave(self, core: Seat, now: float) -> None:
        """A node of the DHT says no farewell."""

    # --- what is written down beforehand ---

    def _enter(self, entropy: Entropy) -> None:
        churn = churn_of(self._exp, entropy)
        for node in range(self._exp.run.nodes):
            if churn is None or node < STABLE:
                self._world.start(node)
            else:
                again = partial(self._people.again, node)
                churn.run(self._world, node, self._until, build=again)
        for when, node in self._published:
            self._world.at(when, node, "publish", self._publish)
        self._sample_later(EPOCH + self._exp.measure.bucket)

    def _publish(self, seat: Seat, now: float) -> None:
        identity = self._people.identity(seat.index)
        content = self._contents[seat.index] = self._desks[seat.index].token(CONTENT)
        value = values.sign(identity, NAME, content, int(now) + LIFE)
        seat.begin(now, self._people.members[seat.index].core.store(value))

    # --- lookups ---

    def _look_later(self, world: Stage[Seat], node: int, now: float) -> None:
        rate = self._exp.workload.lookups_per_node_s
        if rate:
            wait = exponential(self._desks[node], 1.0 / rate)
            world.at(now + wait, node, "look", self._looking(world, node, self._lives[node]))

    def _looking(self, world: Stage[Seat], node: int, life: int) -> Looking:
        def look(seat: Seat, now: float) -> None:
            if life != self._lives[node]:
                return
            draw = self._desks[node]
            known = bisect_right(self._published, (now - SETTLED, 0))
            if known:
                owner = self._published[draw.below(known)][1]
                seat.begin(now, self._find(seat, now, owner))
            elif not self._published:
                seat.begin(now, self._seek(seat, now, draw.token(32)))
            self._look_later(world, node, now)

        return look

    def _flood_later(self, world: Stage[Seat], node: int, now: float) -> None:
        rate = self._flooders.get(node)
        if rate is not None:
            wait = exponential(self._desks[node], 1.0 / rate)
            world.at(now + wait, node, "flood", self._flooding(world, node, self._lives[node]))

    def _flooding(self, world: Stage[Seat], node: int, life: int) -> Looking:
        """A question to a node that it knows, whose answer is of no use."""

        def flood(seat: Seat, now: float) -> None:
            if life == self._lives[node]:
                known = self._people.members[node].core.active()
                if known:
                    seat.begin(now, self._flood(seat, known[0].id))
                self._flood_later(world, node, now)

        return flood

    async def _flood(self, seat: Seat, target: AdnlId) -> None:
        question = lookup(self._desks[seat.index])
        try:
            await seat.query(target, question, timeout=FLOOD_PATIENCE)
        except TussahError:
            self._meter.observe("flood_answered", False)
        else:
            self._meter.observe("flood_answered", True)

    async def _find(self, seat: Seat, began: float, owner: int) -> None:
        where = keys.key_id(DhtKey(self._people.id(owner), NAME, 0))
        walk = await self._people.members[seat.index].core.walk_to_value(where)
        label = "eclipsed" if owner == self._victim else ""
        self._meter.observe("lookup_found", walk.value is not None, label)
        if label:
            is_false = walk.value is not None and walk.value.value != self._contents[owner]
            self._meter.observe("lookup_false", is_false, label)
        self._tell(seat.now - began, walk)

    async def _seek(self, seat: Seat, began: float, target: bytes) -> None:
        walk = await self._people.members[seat.index].core.walk_to_nodes(target)
        nearest = self._people.ids.nearest(
            target, lambda node: self._world.up(node) and node != seat.index
        )
        if nearest is not None:
            right = bool(walk.nearest) and walk.nearest[0].id == self._people.id(nearest)
            self._meter.observe("lookup_closest", right)
        self._tell(seat.now - began, walk)

    def _tell(self, seconds: float, walk: Walk) -> None:
        self._meter.observe("lookup_s", seconds)
        self._meter.observe("lookup_messages", walk.asked)
        self._meter.observe("lookup_hops", walk.hops)

    # --- the whole ---

    def _sample_later(self, when: float) -> None:
        if when <= self._until:
            self._world.do(when, self._sample)

    def _sample(self) -> None:
        now, count = self.now, self._exp.run.nodes
        up = [node for node in range(count) if self._world.up(node)]
        self._meter.gauge("nodes_up", len(up))
        for node in up[:: max(1, len(up) // SAMPLE)]:
            self._look_at_table(node)
        self._traffic.tell(self._world.statistics())
        self._sample_later(now + self._exp.measure.bucket)

    def _look_at_table(self, node: int) -> None:
        self._audit.check("I10")
        wrong = within(self.sizes(node), self._bounds)
        if wrong:
            self._audit.fail(Violation(invariant="I10", at=self.now, node=node, detail=wrong))
        active = self._people.members[node].core.active()
        if active:
            alive = sum(self._is_alive(other.id) for other in active)
            self._meter.gauge("table_live_share", alive / len(active))

    def _is_alive(self, peer: AdnlId) -> bool:
        node = self._people.node(peer)
        return self._world.up(node) and self._people.reached(node)


def _publications(exp: Experiment, entropy: Entropy) -> list[tuple[float, int]]:
    """When which node publishes, in order: known beforehand, so that whoever looks knows too."""
    rate, when = exp.workload.publishes_per_s, EPOCH
    found: list[tuple[float, int]] = []
    while rate and (when := when + exponential(entropy, 1.0 / rate)) < EPOCH + exp.run.until:
        found.append((when, entropy.below(exp.run.nodes)))
    return found


def _bounds(settings: Settings) -> Mapping[str, int]:
    """What a node's tables may hold, whoever fills them."""
    return {
        "seat_waiting": QUERIES_PENDING,
        "dht_contacts": 2 * settings.k * BITS,
        "dht_values": settings.max_values,
        "dht_published": settings.max_published,
        "dht_rates": settings.max_peers,
        "dht_introductions": settings.max_peers,
    }


KINDS: Final = ("boastful", "eclipse", "flooder")


def _boastful(exp: Experiment) -> float:
    for one in exp.adversary:
        if one.kind not in KINDS:
            raise unknown(f"adversary {one.kind}", [*KINDS])
    return max((one.share for one in exp.adversary if one.kind == "boastful"), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attack:
    """An eclipse: of whom, and by whom."""

    victim: int
    holds: Mapping[int, Hold]


def _attack(exp: Experiment, entropy: Entropy) -> _Attack | None:
    for number, table in enumerate(exp.adversary):
        if table.kind == "eclipse":
            how = read(Eclipse, table.knobs, "adversary.eclipse")
            stream = entropy.fork(f"adversary/{number}")
            owner = identity_of(entropy, how.victim)
            ring = Ring(keys.key_id(DhtKey(owner.id, NAME, 0)), how.how)
            nodes = _attackers(exp, table, stream, spared=how.victim)
            holds = {
                node: Hold(identity=grind(ring.key, how.tries, stream), around=ring.join)
                for node in nodes
            }
            return _Attack(victim=how.victim, holds=holds)
    return None


def _flooders(exp: Experiment, entropy: Entropy) -> Mapping[int, float]:
    """Who floods, and at which rate."""
    return {
        node: read(Flooder, table.knobs, "adversary.flooder").rate
        for number, table in enumerate(exp.adversary)
        if table.kind == "flooder"
        for node in _attackers(exp, table, entropy.fork(f"adversary/{number}"))
    }


def _attackers(
    exp: Experiment, table: Adversary, entropy: Entropy, spared: int | None = None
) -> Sequence[int]:
    """Those named by number, else a share; never those that others begin with."""
    among = [node for node in range(STABLE, exp.run.nodes) if node != spared]
    if table.nodes and not all(node in among for node in table.nodes):
        raise WrongExperiment(f"adversary.nodes must be from {STABLE} on, and not the victim.")
    return table.nodes or sample(entropy, among, round(table.share * len(among)))
