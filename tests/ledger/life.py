"""A mint's and a worker's life that can be cut off at any write, and lived again to its end.

Every step is a request that may be sent again, with the same bytes. Run as a program, it lives on
two files and dies by `os._exit` where it is told to:

    python -m tests.ledger.life DIRECTORY VICTIM WRITE before|after
"""

import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio
from trio.testing import MockClock

from ledger import lane_rows, takings
from ledger.lane import Phase, Role
from ledger.messages import Change, Changed
from ledger.money import ZERO, Nano
from ledger.payment import Decline, Locked
from ledger.store import Store
from p2p.errors import Unreachable
from tests.ledger.parties import MINT, NOW, WORKER
from tests.ledger.street import DEPOSIT, Street, paid, stock

LIVES = (3_500, 7_000)
"""seconds of each session: one that nobody works for is over before the next one is"""

SESSIONS = len(LIVES)
TICKS = 5


class Crash(BaseException):
    """The process is gone."""


class Fragile:
    """A store whose `at`-th write is the last: before it is begun, or once it is durable."""

    def __init__(self, store, at, when, die):
        self._store = store
        self._left = at
        self._when = when
        self._die = die
        self.writes = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def write(self, work):
        self.writes += 1
        self._left -= 1
        if self._left == 0 and self._when == "before":
            self._die()
        result = await self._store.write(work)
        if self._left == 0 and self._when == "after":
            self._die()
        return result

    def post(self, work):
        self.writes += 1
        self._store.post(work)


def no_more():
    raise Crash


@dataclass
class Loss:
    """What became of everybody's money."""

    difference: int
    outstanding: Nano
    wallet: Nano
    """What the customer holds; `outstanding` says what the mint thinks it does."""
    given: Nano
    held: Nano
    ticks: list
    """that the mint paid, of each session that it locked"""
    revealed: dict
    """ticks that the worker had been shown when it or the session ended, by number of session"""
    is_short: bool
    unfinished: int


