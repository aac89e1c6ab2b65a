"""A purse buys, sets aside and gets its change, from a real mint on a real chain."""

from contextlib import suppress

import pytest
import trio
from structlog.testing import capture_logs

from ledger import pins, wire
from ledger.credit import BUNDLES, blanks_for, worth
from ledger.messages import Err, Locked, Settled
from ledger.money import ZERO, Nano
from ledger.payment import CannotPay, Unpaid
from p2p.overlay.advert import Role
from tests.ledger.village import TICK, fill_disk, locked, settled, terms, until_value

BUNDLE = worth(BUNDLES["M"])
OTHER_KEY = b"\1" * 31 + b"\0"


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


async def test_purchase_is_told_of_before_anything_is_promised(village, autojump_clock):
    purse, told = village.customer.purse, []

    def refuse(purchase):
        told.append(purchase)
        raise CannotPay(Unpaid.NOT_AGREED)

    with pytest.raises(CannotPay) as caught:
        await purse.buy(agree=refuse)
    assert caught.value.reason is Unpaid.NOT_AGREED
    assert await village.customer.lanes.snapshot() == ()
    assert (await purse.holdings()).value == ZERO

    await purse.buy(agree=told.append)
    await purse.buy("S", agree=told.append)
    first, same, second = told
    assert first == same
    assert (first.bundle, first.value, first.lane) == ("M", BUNDLE, None)
    assert first.price == BUNDLE + (BUNDLE * 50).ceil_div(10_000)
    (story,) = await village.customer.lanes.snapshot()
    assert (first.deposit, second.deposit) == (story.row.deposit, ZERO)
    assert (second.lane, second.fees) == (story.row.phase, ZERO)
    assert story.row.cumulative == first.price + second.price


async def test_credits_are_got_as_the_asker_says(village, autojump_clock):
    purse, worker, wanted = village.customer.purse, await village.worker(), []

    async def buy(mint, amount):
        wanted.append((mint, amount))
        return await purse.buy("L")

    purse.release(await purse.prepare(terms(village, worker), buy=buy))
    assert wanted == [(village.mint.node.id, TICK * 40)]
    await until_value(village, worth(BUNDLES["L"]))


async def test_two_asks_on_an_empty_purse_buy_one_bundle(village, autojump_clock):
    """Also if the one that bought goes away; what a third wants besides is bought once more."""
    purse, worker = village.customer.purse, await village.worker()
    purchases, payments = [], []

    async def ask(number, ticks):
        wants = terms(village, worker, session=bytes([number]) * 32, ticks=ticks)
        payments.append(await purse.prepare(wants, purchases.append))

    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(ask, number, 40)
    assert len(payments) == 2
    assert len(purchases) == 1
    for payment in payments:
        purse.release(payment)
    await until_value(village, BUNDLE)

    payments.clear()
    async with trio.open_nursery() as nursery:
        for number in (3, 4, 5):
            nursery.start_soon(ask, number, 150)  # two fit into what there is
    assert len(payments) == 3
    assert len(purchases) == 2
    await balanced(village)


async def test_a_bundle_is_chosen_that_has_what_is_wanted(village, autojump_clock):
    purse, worker, purchases = village.customer.purse, await village.worker(), []
    await purse.prepare(terms(village, worker, ticks=340), purchases.append)
    assert [purchase.bundle for purchase in purchases] == ["L"]
    with pytest.raises(CannotPay, match="more than a bundle has"):
        await purse.prepare(terms(village, worker, ticks=1_400), purchases.append)
    assert len(purchases) == 1


async def test_what_is_not_revealed_comes_back(village, autojump_clock):
    purse = village.customer.purse
    worker = await village.worker()
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
    worker = await village.worker()
    payment = await purse.prepare(terms(village, worker))
    assert (await purse.holdings()).value < BUNDLE
    purse.release(payment)
    await until_value(village, BUNDLE)


async def test_spend_that_was_never_locked_comes_back_once_it_cannot_be(village, autojump_clock):
    purse = village.customer.purse
    worker = await village.worker()
    payment = await purse.prepare(terms(village, worker))
    purse.collect(payment, locked=False, revealed=0, owed=0)
    await until_value(village, BUNDLE)
    assert isinstance(await locked(village, worker, payment), Err)
    await balanced(village)


