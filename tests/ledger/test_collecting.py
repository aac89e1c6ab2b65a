"""Change comes back whatever happens, and tells the mint as little as it can."""

from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
import trio

from ledger import collecting, pins
from ledger.credit import BUNDLES, worth
from ledger.line import opened
from ledger.messages import Err, Locked
from ledger.money import ZERO, Nano
from ledger.policy import DEV, MAIN
from p2p.errors import Unreachable
from tests.ledger import village as villages
from tests.ledger.tagging import Tagging
from tests.ledger.village import TICK, fill_disk, locked, settled, terms, until_value

BUNDLE = worth(BUNDLES["M"])


SLOW = replace(
    villages.POLICY,
    change_delay=(5.0, 60.0),
    change_pause=(1.0, 5.0),
    unknown_after=30,
    watch_every=600.0,
)


@pytest.fixture
def slowly(monkeypatch):
    """Change takes its time, nearly as on a real network."""
    monkeypatch.setattr(villages, "POLICY", SLOW)


@pytest.fixture
def circuits(monkeypatch):
    """When each circuit for change was begun; a test may have them fail: `circuits.fail`."""
    seen = Circuits()
    monkeypatch.setattr(collecting, "opened", seen.opened)
    return seen


class Circuits(list):
    fail = False

    @asynccontextmanager
    async def opened(self, node, mint, *, relays):
        self.append(trio.current_time())
        if self.fail:
            raise Unreachable("no circuit")
        async with opened(node, mint, relays=relays) as line:
            yield line


async def sessions(village, worker, count):
    """So many that are paid for and settled by their worker, the asker in the middle of each."""
    payments = []
    for number in range(count):
        wanted = terms(village, worker, ticks=4, session=bytes([number]) * 32)
        payment = await village.customer.purse.prepare(wanted)
        assert isinstance(await locked(village, worker, payment), Locked)
        await settled(village, worker, payment, 1)
        payments.append(payment)
    return payments


async def rows(village, columns):
    query = f"SELECT {columns} FROM session WHERE state <> 'done' ORDER BY session"
    return await village.customer.store.read(lambda c: list(c.execute(query)))


async def all_fetched(village):
    with trio.fail_after(7_200):
        while await rows(village, "session"):  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.1)


# --- keys ---


async def test_change_under_keys_that_nobody_else_has_seen_is_proof_and_no_coin(
    village, autojump_clock, monkeypatch
):
    purse, worker = village.customer.purse, await village.worker()
    tagging = Tagging(village.mint, village.now, monkeypatch)
    (payment,) = await sessions(village, worker, 1)
    tagging.knows(payment)
    tagging.on = True
    before = (await purse.holdings()).value
    purse.collect(payment, locked=True, revealed=1, owed=1)
    with trio.fail_after(60):
        while not await village.customer.store.read(pins.accused):  # noqa: ASYNC110
            await trio.sleep(0.1)
    held = await purse.holdings()
    assert (held.value, held.in_flight > ZERO) == (before, True)
    assert purse.mints() == ()


# --- what a mint does not know ---


async def test_coins_of_a_lock_that_a_mint_does_not_know_are_free_once_no_clock_can_differ(
    slowly, village, autojump_clock
):
    worker = await village.worker()
    expiry = int(village.now) + 10
    payment = await village.customer.purse.prepare(terms(village, worker, expiry=expiry))
    village.customer.purse.collect(payment, locked=False, revealed=0, owed=0)
    await trio.sleep(expiry + SLOW.unknown_after - 1 - village.now)
    assert (await village.customer.purse.holdings()).value < BUNDLE
    assert isinstance(await locked(village, worker, payment), Err)
    await trio.sleep(SLOW.change_delay[1] + SLOW.change_pause[1])
    assert (await village.customer.purse.holdings()).value == BUNDLE


def test_on_real_networks_a_mint_may_be_an_hour_late_before_it_is_believed():
    assert MAIN.unknown_after == 3_600
    assert DEV.unknown_after < 60


# --- moments ---


@pytest.mark.parametrize("state", ["reserved", "over"])
async def test_after_a_restart_each_change_has_a_moment_of_its_own(
    slowly, village, autojump_clock, circuits, state
):
    """Whether its session was cut off, or its change was due while this node was away."""
    worker = await village.worker()
    payments = await sessions(village, worker, 6)
    if state == "over":
        circuits.fail = True
        for payment in payments:
            village.customer.purse.collect(payment, locked=True, revealed=1, owed=1)
        await trio.sleep(1)
    village.customer.stop.cancel()
    await trio.sleep(SLOW.change_delay[1])
    circuits.clear()
    circuits.fail = False
    began = trio.current_time()
    await village.restart()
    await trio.sleep(1)
    least, most = SLOW.change_delay
    dues = [due for (due,) in await rows(village, "due")]
    ahead = sorted(due - village.now + trio.current_time() - began for due in dues)
    assert len(set(dues)) == len(payments)
    assert least - 1 <= ahead[0] <= ahead[-1] <= most + 60
    assert ahead[-1] - ahead[0] > (most - least) / 4
    await all_fetched(village)
    assert len(circuits) == len(payments)
    assert min(later - one for one, later in pairwise(circuits)) >= SLOW.change_pause[0]


async def test_between_two_circuits_for_change_there_is_a_pause_were_both_due_at_once(
    slowly, village, autojump_clock, circuits
):
    worker = await village.worker()
    payments = await sessions(village, worker, 4)
    circuits.fail = True
    for payment in payments:
        village.customer.purse.collect(payment, locked=True, revealed=1, owed=1)
    await trio.sleep(1)
    now = village.now
    await village.customer.store.write(lambda c: c.execute("UPDATE session SET due = ?", (now,)))
    circuits.fail = False
    village.customer.purse._collecting.wake()
    await all_fetched(village)
    gaps = [later - one for one, later in pairwise(circuits)]
    least, most = SLOW.change_pause
    assert len(gaps) == len(payments) - 1
    assert least <= min(gaps)
    assert max(gaps) <= most + 5
    assert len({round(gap, 2) for gap in gaps}) == len(gaps)


# --- a disk that takes nothing ---


async def test_a_full_disk_ends_no_task_and_loses_no_change(village, autojump_clock):
    purse, worker = village.customer.purse, await village.worker()
    (payment,) = await sessions(village, worker, 1)
    await fill_disk(village.customer.store, is_full=True)
    purse.collect(payment, locked=True, revealed=1, owed=1)
    await trio.sleep(30)
    await fill_disk(village.customer.store, is_full=False)
    await until_value(village, Nano((BUNDLE - TICK).value >> 10 << 10))
    assert await rows(village, "session") == []


async def test_a_disk_that_fills_up_while_change_is_fetched_ends_no_task(
    village, autojump_clock, circuits
):
    purse, worker = village.customer.purse, await village.worker()
    (payment,) = await sessions(village, worker, 1)
    circuits.fail = True
    purse.collect(payment, locked=True, revealed=1, owed=1)
    await trio.sleep(3)
    await fill_disk(village.customer.store, is_full=True)
    circuits.fail = False
    await trio.sleep(60)
    await fill_disk(village.customer.store, is_full=False)
    await until_value(village, Nano((BUNDLE - TICK).value >> 10 << 10))
