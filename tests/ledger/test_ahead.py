"""Credits that come before they are needed, at moments that say nothing."""

from dataclasses import replace

import trio

from ledger.ahead import Ahead
from ledger.credit import BUNDLES, worth
from ledger.money import Nano
from ledger.policy import DEV
from p2p.entropy import seeded
from tests.ledger.village import TICK, locked, settled, terms, until_value

BUNDLE = worth(BUNDLES["M"])
HOURS = 6 * 3_600.0


class Purse:
    """One that is filled by a purchase, and says when it was."""

    def __init__(self):
        self.low, self.bought = True, []
        self.emptied, self.filled = trio.Event(), trio.Event()

    async def runs_low(self):
        return self.low

    async def changed(self):
        await self.emptied.wait()

    async def buy(self, *, agree):
        self.bought.append(trio.current_time())
        self.low, self.emptied = False, trio.Event()
        self.filled.set()


async def test_moments_are_spread_over_the_hours(autojump_clock, nursery):
    purse, waits = Purse(), []
    policy = replace(DEV, buy_within=HOURS)
    nursery.start_soon(Ahead(purse, policy, entropy=seeded(1)).run)
    for _ in range(40):
        emptied, purse.low, purse.filled = trio.current_time(), True, trio.Event()
        purse.emptied.set()
        await purse.filled.wait()
        waits.append(purse.bought[-1] - emptied)
    assert max(waits) <= HOURS
    assert len({int(wait / HOURS * 4) for wait in waits}) == 4, "a quarter of the time has none"


async def test_a_purse_that_ran_low_is_filled_once_and_over_its_lane(village, autojump_clock):
    customer, worker = village.customer, await village.worker()
    village.nursery.start_soon(Ahead(customer.purse, DEV, entropy=seeded(1)).run)
    await trio.sleep(3)
    assert await customer.lanes.snapshot() == (), "nobody agreed to a deposit"
    await customer.purse.buy()
    payment = await customer.purse.prepare(terms(village, worker, ticks=300))
    await trio.sleep(3)
    held = await customer.purse.holdings()
    assert held.value + held.in_flight == BUNDLE, "what is in flight may come back"
    await locked(village, worker, payment)
    await settled(village, worker, payment, 300)
    customer.purse.collect(payment, locked=True, revealed=300, owed=300)
    await until_value(village, Nano((BUNDLE - TICK * 300).value >> 10 << 10) + BUNDLE)
    assert len(await customer.lanes.snapshot()) == 1