async def test_silent_worker_keeps_nothing_after_expiry(village, autojump_clock):
    purse = village.customer.purse
    worker = await village.worker()
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
    worker = await village.worker()
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
    worker = await village.worker()
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
    worker = await village.worker()
    payment = await village.customer.purse.prepare(terms(village, worker))
    await locked(village, worker, payment)
    village.customer.stop.cancel()
    await settled(village, worker, payment, 2)
    await village.restart()
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
    worker = await village.worker()
    await purse.buy()
    wanted, common = terms(village, worker), purse._mints.common
    found = [village.mint.node.id]
    gone = lambda mints: found.pop() if found else common(mints)  # noqa: E731
    monkeypatch.setattr(purse._mints, "common", gone)
    monkeypatch.setattr(purse._mints, "_advert", lambda mint: None)
    with pytest.raises(CannotPay) as caught:
        await purse.prepare(wanted)
    assert caught.value.reason is Unpaid.NO_MINT
    assert (await purse.holdings()).value == BUNDLE


# --- a disk that takes nothing ---


async def test_a_full_disk_is_said_and_nothing_is_set_aside(village, autojump_clock):
    purse, store = village.customer.purse, village.customer.store
    worker = await village.worker()
    await purse.buy()
    await fill_disk(store, is_full=True)
    for ask in (lambda: purse.prepare(terms(village, worker)), purse.buy):
        with pytest.raises(CannotPay, match="the store") as caught:
            await ask()
        assert caught.value.reason is Unpaid.STORE
    await fill_disk(store, is_full=False)
    assert (await purse.holdings()).value == BUNDLE
    assert isinstance(await locked(village, worker, await prepared(village, worker)), Locked)


async def prepared(village, worker):
    return await village.customer.purse.prepare(terms(village, worker))


async def test_too_many_writes_are_said_and_nothing_is_set_aside(
    village, autojump_clock, monkeypatch
):
    purse, worker = village.customer.purse, await village.worker()
    await purse.buy()
    with monkeypatch.context() as patch:
        patch.setattr("ledger.store.WAITING", 0)
        with pytest.raises(CannotPay) as caught:
            await purse.prepare(terms(village, worker))
    assert caught.value.reason is Unpaid.STORE
    assert (await purse.holdings()).value == BUNDLE


@pytest.mark.parametrize("stop", [False, True], ids=["running", "restarted"])
async def test_coins_that_are_released_while_the_disk_is_full_come_back(
    village, autojump_clock, stop
):
    purse, store = village.customer.purse, village.customer.store
    payment = await prepared(village, await village.worker())
    await fill_disk(store, is_full=True)
    purse.release(payment)
    await trio.sleep(10)
    if stop:
        village.customer.stop.cancel()
        await trio.sleep(1)
    await fill_disk(store, is_full=False)
    if stop:
        await village.restart()
    await until_value(village, BUNDLE)


async def test_coins_set_free_by_one_session_are_there_for_the_next(village, autojump_clock):
    """Also if the disk has not yet heard of it."""
    purse, worker = village.customer.purse, await village.worker()
    most = BUNDLE.value // TICK.value
    for number in range(3):
        wanted = terms(village, worker, ticks=most, session=bytes([number]) * 32)
        purse.release(await purse.prepare(wanted))
    orders = await village.customer.store.read(lambda c: list(c.execute("SELECT id FROM outbox")))
    assert len(orders) == 1
    await until_value(village, BUNDLE)


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
    assert await village.customer.store.read(pins.accused) == {village.mint.node.id}


async def test_number_of_a_secret_is_never_used_twice(village, autojump_clock):
    purse = village.customer.purse
    worker = await village.worker()
    for n in range(3):
        payment = await purse.prepare(terms(village, worker, session=bytes([n]) * 32))
        purse.release(payment)
    await purse.buy()
    rows = await village.customer.store.read(lambda c: list(c.execute("SELECT next FROM counter")))
    assert rows == [(2 * len(BUNDLES["M"]) + 3 * blanks_for(TICK * 40),)]
