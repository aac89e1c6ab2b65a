"""A lane whose payer closes it alone, over a day, while its payee is seldom there.

Both sides are the real `Lanes`, with their externals, on disks and a chain that fail. I3: the chain
never finalises an old state after a newer one was shown in time: whatever the payee held six hours
before the payer may take the rest is claimed by then. There is no network, and `run.until` is a day
and more: 122,400 seconds; faults are drawn if none are written down. Measured: loss_nano, what the
payee took for payment and never got. Adversary:

- `old_closer`: begins to close `after` so many vouchers, and hands out later ones none the less
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, final

import structlog
import trio

from ledger.lane import RESERVE, Phase
from ledger.lanes import Lanes
from ledger.money import ZERO, Nano
from ledger.policy import DEV
from ledger.store import Store
from ledger.voucher import Voucher
from p2p.core import DATAGRAM
from p2p.entropy import Entropy
from p2p.errors import TussahError
from p2p.transport.fabric import EPOCH
from simulations.adversary.old_closer import OldCloser
from simulations.bazaar import WALLET, keys, wallet_of
from simulations.chain import ChainTwin
from simulations.coinage import remembered
from simulations.disk import Disk
from simulations.faults import OF_CHAINS, Fault, Kind, Schedule, Weather, draw
from simulations.log import EventLog
from simulations.metrics import Meter
from simulations.reading import read, unknown
from simulations.scenarios import Audit, Setting, Violation
from simulations.scenarios.weather import written
from simulations.stepped import SteppedRun

HOUR: Final = 3_600.0
LOOK: Final = 2 * HOUR
"""seconds between two looks at a lane"""

IN_TIME: Final = 6 * HOUR
"""before the payer may take the rest, by which a voucher must have come"""

MARGIN: Final = 10_000_000
"""nano that are not worth a claim"""

DEPOSIT: Final = Nano(10**9)
VOUCHERS: Final = 6
UNTIL: Final = 34 * HOUR

KINDS: Final = (*OF_CHAINS, Kind.CRASH, Kind.CRASH, Kind.DISK_FULL, Kind.DISK_SHORT)

POLICY: Final = replace(DEV, watch_every=LOOK, top_up_below=0)

PAYER, PAYEE = 0, 1


def schedule(entropy: Entropy) -> Schedule:
    """About six faults in a day, an hour or so each."""
    drawn = draw(entropy, nodes=(PAYER, PAYEE), until=40.0, rate=0.15, kinds=KINDS)
    scaled = (replace(one, at=HOUR + one.at * 2_000, lasts=one.lasts * 500) for one in drawn)
    return Schedule(entropy, scaled)


def build(setting: Setting) -> "Day":
    """See `simulations.scenarios.build`."""
    entropy, exp = setting.entropy, setting.exp
    closer = None
    for table in exp.adversary:
        if table.kind != "old_closer":
            raise unknown(f"adversary {table.kind}", ["old_closer"])
        closer = read(OldCloser, table.knobs, "adversary.old_closer")
    faults = written(exp, entropy, tuple(Kind))
    if not len(faults):
        faults = schedule(entropy)
    seed = entropy.fork("tasks").below(2**32)
    closing = Closing(entropy, seed, faults, audit=setting.audit, closer=closer, log=setting.log)
    return Day(closing, setting.meter)


@final
class Day:
    """A closing as a `Scenario`."""

    nodes: Sequence[object] = ("payer", "payee")

    def __init__(self, closing: "Closing", meter: Meter) -> None:
        self._closing = closing
        self._meter = meter
        self._reached = EPOCH
        self._is_judged = False
        self.log = closing.log

    @property
    def now(self) -> float:
        """See `Scenario`."""
        return max(self._reached, self._closing.now)

    def run(self, until: float, max_records: int | None = None) -> bool:
        """See `Scenario`; it has too few records to be stopped by them."""
        self._closing.pump(until)
        self._reached = max(self._reached, until)
        if until >= EPOCH + UNTIL and not self._is_judged:
            self._is_judged = True
            self._closing.judge()
            self._meter.observe("loss_nano", self._closing.lost.value, "payee")
        return True

    def sizes(self, node: int) -> Mapping[str, int]:
        """See `Scenario`: what there is is on disks."""
        return {}

    def close(self) -> None:
        """End every task."""
        self._closing.close()


@final
class Closing:
    """One lane from its opening to its end; `run` returns what broke I3."""

    def __init__(
        self,
        entropy: Entropy,
        seed: int,
        faults: Schedule,
        *,
        audit: Audit | None = None,
        closer: OldCloser | None = None,
        log: EventLog | None = None,
    ) -> None:
        self.audit = audit or Audit()
        self.log = log
        self._closer = closer
        self._run = SteppedRun(self._main, seed)
        self.chain = ChainTwin(self._now)
        self._entropy = entropy
        self._faults = faults
        self._weather = Weather(faults, EPOCH)
        self._disks = [self._disk(node) for node in (PAYER, PAYEE)]
        self._scopes = [trio.CancelScope(), trio.CancelScope()]
        self._lanes: list[Lanes | None] = [None, None]
        self._back = [0.0, 0.0]
        self._shown: list[tuple[float, Nano]] = []
        """What the payee came to hold, and when."""

    def run(self) -> tuple[Violation, ...]:
        """To the end."""
        try:
            self.pump(EPOCH + UNTIL)
        finally:
            self.close()
        self.judge()
        return tuple(self.audit.violations)

    @property
    def now(self) -> float:
        """Unix seconds of virtual time."""
        return self._now()

    @property
    def lost(self) -> Nano:
        """What the payee has taken for payment, and lanes have ended without."""
        given = max((total for _, total in self._shown), default=ZERO)
        got = sum((lane.claimed for _, lane, _ in self.chain.ended), 0)
        ended = bool(self.chain.ended)
        return max(ZERO, min(given, DEPOSIT - RESERVE) - Nano(got)) if ended else ZERO

    def pump(self, until: float) -> None:
        """Go on to an instant at which something happens."""
        with _quiet(), remembered():
            self._run.pump(lambda: self._now() >= until)

    def close(self) -> None:
        """End every task."""
        with _quiet():
            self._run.close()

    def judge(self) -> None:
        """I3, once it is all over."""
        self.audit.check("I3", len(self.chain.ended))
        for _, lane, when in self.chain.ended:
            if not lane.close_at:
                continue
            due = [total for at, total in self._shown if at <= lane.close_at - IN_TIME]
            best = min(max(due, default=ZERO), DEPOSIT - RESERVE)
            if lane.claimed + MARGIN < best.value:
                detail = f"{lane.claimed} claimed of {best.value} that were held in time"
                self.audit.fail(Violation(invariant="I3", at=when, node=PAYEE, detail=detail))

    def _disk(self, node: int) -> Disk:
        return Disk(lambda: self._weather.disk(self._now(), node), lambda connection: None)

    def _now(self) -> float:
        return EPOCH + self._run.clock.current_time()

    # --- what happens ---

    async def _main(self) -> None:
        for node in (PAYER, PAYEE):
            self.chain.fund(wallet_of(keys(node)[1]), WALLET)
        async with trio.open_nursery() as nursery:
            for node in (PAYER, PAYEE):
                nursery.start_soon(self._live, node)
            for fault in self._faults.of(Kind.CRASH):
                nursery.start_soon(self._crash, fault)
            nursery.start_soon(self._beat)
            await self._trade()
            await trio.sleep_forever()

    async def _trade(self) -> None:
        """Open, promise, and then close alone; whoever is not there is waited for."""
        lane = await self._opened()
        moments = self._entropy.fork("workload")
        if self._closer is not None:
            await self._deceive(lane, self._closer, moments)
            return
        for _ in range(VOUCHERS):
            await trio.sleep(moments.uniform() * HOUR)
            await self._promise(lane, _amount(moments))
        await self._close(lane)

    async def _deceive(self, lane: bytes, closer: OldCloser, moments: Entropy) -> None:
        """Sign all vouchers while the lane is open, and hand most of them out when it is not."""
        payer = await self._there(PAYER)
        signed = [await payer.pay(lane, _amount(moments)) for _ in range(VOUCHERS)]
        for number, voucher in enumerate(signed):
            if number == closer.after:
                await self._close(lane)
            await trio.sleep(moments.uniform() * 4 * HOUR)
            await self._hand(voucher)

    async def _close(self, lane: bytes) -> None:
        while True:
            payer = await self._there(PAYER)
            try:
                if (await payer.look(lane)).phase is not Phase.OPEN:
                    return
                await self._outcome(payer, await payer.start_close(lane))
            except TussahError:
                await trio.sleep(60.0)

    async def _opened(self) -> bytes:
        while True:
            payer, payee = await self._there(PAYER), await self._there(PAYEE)
            try:
                row = await payer.open(payee.offer(), DEPOSIT)
                proposal = await payer.proposal(row.lane)
                await payee.propose(proposal.config, proposal.voucher)
            except TussahError:
                await trio.sleep(60.0)
            else:
                return row.lane

    async def _promise(self, lane: bytes, amount: Nano) -> None:
        """A voucher that the payee does not take is lost: the next one covers it."""
        payer = await self._there(PAYER)
        try:
            voucher = await payer.pay(lane, amount)
        except TussahError:
            return
        await self._hand(voucher)

    async def _hand(self, voucher: Voucher) -> None:
        payee = await self._there(PAYEE)
        try:
            await payee.receive(voucher)
        except TussahError:
            return
        self._shown.append((self._now(), voucher.cumulative))
        if self.log is not None:
            total = voucher.cumulative.value.to_bytes(16, "big")
            self.log.add(self._now(), PAYEE, DATAGRAM, PAYER, total)

    async def _outcome(self, lanes: Lanes, message: bytes) -> None:
        with trio.move_on_after(HOUR):
            await lanes.outcome(message)

    async def _there(self, node: int) -> Lanes:
        while (lanes := self._lanes[node]) is None:  # noqa: ASYNC110 - it is back by and by
            await trio.sleep(10.0)
        return lanes

    # --- nodes ---

    async def _live(self, node: int) -> None:
        lives = 0
        while True:
            lives += 1
            with trio.CancelScope() as self._scopes[node]:
                await self._one_life(node, lives)
            self._lanes[node] = None
            while (left := self._back[node] - self._now()) > 0.0:  # noqa: ASYNC110 - time alone
                await trio.sleep(left)

    async def _one_life(self, node: int, life: int) -> None:
        chain = self.chain.view(lambda kind: self._weather.chain(self._now(), node, kind))
        _, master = keys(node)
        async with Store.over(self._disks[node], window=0.0) as store:
            entropy = self._entropy.fork(f"node/{node}/{life}")
            lanes = self._lanes[node] = Lanes(chain, store, master, POLICY, entropy=entropy)
            await lanes.run()

    async def _crash(self, fault: Fault) -> None:
        await trio.sleep(fault.at)
        for node in fault.nodes:
            self._back[node] = self._now() + fault.lasts
            self._disks[node].crash()
            self._scopes[node].cancel()

    async def _beat(self) -> None:
        while True:  # noqa: ASYNC110 - nothing but time
            await trio.sleep(HOUR / 2)


def _amount(moments: Entropy) -> Nano:
    return Nano(20_000_000 + moments.below(130_000_000))


@contextmanager
def _quiet() -> Iterator[None]:
    config = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**config)
