"""A purse buys, sets aside and gets its change, from a real mint on a real chain."""

from contextlib import suppress

import pytest
import trio
from structlog.testing import capture_logs

from ledger import coins, wire
from ledger.credit import BUNDLES, blanks_for, worth
from ledger.messages import Err, Lock, Locked, Settle, Settled
from ledger.money import ZERO, Nano
from ledger.payment import CannotPay, PayTerms, Unpaid
from p2p.overlay.advert import Role
from tests.ledger.village import Village

BUNDLE = worth(BUNDLES["M"])
OTHER_KEY = b"\1" * 31 + b"\0"
TICK = Nano(100_000)


@pytest.fixture
async def village():
    async with trio.open_nursery() as nursery:
        village = await Village(nursery).built()
        yield village
        nursery.cancel_scope.cancel()
    village.chain.close()


def terms(village, worker, *, ticks=40, expiry=None, session=b"s" * 32):
    now = village.customer.purse._clock.now()
    return PayTerms(
        mints=(village.mint.node.id,),
        payee=worker.node.id,
        session=session,
        tick=TICK,
        ticks=ticks,
        expiry=int(now) + 60 if expiry is None else expiry,
    )


async def asked(village, worker, request, kind):
    with trio.fail_after(30):
        body = await worker.node.query(village.mint.node.id, wire.encode(request))
    return wire.answer(body, kind)


async def locked(village, worker, payment):
    return await asked(village, worker, Lock(payment.spend), Locked)


async def settled(village, worker, payment, i):
    request = Settle(lock=payment.lock_id, i=i, x=payment.chain.reveal(i), final=True)
    return await asked(village, worker, request, Settled)


async def until_value(village, value):
    with trio.fail_after(300):
        while (await village.customer.purse.holdings()).value != value:  # noqa: ASYNC110
            await trio.sleep(0.5)  # nothing signals it


async def balanced(village):
    sheet = await village.mint.mint.audit()
    assert sheet.difference == 0
    return sheet


async def test_bundle_is_bought_over_a_lane_that_is_opened_for_it(village, autojump_clock):
    assert await village.customer.purse.buy() == BUNDLE
    held = await village.customer.purse.holdings()
    assert (held.value, held.in_flight) == (BUNDLE, ZERO)
    (story,) = await village.customer.lanes.snapshot()
    assert story.row.cumulative == BUNDLE + (BUNDLE * 50).ceil_div(10_000)
    await balanced(village)


async def test_second_bundle_needs_no_second_lane(village, autojump_clock):
    for _ in range(2):
        await village.customer.purse.buy("S")
    assert len(await village.customer.lanes.snapshot()) == 1
    assert (await village.customer.purse.holdings()).value == worth(BUNDLES["S"]) * 2


async def test_what_is_not_revealed_comes_back(village, autojump_clock):
    purse = village.customer.purse
    worker = await village.up(Role.RELAY)
    payment = await purse.prepare(terms(village, worker))
    assert isinstance(await locked(village, worker, payment), Locked)
    assert isinstance(await settled(village, worker, payment, 7), Settled)
    purse.collect(payment, locked=True, revealed=8, owed=7)
    paid = TICK * 7
    await until_value(village, Nano((BUNDLE - paid).value >> 10 << 10))
    assert (await purse.holdings()).in_flight == ZERO
    await balanced(village)


async def test_spend_that_never_left_is_free_at_once(village, autojump_clock):
    purse = village.customer.purse
    worker = await village.up(Role.RELAY)
    payment = await purse.prepare(terms(village, worker))
    assert (await purse.holdings()).value < BUNDLE
    purse.release(payment)
    await until_value(village, BUNDLE)


async def test_spend_that_was_never_locked_comes_back_once_it_cannot_be(village, autojump_clock):
    purse = village.customer.purse
    worker = await village.up(Role.RELAY)
    payment = await purse.prepare(terms(village, worker))
    purse.collect(payment, locked=False, revealed=0, owed=0)
    await until_value(village, BUNDLE)
    assert isinstance(await locked(village, worker, payment), Err)
    await balanced(village)


