"""Money under faults: real purses, tills, a mint, ticks and lanes, on disks and a chain that fail.

`run.nodes` are a mint, a third as workers, the rest askers who ask at random in the first half of
the run; `[[fault]]` says what goes wrong, and with none written down faults are drawn. What is
measured: how asks end and how long they take, and that no invariant of money ever breaks. The run
must go on for half a minute after the last fault for all of it to come to rest, and be looked at.

With `[[adversary]]` tables nothing fails by itself, and each asker asks `workload.turns` times:

- `lying_worker`: a `lie` of model, prompt, cut, pad, count; `free_rider`: pays `after` ticks
- `double_spender`: spends the same credits again; `flooder`: `rate` offers a second for nothing

Measured besides: loss_ticks, what an honest party lost in a session with an attacker; spends, what
the mint said to credits; open_offers.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

import structlog
import trio

from p2p.drive import SystemClock
from p2p.entropy import Entropy
from p2p.transport.fabric import EPOCH, Fabric
from simulations.attackers import Attackers, attackers
from simulations.bazaar import HERE, Ask, Bazaar, Hands, board
from simulations.chain import ChainTwin
from simulations.coinage import remembered
from simulations.faces import Faces
from simulations.faults import Kind, Schedule, Weather, draw
from simulations.log import EventLog
from simulations.network.build import ground
from simulations.network.fabric import Network
from simulations.scenarios import Audit, Setting
from simulations.scenarios.weather import written
from simulations.scenarios.witness import Witness
from simulations.stepped import SteppedRun

REST: Final = 32.0
"""seconds after the last fault by which everything has come to its end"""

BUSY: Final = 0.4
"""share of a run in which things begin"""

FIRST: Final = 8.0
"""seconds until the first ask: workers have their lanes by then"""

ASKS: Final = 2
"""questions of each asker"""

BEAT: Final = 5.0
"""seconds: a run stops at an instant at which something happens"""

RATE: Final = 0.15
"""faults a second"""

KINDS: Final = (
    *(Kind.DROP, Kind.DUPLICATE, Kind.DUPLICATE, Kind.REORDER, Kind.DELAY),
    *(Kind.CORRUPT, Kind.TRUNCATE, Kind.PARTITION, Kind.ONE_WAY, Kind.GREY, Kind.CLOG),
    *(Kind.SWIZZLE, Kind.CRASH, Kind.CRASH, Kind.TEAR, Kind.ERASE, Kind.ERASE),
    *(Kind.DISK_LOST, Kind.DISK_SHORT, Kind.DISK_FULL, Kind.JUMP, Kind.SKEW),
    *(Kind.REBIND, Kind.SLOW, Kind.CHAIN_DROP, Kind.CHAIN_DELAY, Kind.CHAIN_DOUBLE),
    Kind.CHAIN_LAG,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big a bazaar, and how long."""

    workers: int = 2
    askers: int = 2
    until: float = 60.0
    """seconds; asks and faults begin in the first part of it"""
    asks: int = ASKS
    """of each asker"""
    kinds: tuple[Kind, ...] = KINDS
    """of faults that are drawn"""
    rate: float = RATE
    """of them, a second"""

    @property
    def nodes(self) -> int:
        """All of them."""
        return 1 + self.workers + self.askers


