"""A lane whose payer closes it alone, over a day, while its payee is seldom there.

Both sides are the real `Lanes`, with their externals, on disks and a chain that fail. I3: the chain
never finalises an old state after a newer one was shown in time: whatever the payee held six hours
before the payer may take the rest is claimed by then. Not an experiment's scenario, but `make
test`'s: it has no network.
"""

import logging
from collections.abc import Iterator
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
from p2p.entropy import Entropy
from p2p.errors import TussahError
from p2p.transport.fabric import EPOCH
from simulations.bazaar import WALLET, keys, wallet_of
from simulations.chain import ChainTwin
from simulations.coinage import remembered
from simulations.disk import Disk
from simulations.faults import OF_CHAINS, Fault, Kind, Schedule, Weather, draw
from simulations.scenarios import Audit, Violation
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


@final
class Closing:
    """One lane from its opening to its end; `run` returns what broke I3."""

    def __init__(self, entropy: Entropy, seed: int, faults: Schedule) -> None:
        self.audit = Audit()
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
        with _quiet(), remembered():
            try:
                self._run.pump(lambda: self._now() >= EPOCH + UNTIL)
            finally:
                self._run.close()
        self._judge()
        return tuple(self.audit.violations)

    def _judge(self) -> None:
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
        for _ in range(VOUCHERS):
            await trio.sleep(moments.uniform() * HOUR)
            await self._promise(lane, Nano(20_000_000 + moments.below(130_000_000)))
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
        payer, payee = await self._there(PAYER), await self._there(PAYEE)
        try:
            voucher = await payer.pay(lane, amount)
            await payee.receive(voucher)
        except TussahError:
            return
        self._shown.append((self._now(), voucher.cumulative))

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