async def test_silent_worker_keeps_nothing_after_expiry(village, autojump_clock):
    purse = village.customer.purse
    worker = await village.up(Role.RELAY)
    payment = await purse.prepare(terms(village, worker))
    await locked(village, worker, payment)
    purse.collect(payment, locked=True, revealed=3, owed=3)
    await until_value(village, BUNDLE)
    await balanced(village)


@pytest.mark.parametrize(("taken", "warned"), [(3, False), (4, True)])
async def test_a_worker_that_takes_more_than_its_receipt_says_leaves_evidence(
    village, autojump_clock, taken, warned
):
    purse = village.customer.purse
    worker = await village.up(Role.RELAY)
    payment = await purse.prepare(terms(village, worker))
    await locked(village, worker, payment)
    await settled(village, worker, payment, taken)
    with capture_logs() as logs:
        purse.collect(payment, locked=True, revealed=4, owed=3)
        await until_value(village, Nano((BUNDLE - TICK * taken).value >> 10 << 10))
    said = [entry for entry in logs if entry["event"] == "worker.overcharged"]
    assert [(entry["ticks"], entry["billed"]) for entry in said] == [(4, 3)] * warned
    assert not [entry for entry in logs if entry["event"] == "mint.short_change"]
    rows = await village.customer.store.read(
        lambda c: list(c.execute("SELECT i, owed, settled FROM session"))
    )
    assert rows == [(4, 3, taken)]


async def test_coins_are_in_one_session_only(village, autojump_clock):
    purse = village.customer.purse
    worker = await village.up(Role.RELAY)
    await purse.buy()
    payments = [
        await purse.prepare(terms(village, worker, session=bytes([n]) * 32)) for n in range(6)
    ]
    spent = [wire_coin for payment in payments for wire_coin in _coins(payment)]
    assert len(set(spent)) == len(spent)


def _coins(payment):
    from ledger.credit import Spend

    return [m for _, m in Spend.parse(payment.spend).coins]


async def test_restart_in_mid_answer_loses_nothing(village, autojump_clock):
    worker = await village.up(Role.RELAY)
    number = village.count - 1
    payment = await village.customer.purse.prepare(terms(village, worker))
    await locked(village, worker, payment)
    village.customer.stop.cancel()
    await settled(village, worker, payment, 2)
    village.customer = await village.up(Role(0), number=number)
    await until_value(village, Nano((BUNDLE - TICK * 2).value >> 10 << 10))
    await balanced(village)


@pytest.mark.parametrize("fault", ["request", "reply"])
async def test_purchase_cut_off_is_finished_by_the_next(
    village, autojump_clock, fault, monkeypatch
):
    from ledger.line import Line
    from p2p.errors import Unreachable

    purse, call, cuts = village.customer.purse, Line.call, []

    async def cut(self, body):
        if b"mint.buy" in body and not cuts:
            cuts.append(1)
            if fault == "reply":
                await call(self, body)
            raise Unreachable("cut")
        return await call(self, body)

    monkeypatch.setattr(Line, "call", cut)
    with pytest.raises(CannotPay) as caught:
        await purse.buy()
    assert caught.value.reason is Unpaid.MINT_DOWN
    await purse.buy()
    assert (await purse.holdings()).value == BUNDLE
    (story,) = await village.customer.lanes.snapshot()
    assert story.row.cumulative == BUNDLE + (BUNDLE * 50).ceil_div(10_000)
    await balanced(village)


async def test_purchase_that_was_sold_outlives_a_mint_that_is_busy_when_it_is_sent_again(
    village, autojump_clock, monkeypatch
):
    from ledger.line import Line
    from ledger.messages import Code
    from p2p.errors import Unreachable

    purse, call, sent = village.customer.purse, Line.call, []

    async def cut(self, body):
        if b"mint.buy" not in body:
            return await call(self, body)
        sent.append(body)
        if len(sent) == 2:
            return wire.encode(Err(Code.BUSY))
        answer = await call(self, body)
        if len(sent) == 1:
            raise Unreachable("cut")
        return answer

    monkeypatch.setattr(Line, "call", cut)
    for reason in (Unpaid.MINT_DOWN, Unpaid.LANE):
        with pytest.raises(CannotPay) as caught:
            await purse.buy()
        assert caught.value.reason is reason
    assert await purse.buy() == BUNDLE
    assert len(set(sent)) == 1
    (story,) = await village.customer.lanes.snapshot()
    assert story.row.cumulative == BUNDLE + (BUNDLE * 50).ceil_div(10_000)
    await balanced(village)