@final
class Lanes:
    """A bazaar that can be run, looked at, and run on; a `Scenario`."""

    def __init__(
        self,
        entropy: Entropy,
        seed: int,
        size: Size,
        faults: Schedule,
        log: EventLog | None,
        audit: Audit,
        fabric: Fabric | None = None,
        villains: Attackers | None = None,
    ) -> None:
        villains = villains or Attackers(hands=Hands(), kinds={})
        self.log = log
        self.faults = faults
        self._size = size
        self._is_rested = False
        self.asks: list[Ask] = []
        self._run = SteppedRun(self._main, seed)
        weather = Weather(faults, EPOCH)
        network = fabric or Network(entropy.fork("net"))
        faces = Faces(network, weather, log, self._now, board(size.workers))
        chain = ChainTwin(self._now, block_time=3.0)
        moments = [_moments(entropy, number, size) for number in range(size.askers)]
        self.witness = Witness(audit, chain, self.asks, villains)
        self.bazaar = Bazaar(
            faces,
            chain,
            entropy,
            self._now,
            workers=size.workers,
            moments=moments,
            ears=self.witness,
            hands=villains.hands,
        )
        self.witness.watch(self.bazaar, faults)
        self._reached = EPOCH

    @property
    def now(self) -> float:
        """See `Scenario`."""
        return max(self._reached, self._now())

    @property
    def end(self) -> float:
        """Unix time at which all should be at rest."""
        return EPOCH + max(self._size.until, self.faults.end + REST)

    @property
    def nodes(self) -> Sequence[object]:
        """The seats, by index."""
        return self.bazaar.seats

    def run(self, until: float, max_records: int | None = None) -> bool:
        """See `Scenario`."""

        def enough() -> bool:
            return self._now() >= until or self._is_full(max_records)

        with self._here():
            self._run.pump(enough)
        if self._is_full(max_records):
            return False
        self._reached = max(self._reached, until)
        if until >= self.end and not self._is_rested:
            self._is_rested = True
            self.witness.rest()
        return True

    def close(self) -> None:
        """End every task."""
        with self._here():
            self._run.close()

    def sizes(self, node: int) -> Mapping[str, int]:
        """Lengths of every table of a node."""
        return self.bazaar.seats[node].sizes()

    def _is_full(self, max_records: int | None) -> bool:
        return self.log is not None and max_records is not None and self.log.records >= max_records

    def _now(self) -> float:
        return EPOCH + self._run.clock.current_time()

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            await self.bazaar.run(list(self.faults))

    async def _beat(self) -> None:
        """Something happens now and then, so that a run can stop there."""
        while True:  # noqa: ASYNC110 - nothing but time
            await trio.sleep(BEAT)

    @contextmanager
    def _here(self) -> Iterator[None]:
        """Clocks, logs and memories are the run's as long as it runs."""
        wall = {"wall": self._wall, "monotonic": trio.current_time}
        before, SystemClock.__init__.__kwdefaults__ = SystemClock.__init__.__kwdefaults__, wall
        config = structlog.get_config()
        structlog.configure(
            processors=[self.witness.logged],
            wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
            cache_logger_on_first_use=False,
        )
        try:
            with remembered():
                yield
        finally:
            structlog.configure(**config)
            SystemClock.__init__.__kwdefaults__ = before

    def _wall(self) -> float:
        node = HERE.get(-1)
        return self._now() + self.bazaar.faces.weather.ahead(self._now(), node)


def _moments(entropy: Entropy, number: int, size: Size) -> list[float]:
    stream = entropy.fork(f"workload/{number}")
    return sorted(FIRST + BUSY * size.until * stream.uniform() for _ in range(size.asks))


def schedule(entropy: Entropy, size: Size) -> Schedule:
    """The faults of a seed, whatever is left out of them later."""
    return draw(
        entropy,
        nodes=range(size.nodes),
        until=FIRST + BUSY * size.until,
        rate=size.rate,
        kinds=size.kinds,
        begin=2.0,
    )


def build(setting: Setting) -> Lanes:
    """See `simulations.scenarios.build`."""
    exp, run = setting.exp, setting.exp.run
    workers = max(1, (run.nodes - 1) // 3)
    size = Size(
        workers=workers,
        askers=max(1, run.nodes - 1 - workers),
        until=run.until,
        asks=round(exp.workload.turns) if exp.adversary else ASKS,
    )
    faults = written(exp, setting.entropy, tuple(Kind))
    if not len(faults) and not exp.adversary:
        faults = schedule(setting.entropy, size)
    for fault in faults:
        setting.meter.count("fault_count", label=fault.kind)
    seed = setting.entropy.fork("tasks").below(2**32)
    network = ground(exp.network, setting.entropy.fork("net"), whole=True).datagrams
    villains = attackers(
        exp, range(1, 1 + workers), range(1 + workers, size.nodes), setting.entropy
    )
    lanes = Lanes(
        setting.entropy,
        seed,
        size,
        faults,
        setting.log,
        setting.audit,
        network,
        villains,
    )
    lanes.witness.meter = setting.meter
    return lanes