class Life:
    """See the module."""

    def __init__(self, stores, tell):
        self.tell = tell
        self.revealed = {}
        self.street = Street()
        self.stores = stores

    async def live(self, nursery):
        self.nursery = nursery
        self.mint = await self.start_mint()
        self.worker = await self.start_worker()
        self.customer = await self.again(lambda: self.street.customer(self.mint))
        await self.again(self.stocked)
        for number, seconds in enumerate(LIVES):
            await self.session(number, seconds)
        return await self.reckon()

    # --- parties that may die; the others see that nobody answers ---

    async def start_mint(self):
        mint = None
        while mint is None:
            try:
                mint = await self.one_mint()
            except* Crash:
                self.stores["mint"] = whole(self.stores["mint"])
        return mint

    async def one_mint(self):
        mint = self.street.mint(self.stores["mint"])
        await self.find_lanes(mint)
        self.street.wires.nodes[MINT.id] = self.mortal(mint.service.answer_peer)
        self.mint_scope = await self.nursery.start(self.run, mint, self.mint_died)
        return mint

    async def start_worker(self):
        worker = None
        while worker is None:
            try:
                worker = await self.one_worker()
            except* Crash:
                self.stores["worker"] = whole(self.stores["worker"])
        return worker

    async def one_worker(self):
        worker = self.street.worker(self.stores["worker"])
        self.worker_scope = await self.nursery.start(self.run, worker.till, self.worker_died)
        return worker

    def mortal(self, answer):
        """Who asks a mint that dies of it has no answer."""

        async def asked(peer, body):
            try:
                return await answer(peer, body)
            except* Crash:
                self.nursery.start_soon(self.mint_died)
            raise Unreachable("the mint has died")

        return asked

    async def mint_died(self):
        if isinstance(self.stores["mint"], Fragile):
            self.stores["mint"] = whole(self.stores["mint"])
            self.mint_scope.cancel()
            self.mint = await self.start_mint()

    async def worker_died(self):
        if isinstance(self.stores["worker"], Fragile):
            self.stores["worker"] = whole(self.stores["worker"])
            self.worker_scope.cancel()
            self.worker = await self.start_worker()

    async def run(self, party, died, task_status):
        started = False
        with trio.CancelScope() as scope:
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(party.run)
                    task_status.started(scope)
                    started = True
            except* Crash:
                if not started:
                    raise
                self.nursery.start_soon(died)

    async def find_lanes(self, mint):
        """What the chain would have, had the deposits that were on their way arrived."""
        rows = await mint.store.read(lambda c: list(lane_rows.every(c, Role.PAYER)))
        for row in rows:
            self.street.ground.coins.setdefault(row.lane, DEPOSIT)
            if row.phase is Phase.OPENING:
                await mint.lanes.look(row.lane)

    async def again(self, step):
        """Take a step until nobody dies of it."""
        while True:
            try:
                return await step()
            except Crash:
                await self.mint_died()

    # --- what happens ---

    async def stocked(self):
        counter = self.customer.counter
        promised = self.customer.promised
        try:
            self.keyset = await stock(self.mint, self.customer)
        except Crash:
            self.customer.counter, self.customer.promised = counter, promised
            raise

    async def session(self, number, seconds):
        amount = Nano(1_000_000)
        session, _ = paid(self.customer, self.keyset, now=NOW, life=seconds, amount=amount)
        if await self.locked(session):
            await self.work(number, session)
        reply = Changed(paid_ticks=0, sigs=())
        while not isinstance(reply := await self.change(session), Changed):  # noqa: ASYNC110
            await trio.sleep(10)
        self.customer.changed(self.keyset, session, reply)

    async def locked(self, session):
        """Whether it is locked, after as many tries as it takes a worker to be there."""
        spend = session.spend
        for _ in range(200):
            try:
                result = await self.worker.till.lock(
                    spend.encode(), spend.terms.session, spend.terms.tick
                )
            except Crash:
                await self.worker_died()
                return False  # the work would be another worker's
            if isinstance(result, Locked):
                return True
            if result is Decline.SPENT:
                return False  # in another life
            await trio.sleep(0.2)
        raise AssertionError(result)

    async def work(self, number, session):
        """Until the worker dies: whoever comes after it knows nothing of the answer."""
        worker = self.worker
        for i in range(1, TICKS + 1):
            if self.worker is not worker:
                return
            self.revealed[number] = i
            self.tell(number, i)
            worker.till.keep(session.spend.lock_id, i, session.chain.reveal(i))
            await trio.sleep(0.3)
            self.worker.till.settle(session.spend.lock_id, final=i == TICKS, ticks=i)
            await trio.sleep(0.3)

    async def change(self, session):
        request = Change(session.spend.lock_id, session.secret)
        return await self.again(lambda: self.mint.ask(request))

    async def reckon(self):
        """Once all is settled, and every lock is final."""
        while self.worker.till.statistics().open:  # noqa: ASYNC110 - virtual time
            await trio.sleep(1)
        sheet = await self.mint.service.audit()
        assert sheet.locked == ZERO
        account = await self.worker.store.read(lambda c: takings.account(c, MINT.id))
        rows = await self.mint.store.read(
            lambda c: list(c.execute("SELECT i, worker FROM lock ORDER BY session"))
        )
        assert all(worker == WORKER.id for _, worker in rows)
        return Loss(
            difference=sheet.difference,
            outstanding=sheet.outstanding,
            wallet=self.customer.worth(),
            given=sheet.given,
            held=await self.worker.held(),
            ticks=[i for i, _ in rows],
            revealed=self.revealed,
            is_short=account.is_short,
            unfinished=len(await self.worker.store.read(takings.unfinished)),
        )


def whole(store):
    """A store that does not break again: one accident each."""
    return store._store if isinstance(store, Fragile) else store


@asynccontextmanager
async def stores(directory, victim=None, at=0, when="", die=no_more):
    """The two stores, in memory if there is no directory; one of them may break."""
    async with AsyncExitStack() as stack:
        made = {}
        for name in ("mint", "worker"):
            path = None if directory is None else Path(directory) / f"{name}.db"
            store = await stack.enter_async_context(Store.open(path))
            made[name] = Fragile(store, at if name == victim else 0, when, die)
        yield made


async def lived(made, tell=lambda number, i: None):
    """A whole life on these stores; `tell` hears of each tick before the worker does."""
    async with trio.open_nursery() as nursery:
        loss = await Life(made, tell).live(nursery)
        nursery.cancel_scope.cancel()
    return loss


async def main(directory, victim, at, when):
    async with stores(directory, victim, int(at), when, lambda: os._exit(9)) as made:
        await lived(made, lambda number, i: print(number, i, flush=True))  # noqa: T201


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    trio.run(main, *sys.argv[1:], clock=MockClock(rate=30))