async def test_lane_whose_opening_was_cancelled_is_used_and_no_second_one_is_paid_for(
    village, autojump_clock, monkeypatch
):
    from p2p.errors import Unreachable

    purse, lanes, send = village.customer.purse, village.customer.lanes, village.chain.send
    away = [True]

    async def lost(self, boc):
        if away:
            raise Unreachable("the chain takes nothing")
        return await send(boc)

    monkeypatch.setattr(type(village.chain), "send", lost)
    with trio.move_on_after(20):
        await purse.buy()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_try_to_buy, purse)
        await trio.sleep(3)
        away.clear()
    await purse.buy()
    await trio.sleep(60)
    assert len(await lanes.snapshot()) == 1


async def _try_to_buy(purse):
    with suppress(CannotPay):
        await purse.buy()


async def test_mint_that_is_delisted_while_an_ask_waits_leaves_no_coins_set_aside(
    village, autojump_clock, monkeypatch
):
    purse = village.customer.purse
    worker = await village.up(Role.RELAY)
    await purse.buy()
    wanted, common = terms(village, worker), purse._common
    found = [village.mint.node.id]
    monkeypatch.setattr(purse, "_common", lambda mints: found.pop() if found else common(mints))
    monkeypatch.setattr(purse, "_advert", lambda mint: None)
    with pytest.raises(CannotPay) as caught:
        await purse.prepare(wanted)
    assert caught.value.reason is Unpaid.NO_MINT
    assert (await purse.holdings()).value == BUNDLE


async def test_empty_wallet_is_said(village, autojump_clock):
    poor = await village.up(Role(0))
    while poor.node.directory.find(village.mint.node.id) is None:
        await poor.node.directory_changed()
    with pytest.raises(CannotPay) as caught:
        await poor.purse.buy()
    assert caught.value.reason is Unpaid.NO_CREDITS


async def test_absent_mint_is_said(village, autojump_clock):
    village.mint.stop.cancel()
    with pytest.raises(CannotPay) as caught:
        await village.customer.purse.buy()
    assert caught.value.reason in (Unpaid.MINT_DOWN, Unpaid.NO_MINT)


async def test_mint_that_shows_another_keyset_than_everybody_has_sells_us_nothing(
    village, autojump_clock, monkeypatch
):
    monkeypatch.setattr("ledger.credit.Keyset.digest", b"another")
    with pytest.raises(CannotPay) as caught:
        await village.customer.purse.buy()
    assert caught.value.reason is Unpaid.NO_MINT
    assert await village.customer.lanes.snapshot() == ()


async def test_mint_that_signs_with_another_key_is_accused_and_asked_no_more(
    village, autojump_clock, monkeypatch
):
    from ledger import credit

    sign = credit.sign
    monkeypatch.setattr("ledger.mintkeys.sign", lambda k, *points: sign(OTHER_KEY, *points))
    with pytest.raises(CannotPay) as caught:
        await village.customer.purse.buy()
    assert caught.value.reason is Unpaid.NO_MINT
    assert village.customer.purse.mints() == ()
    assert await village.customer.store.read(coins.accused) == {village.mint.node.id}


async def test_number_of_a_secret_is_never_used_twice(village, autojump_clock):
    purse = village.customer.purse
    worker = await village.up(Role.RELAY)
    for n in range(3):
        payment = await purse.prepare(terms(village, worker, session=bytes([n]) * 32))
        purse.release(payment)
    await purse.buy()
    rows = await village.customer.store.read(lambda c: list(c.execute("SELECT next FROM counter")))
    assert rows == [(2 * len(BUNDLES["M"]) + 3 * blanks_for(TICK * 40),)]
