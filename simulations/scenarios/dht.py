"""A DHT of real cores on the message seam: they join, some store values, all look them up.

Measured: `lookup_s`, `lookup_found`, `lookup_hops`, `messages`, `bytes`, `dropped`, `nodes_up`.
Nodes join one after the other in the first tenth of the run, values are stored in the next, and
lookups come as a Poisson process after that.

Small on purpose: there is neither churn nor NAT.
"""

import struct
from collections.abc import Sequence
from typing import Final, final

from p2p.core import DATAGRAM, EVENT
from p2p.dht import value as values
from p2p.dht.core import DhtCore
from p2p.dht.settings import DEFAULT
from p2p.entropy import choice, exponential
from p2p.identity import Identity
from p2p.ton import DhtKey, DhtValue
from p2p.transport.fabric import EPOCH, Fabric
from simulations import knobs
from simulations.dht import Member, Town
from simulations.log import EventLog
from simulations.network.build import ground
from simulations.scenarios import Setting
from simulations.seat import Outcome

KNOBS: Final = ("dht",)

PUBLISHERS: Final = 10
"""values stored if the experiment does not say how many"""

SLICE: Final = 0.005
"""virtual seconds between looks at the number of records"""


def build(setting: Setting) -> "DhtScenario":
    """The nodes of the DHT, none of which has joined yet."""
    return DhtScenario(setting)


@final
class DhtScenario:
    """See the module."""

    def __init__(self, setting: Setting) -> None:
        self._exp = setting.exp
        self._meter = setting.meter
        self._entropy = setting.entropy.fork("workload")
        self._log = setting.log
        settings = knobs.apply(DEFAULT, "dht", setting.exp.protocol)
        fabric = _fabric(setting)
        self._town = Town(setting.entropy, settings=settings, fabric=fabric)
        self._owner = Identity(self._entropy.token(32))
        self._keys: list[DhtKey] = []
        self._pending: list[tuple[float, Outcome[DhtValue | None]]] = []
        self._counted = (0, 0, 0, 0)
        self._plan()

    @property
    def now(self) -> float:
        return self._town.world.now

    @property
    def nodes(self) -> Sequence[DhtCore]:
        return [member.core for member in self._town.members]

    @property
    def log(self) -> EventLog | None:
        return self._log

    def run(self, until: float, max_records: int | None = None) -> bool:
        world = self._town.world
        while world.now < until:
            if self._log is not None and max_records is not None:
                if self._log.records >= max_records:
                    return False
                world.run(min(world.now + SLICE, until))
            else:
                world.run(until)
        return True

    def sizes(self, node: int) -> dict[str, int]:
        return self._town.members[node].core.sizes()

    # --- the work ---

    def _plan(self) -> None:
        world, run = self._town.world, self._exp.run
        joining = run.until / 10
        for number in range(run.nodes):
            world.at(EPOCH + joining * number / run.nodes, self._join)
        for number in range(PUBLISHERS):
            when = EPOCH + joining * (1 + number / PUBLISHERS)
            world.at(when, lambda number=number: self._publish(number))  # type: ignore[misc]
        world.at(EPOCH + 2 * joining, self._ask)
        world.at(EPOCH + 1.0, self._sample)

    def _join(self) -> None:
        self._town.join()

    def _publish(self, number: int) -> None:
        content = self._entropy.token(32)
        name = b"value %d" % number
        value = values.sign(self._owner, name, content, int(self.now) + 3600)
        self._keys.append(value.key.key)
        self._anyone().store(value)

    def _ask(self) -> None:
        rate = self._exp.workload.lookups_per_node_s * self._exp.run.nodes or 1.0
        if self._keys:
            key = choice(self._entropy, self._keys)
            self._pending.append((self.now, self._anyone().find(key)))
        self._town.world.at(self.now + exponential(self._entropy, 1.0 / rate), self._ask)
        self._collect()

    def _collect(self) -> None:
        running: list[tuple[float, Outcome[DhtValue | None]]] = []
        for began, outcome in self._pending:
            if outcome.done:
                self._ended(began, outcome)
            else:
                running.append((began, outcome))
        self._pending = running

    def _ended(self, began: float, outcome: Outcome[DhtValue | None]) -> None:
        found = outcome.result() is not None
        self._meter.observe("lookup_found", float(found))
        self._meter.observe("lookup_s", outcome.ended - began)
        if self._log is not None:
            seconds = struct.pack("<d?", outcome.ended - began, found)
            self._log.add(self.now, 0, EVENT, None, seconds)

    def _sample(self) -> None:
        self._meter.gauge("nodes_up", sum(member.seat.up for member in self._town.members))
        seen = self._town.world.statistics()
        counts = (seen.sent, seen.bytes_sent, seen.lost, seen.unheard)
        sent, size, lost, unheard = (
            now - before for now, before in zip(counts, self._counted, strict=True)
        )
        self._counted = counts
        self._meter.count("messages", sent, "dht")
        self._meter.count("bytes", size, "dht")
        self._meter.count("dropped", lost, "loss")
        self._meter.count("dropped", unheard, "unheard")
        self._town.world.at(self.now + 1.0, self._sample)

    def _anyone(self) -> Member:
        return choice(self._entropy, [each for each in self._town.members if each.seat.up])


@final
class _Recorded:
    """A fabric whose every datagram is a record of its sender."""

    def __init__(self, fabric: Fabric, log: EventLog) -> None:
        self._fabric = fabric
        self._log = log

    def route(self, now: float, src: int, dst: int, size: int) -> tuple[float, ...]:
        arrivals = self._fabric.route(now, src, dst, size)
        data = struct.pack(f"<I{len(arrivals)}d", size, *arrivals)
        self._log.add(now, src, DATAGRAM, dst, data)
        return arrivals

    def admit(self, now: float, src: int, dst: int, size: int) -> float | None:
        return self._fabric.admit(now, src, dst, size)


def _fabric(setting: Setting) -> Fabric:
    there = ground(setting.exp.network, setting.entropy.fork("network"), whole=True).datagrams
    return there if setting.log is None else _Recorded(there, setting.log)
