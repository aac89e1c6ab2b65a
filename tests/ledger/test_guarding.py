"""A friend watches: who sleeps through its payer's close is paid all the same."""

from dataclasses import replace

import pytest
import trio

from ledger import backup, guarding
from ledger.contracts import cells
from ledger.guarding import Guarding, Watched
from ledger.money import ZERO, Nano
from ledger.policy import DEV
from ledger.settle import LAST_HOURS
from ledger.store import Store, in_memory
from ledger.voucher import Voucher, sign
from p2p.errors import BadSignature, NoCapacity, Rejected
from tests.ledger.test_backup import CONFIG, PAYER
from tests.ledger.test_lanes import BLOCK, TON, two

DUE = Nano(300_000_000)
DAY = 86_400


async def shared(payee):
    """What a payee gives its friend: no key."""
    kept = await payee.store.read(backup.read)
    return [Watched(config=one.config, voucher=one.voucher) for one in kept.promises]


async def friend_of(there, payee, store):
    """One with coins of its own, who watches what a payee shares."""
    friend = await there.party(3, store)
    await there.chain.fund(friend.lanes.account, TON)
    guard = Guarding(there.chain, store, friend.lanes, DEV)
    await guard.watch(await shared(payee))
    there.nursery.start_soon(guard.run)
    await trio.sleep(2 * BLOCK)
    return friend, guard


async def test_a_payee_that_sleeps_is_paid_by_its_friends_claim(autojump_clock):
    async with two() as (there, payer, payee), Store.open(None) as other:
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, DUE))
        friend, guard = await friend_of(there, payee, other)
        assert await guard.watched() == (DUE, 1)
        payee.stop.cancel()

        await payer.lanes.outcome(await payer.lanes.start_close(lane), whole=True)
        await there.chain.travel(DAY - LAST_HOURS - 600)
        await trio.sleep(5)
        assert await payee.balance() == ZERO, "its own node may still answer"
        await there.chain.travel(900)
        await trio.sleep(5)
        paid = await payee.balance()
        assert paid > DUE, "all that was promised, and what the claim did not burn"
        assert await friend.balance() > TON - Nano(30_000_000)
        ((_, caused),) = await friend.lanes.withdrawals()
        assert [one.account for one in caused][-1] == payee.lanes.account
        await trio.sleep(5)
        assert len(await friend.lanes.withdrawals()) == 1, "once is enough"


async def test_nothing_is_spent_on_a_lane_whose_payee_answers_by_itself(autojump_clock):
    async with two() as (there, payer, payee), Store.open(None) as other:
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, DUE))
        friend, _ = await friend_of(there, payee, other)
        await there.chain.travel(DAY)
        await payer.lanes.start_close(lane)
        await trio.sleep(5)
        await there.chain.travel(2 * DAY)
        await trio.sleep(5)
        assert await friend.balance() == TON


def watched(total, lane=None):
    lane_id = CONFIG.lane_id if lane is None else lane
    config = replace(CONFIG, lane_id=lane_id, payer_key=PAYER.payer(lane_id).public)
    held = sign(PAYER.payer(lane_id), cells.lane_address(config), Nano(total))
    return Watched(config=config, voucher=held)


def test_a_lower_voucher_replaces_none():
    connection = in_memory()
    for total in (5, 9, 7):
        guarding.keep(connection, watched(total))
    (one,) = guarding.every(connection)
    assert one == watched(9)


def test_only_so_many_are_watched(monkeypatch):
    monkeypatch.setattr(guarding, "MOST", 2)
    connection = in_memory()
    for lane in (1, 2, 1):
        guarding.keep(connection, watched(5, lane))
    with pytest.raises(NoCapacity):
        guarding.keep(connection, watched(5, 3))


def test_what_no_payer_promised_is_not_watched():
    good = watched(5)
    good.check(-4242)
    forged = Voucher(lane=good.voucher.lane, cumulative=Nano(6), sig=good.voucher.sig)
    with pytest.raises(BadSignature):
        Watched(config=good.config, voucher=forged).check(-4242)
    with pytest.raises(Rejected, match="network"):
        good.check(-239)
    with pytest.raises(Rejected, match="another lane"):
        Watched(config=good.config, voucher=watched(5, 9).voucher).check(-4242)
