"""Adverts and the directory: real overlays on the message seam, each of whose nodes keeps a list.

Relays, workers and clients by `nodes.mix` join through the first three relays of a dev network,
whose epochs are ten seconds; those that offer something say so, and again while they are there.
Measured are who hears an advert and how late, and how many nodes hold the commonest list of an
epoch; how many copies reach each node comes from the overlay's own counters.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, final

from p2p.identity import Identity
from p2p.overlay.advert import Role, Rules
from p2p.overlay.broadcast import Fate
from p2p.overlay.settings import DEV
from p2p.transport.fabric import EPOCH
from simulations import knobs
from simulations.citizens import Citizen, Register
from simulations.experiment import Experiment
from simulations.log import EventLog
from simulations.memo import AdvertMemo
from simulations.messages import settle
from simulations.network.build import ground
from simulations.network.nat import Nat
from simulations.network.places import address_of
from simulations.scenarios import Setting
from simulations.scenarios.comings import churn_of
from simulations.scenarios.traffic import Traffic
from simulations.scenarios.weather import under_weather
from simulations.seat import Seat
from simulations.trioworld import TrioWorld
from simulations.world import Life, Stage, World

KNOBS: Final = ("overlay",)

RULES: Final = Rules(network=0x51A1, dev=True)

SERVERS: Final = 3
"""relays of the settings, which are always there"""

SAYING: Final = (3.0, 8.0)
"""seconds after a node's start, one of which is drawn, until it says what it offers: by then it
has neighbours to say it to"""

SPREADING: Final = 5.0
"""seconds after which it is counted whom an advert has reached"""

COMPARED: Final = 5.0
"""seconds of an epoch after which lists are compared: half of it"""


def build(setting: Setting) -> "Directory":
    """The network before anybody has started."""
    return Directory(setting)


@final
class Directory:
    """A `Scenario`, and the effects of its world."""

    def __init__(self, setting: Setting) -> None:
        exp, entropy = setting.exp, setting.entropy
        self._exp = exp
        self._meter = setting.meter
        self._entropy = entropy
        self._settings = knobs.apply(DEV, "overlay", exp.protocol)
        land = ground(exp.network, entropy.fork("network"), whole=True)
        self._roles = _roles(exp)
        count = exp.run.nodes
        for node in range(count):
            settle(land.boxes, node, land.nat(node) if not self._roles[node] else Nat.OPEN)

        self._identities = [
            Identity(entropy.fork(f"identity/{node}").token(32)) for node in range(count)
        ]
        self._register = Register(self._identities)
        self._memo = AdvertMemo()
        self._lives = [0] * count
        self.citizens: dict[int, Citizen] = {}
        self.log: EventLog | None = setting.log
        if self.log is not None:
            self.log.resolve = land.boxes.index

        kind = World if exp.run.level == "L1" else TrioWorld
        self._world: World[Seat] | TrioWorld[Seat] = kind(
            [self._life(node, EPOCH) for node in range(count)],
            under_weather(exp, entropy, land.datagrams),
            self.log,
            self,
            naming=land.boxes,
        )
        self._traffic = Traffic(self._meter, "overlay")
        self._said: dict[bytes, float] = {}
        self._reached: Counter[bytes] = Counter()
        self._enter()

    # --- Scenario ---

    @property
    def now(self) -> float:
        """See `Scenario`."""
        return self._world.now

    @property
    def nodes(self) -> Sequence[object]:
        """See `Scenario`."""
        return [self.citizens[node] for node in range(self._exp.run.nodes)]

    def run(self, until: float, max_records: int | None = None) -> bool:
        """See `Scenario`."""
        return self._world.run(until, max_records)

    def sizes(self, node: int) -> Mapping[str, int]:
        """See `Scenario`."""
        return self.citizens[node].sizes()

    # --- effects ---

    def handle(self, world: Stage[Seat], node: int, now: float, event: object) -> None:
        """Let a node that has come up join."""
        if isinstance(event, Life) and event.what in ("start", "restart"):
            citizen, life = self.citizens[node], self._lives[node]
            first, last = SAYING
            wait = first + (last - first) * self._entropy.fork(f"say/{node}/{life}").uniform()
            world.at(now, node, "join", lambda seat, when: seat.do(when, citizen.start))
            world.at(now + wait, node, "say", lambda seat, when: self._say(seat, when, citizen))

    def leave(self, core: Seat, now: float) -> None:
        """Nothing is said on leaving here; a full node withdraws its advert."""

    def _say(self, seat: Seat, now: float, citizen: Citizen) -> None:
        if self.citizens[seat.index] is citizen:
            seat.do(now, citizen.say)

    # --- lives ---

    def _life(self, node: int, now: float) -> Seat:
        life = self._lives[node]
        self._lives[node] += 1
        entropy = self._entropy.fork(f"node/{node}/{life}")
        seat = Seat(self._identities[node], node, entropy, address_of(node), now)
        self.citizens[node] = Citizen(
            seat,
            self._register,
            self._roles[node],
            entropy,
            rules=RULES,
            settings=self._settings,
            servers=[identity.id for identity in self._identities[:SERVERS]],
            memo=self._memo,
            heard=self._heard,
        )
        return seat

    def _enter(self) -> None:
        churn, until = churn_of(self._exp, self._entropy), EPOCH + self._exp.run.until
        for node in range(self._exp.run.nodes):
            if churn is None or node < SERVERS:
                self._world.start(node)
            else:
                churn.run(self._world, node, until, build=partial(self._life, node))
        self._sample_later(EPOCH + self._exp.measure.bucket)
        self._compare_later(EPOCH + RULES.epoch + COMPARED)

    # --- adverts ---

    def _heard(self, node: int, now: float, advert: bytes, is_news: bool) -> None:
        if advert not in self._said:
            self._said[advert] = now
            self._world.do(now + SPREADING, partial(self._count, advert))
        elif is_news:
            self._meter.observe("advert_delay_s", now - self._said[advert])
            self._reached[advert] += 1

    def _count(self, advert: bytes) -> None:
        """How many of those who are told of adverts have heard this one."""
        serving = [node for node, role in enumerate(self._roles) if role and self._world.up(node)]
        if len(serving) > 1:
            share = self._reached.pop(advert, 0) / (len(serving) - 1)
            self._meter.observe("advert_coverage", min(1.0, share))

    # --- the whole ---

    def _sample_later(self, when: float) -> None:
        if when <= EPOCH + self._exp.run.until:
            self._world.do(when, partial(self._sample, when))

    def _sample(self, now: float) -> None:
        up = sum(self._world.up(node) for node in range(self._exp.run.nodes))
        self._meter.gauge("nodes_up", up)
        self._traffic.tell(self._world.statistics())
        self._sample_later(now + self._exp.measure.bucket)

    def _compare_later(self, when: float) -> None:
        if when <= EPOCH + self._exp.run.until:
            self._world.do(when, partial(self._compare, when))

    def _compare(self, now: float) -> None:
        """How many hold the list that most hold, once each epoch."""
        lists = [
            citizen.directory.listing.status()
            for node, citizen in self.citizens.items()
            if self._world.up(node)
        ]
        roots = Counter((status.epoch, status.root) for status in lists)
        if roots:
            self._meter.observe("directory_agreement", max(roots.values()) / len(lists))
        self._tell_copies()
        self._compare_later(now + RULES.epoch)

    def _tell_copies(self) -> None:
        for node, citizen in self.citizens.items():
            fates = citizen.overlay.statistics().broadcasts
            if self._roles[node] and fates[Fate.NEW]:
                self._meter.observe("advert_duplicates", fates[Fate.KNOWN] / fates[Fate.NEW])


def _roles(exp: Experiment) -> list[Role]:
    """Relays first, then workers, then clients; of mints there are none here."""
    nodes, mix = exp.run.nodes, exp.nodes.mix
    workers = round(nodes * mix.get("worker", 0.0))
    clients = round(nodes * mix.get("client", 0.0))
    clients = min(clients, max(0, nodes - workers - SERVERS))
    relays = nodes - workers - clients
    return [Role.RELAY] * relays + [Role.WORKER] * workers + [Role(0)] * clients
